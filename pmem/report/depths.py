"""How full histories are, and how deep in their windows the persona's conversations stand."""

from collections import Counter
from typing import Any

BINS = 10
WIDTH = 50  # characters of the longest bar


class Depths:
    """Counts histories; then tells their fill and draws, window by window, where conversations stand."""

    def __init__(self) -> None:
        self.fill: list[float] = []  # the least and the most of all histories
        self.histories: Counter[str] = Counter()
        self.places: dict[str, list[int]] = {}

    def count(self, history: dict[str, Any]) -> None:
        """Note one history with a budget."""
        share = history["tokens"] / history["budget"]
        self.fill = [min([share, *self.fill]), max([share, *self.fill])]
        self.histories[history["window"]] += 1
        bins = self.places.setdefault(history["window"], [0] * BINS)
        for session in history["sessions"]:
            if session["what"] == "conversation":
                middle = session["token_start"] + session["tokens"] / 2
                bins[int(BINS * middle / history["budget"])] += 1

    def filled(self) -> str:
        """`97% to 100%`; "" without a history."""
        shown = [f"{share:.0%}" for share in self.fill]
        return " to ".join(dict.fromkeys(shown))

    def histogram(self) -> str:
        """A bar for each tenth of each window: the conversations whose middle, in tokens, stands there."""
        lines = []
        for window, bins in self.places.items():
            lines.append(f"{window}: where the conversations of {self.histories[window]:,} histories stand, in tokens")
            for number, count in enumerate(bins):
                bar = "#" * round(WIDTH * count / max(bins))
                lines.append(f"  {10 * number:3}-{10 * number + 10:3}%  {count:9,}  {bar}".rstrip())
        return "\n".join(lines)
