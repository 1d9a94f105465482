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
        return max(map(len, [*self.header.splitlines(), *self.cells])) + GAP


class Section(NamedTuple):
    """A part of a report. Attributes: title: of its table; columns: the first names the rows; notes: lines below it."""

    title: str
    columns: Sequence[Column]
    notes: Sequence[str] = ()

    def tables(self, width: int) -> list[Table]:
        """Build its table for a terminal, in as many parts as its width makes necessary."""
        names, *others = self.columns
        return paged([names], [[column] for column in others], self.title, width)

    def markdown(self) -> str:
        """Write it in Markdown, as a chapter."""
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"\n## {self.title}\n\n{to_markdown(self.columns)}" + (f"\n{notes}" if notes else "")


def paged(names: Sequence[Column], blocks: Sequence[Sequence[Column]], title: str, width: int) -> list[Table]:
    """Build as few tables as fit into a width; together they hold every column, and each opens with the names.

    Args:
        names: columns that say what the rows are of.
        blocks: columns that stay together.
        title: of the first table.
        width: characters of a line. A block of columns wider than that is folded by rich.
    """
    pages: list[list[Column]] = [[*names]]
    for block in blocks:
        if len(pages[-1]) > len(names) and sum(column.width for column in [*pages[-1], *block]) > width:
            pages.append([*names])
        pages[-1] = [*pages[-1], *block]
    return [to_table(page, title if number == 0 else None, framed=False) for number, page in enumerate(pages)]


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
