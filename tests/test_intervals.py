"""Intervals and tests, against statsmodels, scipy, matrix algebra, and by how often they hold."""

import random

import pytest

from bench.intervals import Scene, comparisons, intervals
from pmem.report.clusters import Cluster, right, spread
from pmem.report.intervals import difference, mcnemar, proportion, wilson
from pmem.report.student import quantile, two_sided

numpy = pytest.importorskip("numpy")
stats = pytest.importorskip("scipy.stats")
UNEQUAL = [(2, 1), (30, 9), (5, 5), (11, 2), (7, 3), (1, 0), (19, 12)]


@pytest.mark.parametrize("freedom", [0.7, 1, 1.5, 2, 3.3, 9, 30, 199.5, 5000])
def test_students_t(freedom: float) -> None:
    for share in (0.5, 0.75, 0.975, 0.9995):
        assert quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-9, abs=1e-12)
    for t in (0.0, 0.1, 1.0, 3.0, 20.0, -2.0):
        assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)


def test_equal_clusters_are_as_in_statsmodels() -> None:
    linear = pytest.importorskip("statsmodels.api")
    answers = [[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 1, 0]]
    flat = [one for group in answers for one in group]
    groups = [number for number, group in enumerate(answers) for _ in group]
    fitted = linear.OLS(flat, numpy.ones(len(flat))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True
    )
    found = spread(right(len(group), sum(group)) for group in answers)
    assert found.mean == pytest.approx(fitted.params[0])
    assert found.variance == pytest.approx(fitted.cov_params()[0][0])
    assert found.freedom == pytest.approx(len(answers) - 1)
    low, high = fitted.conf_int()[0]
    paired = difference(right(len(group), sum(group)) for group in answers)
    assert (paired.low, paired.high) == pytest.approx((low, high))
    assert paired.p == pytest.approx(fitted.pvalues[0])


def test_unequal_clusters_are_as_by_matrices() -> None:
    """CR2 and its degrees of freedom by their definitions: (I - H)^(-1/2) in each cluster, moments of a quadratic form."""
    sizes = [size for size, _ in UNEQUAL]
    y = numpy.concatenate([numpy.r_[numpy.ones(hits), numpy.zeros(size - hits)] for size, hits in UNEQUAL])
    n, ends = len(y), numpy.cumsum(sizes)
    rows = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    maker = numpy.eye(n) - numpy.ones((n, n)) / n
    residuals = maker @ y
    scores = []  # the rows g of: variance = sum over clusters of (g . y)^2
    for place in rows:
        block = maker[place, place]
        values, vectors = numpy.linalg.eigh(block)
        root = vectors @ numpy.diag(values**-0.5) @ vectors.T
        scores.append(numpy.ones(block.shape[0]) @ root @ maker[place] / n)
    matrix = numpy.array(scores)
    pairs = sum(residuals[place].sum() ** 2 - (residuals[place] ** 2).sum() for place in rows)
    alike = pairs / sum(size * (size - 1) for size in sizes) / (residuals @ residuals / n)
    assert 0 < alike < 1
    working = numpy.eye(n) * (1 - alike)
    for place in rows:
        working[place, place] += alike
    moments = matrix @ working @ matrix.T
    found = spread(right(size, hits) for size, hits in UNEQUAL)
    assert found.variance == pytest.approx(((matrix @ y) ** 2).sum())
    assert found.freedom == pytest.approx(numpy.trace(moments) ** 2 / (moments**2).sum())


def test_independent_answers_give_about_wilsons_interval() -> None:
    single = [right(1, number < 120) for number in range(400)]
    assert proportion(single) == pytest.approx(wilson(120, 400), abs=1e-3)
    assert wilson(120, 400) == pytest.approx(stats.binomtest(120, 400).proportion_ci(method="wilson"))


def test_no_interval_is_narrower_than_for_independent_answers() -> None:
    evenly = [right(10, 5)] * 8  # no variance between personas at all
    assert proportion(evenly).low < wilson(40, 80).low and proportion(evenly).high > wilson(40, 80).high


def test_where_nothing_tells_how_alike_answers_are() -> None:
    assert proportion([right(20, 0)] * 5) == wilson(0, 5)
    assert proportion([right(20, 20)] * 5) == wilson(5, 5)
    assert proportion([right(20, 7)]) == (0, 1)
    assert difference([Cluster(20, 4, 4)]) == (0.2, -1, 1, 1)
    assert difference([Cluster(20, 0, 0)] * 5) == (0, -wilson(0, 5).high, wilson(0, 5).high, 1)
    five, six = (difference([Cluster(20, 20, 20)] * count) for count in (5, 6))  # all to one side
    assert (five.p, six.p) == (2 / 2**5, 2 / 2**6)
    assert five.low < 0 < six.low and five.high == 1  # as p says: 0.0625 and 0.031
    assert difference([Cluster(3, 0.1 + 0.2, 0.03), Cluster(3, 0.3, 0.03)]).p == 0.5  # equal but for rounding


def test_mcnemar() -> None:
    assert mcnemar(3, 10) == pytest.approx(stats.binomtest(3, 13).pvalue)
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1
    assert 0.3 < mcnemar(5000, 5100) < 0.35


def test_order_of_clusters_makes_no_difference() -> None:
    clusters = [right(size, hits) for size, hits in UNEQUAL]
    shuffled = random.Random(3).sample(clusters, len(clusters))
    assert proportion(shuffled) == pytest.approx(proportion(clusters))


def test_intervals_hold_where_naive_ones_fail() -> None:
    """The bench's figures, smaller: three standard errors of 400 runs are 3.3 points."""
    held = intervals(Scene(30, 0.4), 400, seed=5)
    assert 0.92 < held.clustered < 0.985
    assert held.naive < 0.75
    found = comparisons(Scene(30, 0.4), 400, seed=5)
    assert found.clustered < 0.085
    assert found.naive > 0.15
