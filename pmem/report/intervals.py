"""Confidence intervals of proportions."""

from statistics import NormalDist


def wilson(right: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of right/count (E. B. Wilson, 1927): (low, high), both within 0 to 1.

    It treats answers as independent. Answers about one persona are not quite: with many questions per persona the
    true interval is somewhat wider.
    """
    if not count:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = right / count
    centre = share + z * z / (2 * count)
    spread = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
