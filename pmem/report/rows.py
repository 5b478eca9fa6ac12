"""Tables as rows, which become text or Markdown."""

from typing import NamedTuple

from pmem.columns import aligned


class Row(NamedTuple):
    """A line of a table. head: a line that begins a section."""

    name: str
    cells: list[str]
    head: bool = False


def text(columns: list[str], rows: list[Row]) -> str:
    """Rows under each other, aligned; those of a section are indented."""
    inside = False
    lines = [["", *columns]]
    for row in rows:
        inside = inside or row.head
        lines.append([row.name if row.head or not inside else f"  {row.name}", *row.cells])
    count = len(columns) + 1
    lines = [[*line, *[""] * (count - len(line))] for line in lines]
    return "\n".join(aligned(lines))


def markdown(columns: list[str], rows: list[Row]) -> str:
    """The same as a table of Markdown. Cells are figures; names may be anything."""
    lines = ["| " + " | ".join(["", *map(escaped, columns)]) + " |", "|" + "---|" * (len(columns) + 1)]
    for row in rows:
        name = f"**{escaped(row.name)}**" if row.head else escaped(row.name)
        cells = [*row.cells, *[""] * (len(columns) - len(row.cells))]
        lines.append("| " + " | ".join([name, *(" ".join(cell.split()).replace("[ ", "[") for cell in cells)]) + " |")
    return "\n".join(lines)


def escaped(cell: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in "\\`*_[]<>|":
        cell = cell.replace(mark, f"\\{mark}")
    return " ".join(cell.split())
