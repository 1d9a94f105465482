"""Tables, for a terminal and in Markdown; notes: what was left out of a run's data, what ``plan=check`` found."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from rankdistil.data.batches.groups import told_left_out
from rankdistil.data.check.whole import Check
from rankdistil.data.collections.holdout import told_sides
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


def data_notes(account: dict[str, Any]) -> list[str]:
    """Say what a run doesn't train on or can't rank; nothing where nothing is missing.

    Args:
        account: what a DataModule tells.
    """
    lines = [
        f"{file}: {told['bad']} of {told['lines'] or 'the'} lines are bad and left out (data.on_bad=skip). The first: "
        f"{told['first']}"
        for file, told in account["bad_lines"].items()
    ]
    if "holdout" in account:
        lines += told_sides(account["holdout"]["sides"], account["holdout"]["level"])
    lines += _training(account)
    if larger := account.get("max_tokens"):
        lines.append(
            f"training: {larger['larger']} of the first {larger['of']} {larger['what']} take more tokens than data.max_tokens="
            f"{larger['limit']}, the largest {larger['largest']}. Each is a batch by itself."
        )
    for split in ("valid", "test"):
        told = account.get(f"{split}_queries")
        if told and told["with_candidates"] < told["judged"]:
            lines.append(
                f"{split}: {told['with_candidates']} of {told['judged']} judged queries have candidates; the others count as 0."
            )
    return lines


def _training(account: dict[str, Any]) -> list[str]:
    training, margin = account.get("training_queries"), account.get("negatives_margin")
    if not training:
        return []
    queries, by_margin, lines = training["left_out"] + training["groups"], margin["queries"] if margin else 0, []
    if left_out := training["left_out"] - by_margin:
        lines.append(told_left_out(left_out, queries))
    if "same_text" in account:
        left_out = account["same_text"]
        lines.append(f"training: {left_out} negatives are left out: they have the text of a passage that answers their query.")
    if margin and margin["left_out"]:
        too_few = f", and {by_margin} of {queries} queries that are left with too few" if by_margin else ""
        told = f"{margin['left_out']} of {margin['of']} {margin['what']}"
        lines.append(f"training: data.negatives_margin leaves out {told}{too_few}.")
    return lines


def print_check(check: Check, on_bad: str, console: Console) -> None:
    """Print what was found.

    Args:
        check: splits that were looked through.
        on_bad: of ``data``.
        console: where to print.

    Raises:
        ValueError: if a run would stop at one of the problems.
    """
    numbers = [["" if number is None else str(number) for number in (row.lines, row.bytes)] for row in check.rows]
    columns = [
        Column("split", [", ".join(row.splits) for row in check.rows], text=True, folds=True, most=12),
        Column("file", [row.file for row in check.rows], text=True, folds=True, most=24),
        Column("lines", [lines for lines, _ in numbers]),
        Column("bytes", [size for _, size in numbers]),
        Column("sha256", [row.sha256 for row in check.rows], text=True),
        Column("holds", [row.told for row in check.rows], text=True, folds=True),
    ]
    console.print(to_table(columns, "data"))
    listings = check.listings.all()
    print_plain(console, check.facts)
    print_plain(console, [f"note: {note}" for note in check.notes])
    print_plain(console, [f"leak: {leak}" for leak in check.leaks])
    print_plain(console, [line for listing in listings for line in listing.shown()])
    print_plain(console, check.problems)
    stopping = [listing for listing in listings if listing.stops(on_bad)]
    count = len(check.problems) + sum(listing.found + listing.fatal for listing in stopping)
    if count:
        raise ValueError(f"check: a run would stop: {count} problems, listed above. Nothing was written.")
    left_out = sum(listing.found for listing in listings)
    found = f"{left_out} bad lines would be left out (data.on_bad=skip), no other problem" if left_out else "no problem"
    ending = f" that stops a run, but {len(check.leaks)} leaks between splits, listed above." if check.leaks else "."
    print_plain(console, [f"check: {found} found{ending}"])
