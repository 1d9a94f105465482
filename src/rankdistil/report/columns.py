"""Tables as columns of text: for a terminal, and for Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table

GAP = 2
ESCAPED_BAR = "\\|"


class Column(NamedTuple):
    """Attributes: header: short; cells: one per row."""

    header: str
    cells: list[str]

    @property
    def width(self) -> int:
        """Characters of the widest cell, with the gap to the next column."""
        return max(map(len, [self.header, *self.cells])) + GAP


def to_table(columns: Sequence[Column], title: str | None) -> Table:
    """Build a table for a terminal; what is folded if it is too wide are the names in the first column."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), show_edge=False)
    for number, column in enumerate(columns):
        if number == 0:
            table.add_column(column.header, overflow="fold")
        else:
            table.add_column(column.header, justify="right", no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def to_markdown(columns: Sequence[Column]) -> str:
    """Write a table in Markdown; nothing without columns."""
    if not columns:
        return ""
    lines = [[column.header for column in columns], ["---"] + ["---:"] * (len(columns) - 1)]
    lines += zip(*(column.cells for column in columns), strict=True)
    return "".join(f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in line)} |\n" for line in lines)
