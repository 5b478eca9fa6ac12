"""Distributions as figures: a panel for each field and size, one figure for each kind of record."""

import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from pmem.check import plain
from pmem.errors import MissingExtra, OutputError
from pmem.report.distributions import Distributions, Section

ACROSS = 3
BARS = 12
BINS = 24
NAME = 26
"""Characters of a value that are shown."""
FEWEST = 6
"""Bars that there is room for at least, so that few of them are no blocks."""
TWICE = ("depth_percent",)
"""Sizes that a field shows in another way."""
LABEL = re.compile(r"[a-z]+(_[a-z]+)*")
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"
"""Blue and orange of Okabe and Ito's palette (2008), which colour-blind people can tell apart: fields, sizes."""
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "svg.hashsalt": "pmem",  # equal data give equal bytes
}
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Arabic", "Arial Unicode MS")
"""The first is always there; the others, where they are installed, know more scripts."""


def draw(counted: Distributions, folder: Path) -> int:
    """Draw each section into `folder` as `<section>.png` and `<section>.svg`; the number of files."""
    try:
        import matplotlib
        from matplotlib import font_manager
    except ImportError:
        raise MissingExtra("--figures", "report") from None
    installed = set(font_manager.get_font_names())
    style = STYLE | {"font.family": [name for name in FONTS if name in installed]}
    made = 0
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a box in the place of a letter that no font has
        for section in counted.sections.values():
            figure = _figure(section)
            if figure is not None:
                made += _save(figure, folder, section.name)
    return made


def _save(figure: Any, folder: Path, section: str) -> int:
    stem = re.sub(r"[^\w.-]+", "-", section)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{stem}.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / f"{stem}.svg", metadata={"Date": None, "Creator": None})
    except OSError as fault:
        raise OutputError(f"{fault.filename or folder}: can't be written: {fault.strerror}") from None
    return 2


def _figure(section: Section) -> Any:
    """The panels of a section; None where it has nothing that differs."""
    from matplotlib.figure import Figure

    fields = {name: values for name, values in section.fields().items() if len(values) > 1}
    sizes = {name: counts for name, counts in section.sizes().items() if len(counts) > 1 and name not in TWICE}
    number = len(fields) + len(sizes)
    if not number:
        return None
    rows = -(-number // ACROSS)
    figure = Figure(figsize=(5 * min(ACROSS, number), 2.9 * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, min(ACROSS, number), squeeze=False).flat)
    for panel, (name, values) in zip(panels, fields.items(), strict=False):
        _bars(panel, name, values, section.count)
    for panel, (name, counts) in zip(panels[len(fields) :], sizes.items(), strict=False):
        _histogram(panel, name, counts)
    for panel in panels[number:]:
        panel.set_axis_off()
    of = f", of {len(section.personas):,} personas" if section.personas else ""
    figure.suptitle(f"{section.name}: {section.count:,}{of}", fontsize=13, x=0.01, ha="left")
    return figure


def _bars(panel: Any, name: str, values: list[tuple[str, int]], number: int) -> None:
    """A field's commonest values as bars, the number of all others beneath."""
    rest = values[BARS:] if len(values) > BARS + 1 else []
    shown = values[:BARS] if rest else values
    names = [_name(value) for value, _ in shown]
    counts = [count for _, count in shown]
    lengths = counts.copy()
    if rest:  # no bar: beside the sum of hundreds of values, those of the commonest would be dots
        names.append(f"and {len(rest):,} more")
        counts.append(sum(count for _, count in rest))
        lengths.append(0)
    places = range(len(counts))
    bars = panel.barh(places, lengths, color=BLUE, height=0.75)
    panel.set_yticks(places, names, parse_math=False)
    panel.tick_params(axis="y", length=0)
    panel.bar_label(bars, [_counted(count, number) for count in counts], padding=3, fontsize=8, color=GREY)
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)
    panel.set_xlim(0, max(lengths) * 1.35)  # room for the label of the longest bar
    panel.set_ylim(max(len(counts), FEWEST) - 0.5, -0.5)
    panel.set_title(name.replace("_", " "), parse_math=False)


def _histogram(panel: Any, name: str, counts: Counter[float]) -> None:
    values = sorted(counts)
    whole = all(value == int(value) for value in values) and values[-1] - values[0] < BINS
    low, high = values[0], values[-1]
    bins: Any = [low - 0.5 + n for n in range(int(high - low) + 2)] if whole else BINS
    panel.hist(values, bins=bins, weights=[counts[value] for value in values], color=ORANGE, rwidth=0.9)
    panel.locator_params(axis="both", integer=True, nbins=6)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.tick_params(axis="y", colors=GREY)
    panel.set_title(name.replace("_", " "), parse_math=False)


def _name(value: str) -> str:
    """A label in words; anything else as it is, cut if long."""
    return plain(value.replace("_", " ") if LABEL.fullmatch(value) else value, NAME)


def _counted(count: int, number: int) -> str:
    return f"{count:,} ({count / number:.0%})"
