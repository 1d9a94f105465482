"""Tables, for a terminal and in Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from rankdistil.processes.progress import say

GAP = 2
ESCAPED_BAR = "\\|"


class Column(NamedTuple):
    """A column of a table: by default of numbers.

    Attributes:
        header: short; on a terminal in as many lines as it has.
        cells: one per row.
        text: whether cells stand at the left.
        folds: whether a cell takes several lines where there is no room for it.
        most: characters of a line; as many as are needed without it.
    """

    header: str
    cells: Sequence[str]
    text: bool = False
    folds: bool = False
    most: int | None = None

    @property
    def width(self) -> int:
        """Characters of the widest cell, with the gap to the next column."""
        return max(map(len, [self.header, *self.cells])) + GAP


def names_column(header: str, cells: Sequence[str]) -> Column:
    """Make the column that says what each row is of; it is folded where a line is too short for the numbers."""
    return Column(header, cells, text=True, folds=True)


def to_table(columns: Sequence[Column], title: str | None, framed: bool = True) -> Table:
    """Build a table for a terminal."""
    table = Table(title=title, title_justify="left")
    if not framed:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), show_edge=False)
    for column in columns:
        justify = "left" if column.text else "right"
        table.add_column(column.header, justify=justify, no_wrap=not column.folds, overflow="fold", max_width=column.most)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def to_markdown(columns: Sequence[Column]) -> str:
    """Write a table in Markdown; nothing without columns."""
    if not columns:
        return ""
    lines = [[column.header.replace("\n", " ") for column in columns], ["---" if column.text else "---:" for column in columns]]
    lines += zip(*(column.cells for column in columns), strict=True)
    return "".join(f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in line)} |\n" for line in lines)


def print_plain(console: Console, lines: Sequence[str]) -> None:
    """Print lines as they are, without wrapping or markup."""
    for line in lines:
        say(console, line)
