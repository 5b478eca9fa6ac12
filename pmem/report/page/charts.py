"""Figures as HTML with inline SVG: shares and their intervals as marks on a line, a row for each group.

Positions are percentages of the width, so that text keeps its size and lines stay crisp on any screen. Colours come
from the page's style, by series; each series has a shape of its own as well.
"""

from html import escape
from typing import Any

LINE = 18
"""Height of a mark's line, in pixels."""
SHAPES = (
    "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z",  # circle
    "M-4.5 -4.5H4.5V4.5H-4.5Z",  # square
    "M0 -5.5L5.5 4.5H-5.5Z",  # triangle
    "M0 -6L6 0L0 6L-6 0Z",  # diamond
    "M0 5.5L5.5 -4.5H-5.5Z",  # triangle, upside down
    "M-5 -2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z",  # plus
)
GRID = (0, 25, 50, 75, 100)
Figures = dict[str, Any]


def legend(names: list[str], *, paper: bool) -> str:
    """Which mark is which run."""
    keys = [f"<li>{_key(_mark(number))} {escape(name)}</li>" for number, name in enumerate(names)]
    if paper:
        keys.append(f"<li>{_key(_PAPER)} the paper, mean ± deviation</li>")
    return f'<ul class="legend">{"".join(keys)}</ul>'


def chart(title: str, rows: dict[str, list[Figures | None]], chance: float | None, paper: dict[str, Figures]) -> str:
    """A figure. rows: name to a share for each run; paper: name to the paper's mean and deviation, in percent."""
    parts = [f'<figure class="chart"><figcaption>{escape(title)}</figcaption>']
    parts += [_row(name, shares, chance, paper.get(name)) for name, shares in rows.items()]
    ticks = "".join(f'<text x="{at}%" y="12" class="t{at}">{at}%</text>' for at in GRID)
    parts.append(f'<div class="row axis"><svg class="plot" height="16" aria-hidden="true">{ticks}</svg></div></figure>')
    return "".join(parts)


def _row(name: str, shares: list[Figures | None], chance: float | None, paper: Figures | None) -> str:
    height = LINE * (len(shares) + bool(paper))
    drawn = [f'<line x1="{at}%" x2="{at}%" y1="0" y2="{height}" class="grid"/>' for at in GRID]
    if chance is not None:
        drawn.append(f'<line x1="{_at(chance)}" x2="{_at(chance)}" y1="0" y2="{height}" class="chance"/>')
    told = []
    for number, share in enumerate(shares):
        if share and share["share"] is not None:
            drawn.append(_interval(number, share))
            count = f" <span>of {share['answers']:,}</span>" if "answers" in share else ""
            told.append(f"<b>{share['share']:.0%}</b>{count}")
        else:
            told.append("<span>–</span>")
    if paper:
        y = LINE * len(shares) + LINE // 2
        low, high = (max(0.0, min(100.0, paper["mean"] + way * paper["deviation"])) for way in (-1, 1))
        drawn.append(f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}" class="paper"/>')
        drawn.append(f'<svg x="{paper["mean"]:.2f}%" y="{y}" overflow="visible">{_PAPER}</svg>')
        told.append(f"<b>{paper['mean']:.0f}%</b> <span>paper</span>")
    values = "".join(f"<div>{text}</div>" for text in told)
    said = escape(f"{name}: " + "; ".join(_said(share) for share in shares), quote=True)
    plot = f'<svg class="plot" height="{height}" role="img" aria-label="{said}">{"".join(drawn)}</svg>'
    return f'<div class="row"><div class="name">{escape(name)}</div>{plot}<div class="values">{values}</div></div>'


def _interval(number: int, share: Figures) -> str:
    y = LINE * number + LINE // 2
    low, high = _at(share["low"]), _at(share["high"])
    title = f"<title>{_said(share)}</title>"
    line = f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" class="interval s{number % len(SHAPES)}"/>'
    return f'<g>{title}{line}<svg x="{_at(share["share"])}" y="{y}" overflow="visible">{_mark(number)}</svg></g>'


def _said(share: Figures | None) -> str:
    if not share or share["share"] is None:
        return "no answers"
    if "answers" not in share:
        return f"{share['share']:.1%}"
    interval = f"95% interval {share['low']:.0%} to {share['high']:.0%}"
    return f"{share['share']:.1%}, {interval}, {share['answers']:,} answers, {share['personas']:,} personas"


def _mark(number: int) -> str:
    place = number % len(SHAPES)
    hollow = " hollow" if number // len(SHAPES) % 2 else ""
    return f'<path d="{SHAPES[place]}" class="mark s{place}{hollow}"/>'


_PAPER = '<path d="M0 -5V5" class="paper mean"/>'


def _key(mark: str) -> str:
    inner = f'<svg x="8" y="8" overflow="visible">{mark}</svg>'
    return f'<svg class="key" width="16" height="16" aria-hidden="true">{inner}</svg>'


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"
