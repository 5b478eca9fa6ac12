"""Where conversations stand within a window that filler completes: evenly spread over it, in tokens."""

from collections.abc import Sequence
from itertools import accumulate

from pmem.draws import Draw


def filler_before(sizes: Sequence[int], total: int, draw: Draw) -> list[float]:
    """How many tokens of filler should stand before each conversation, so that depth is spread evenly.

    sizes: tokens of the conversations, in their order; total: tokens of the window's content, filler included.

    The middle of the nth is drawn from the nth of equal stretches of the window, so that over many windows, and nearly
    within each, all depths come up alike. Where that would make two of them overlap, both give way by the least sum of
    squares (isotonic regression by pooling adjacent violators).
    """
    count = len(sizes)
    middles = [(place * total + draw.below(total)) / count for place in range(count)]
    ahead = accumulate(sizes, initial=0)
    wanted = [middle - size / 2 - before for middle, size, before in zip(middles, sizes, ahead, strict=False)]
    blocks: list[tuple[float, int]] = []  # sum and number of neighbours that get the same
    for one in wanted:
        block = (one, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1])
        blocks.append(block)
    filler = total - sum(sizes)
    return [min(max(0.0, whole / number), filler) for whole, number in blocks for _ in range(number)]
