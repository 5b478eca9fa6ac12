"""Rows of text as columns that stand under each other."""


def aligned(rows: list[list[str]], *, left: int | None = None) -> list[str]:
    """Rows as lines, the first `left` columns (None: all) aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [
        [cell.ljust(widths[n]) if left is None or n < left else cell.rjust(widths[n]) for n, cell in enumerate(row)]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in padded]
