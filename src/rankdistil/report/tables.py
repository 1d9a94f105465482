"""Short tables and notes: the results of a run, what was left out of its data, what ``plan=check`` found."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from rankdistil.data.batches.groups import told_left_out
from rankdistil.data.check.whole import Check
from rankdistil.data.collections.holdout import told_sides
from rankdistil.report.results import Column, Result, time_columns


def results_columns(results: Sequence[Result], slowest: str | None = None) -> list[Column]:
    """Make the columns.

    Args:
        results: one row each.
        slowest: name of the row that speed-ups are relative to; no speed-up column without it.
    """
    measures = [Column(name, [f"{one.measures[name]:.4f}" for one in results]) for name in results[0].measures]
    base = None if slowest is None else next((one.speed for one in results if one.name == slowest), {})
    names = Column("ranker", [one.name for one in results])
    return [names, *measures, *time_columns([one.speed for one in results], base)]


def results_table(results: Sequence[Result], title: str, slowest: str | None = None) -> Table:
    """Build the table for a terminal; arguments as for ``results_columns``, title: what was ranked."""
    table = Table(title=title, title_justify="left")
    columns = results_columns(results, slowest)
    for column in columns:
        first = column is columns[0]  # names are folded where the line is too short for the numbers
        table.add_column(column.header, justify="left" if first else "right", no_wrap=not first)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def print_plain(console: Console, lines: Sequence[str]) -> None:
    """Print lines as they are, without wrapping or markup."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
    table = Table(title="data", title_justify="left")
    table.add_column("split", max_width=12)
    table.add_column("file", overflow="fold", max_width=24)
    for name in ("lines", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    table.add_column("holds", overflow="fold")
    for row in check.rows:
        numbers = ["" if number is None else str(number) for number in (row.lines, row.bytes)]
        table.add_row(", ".join(row.splits), row.file, *numbers, row.sha256, row.told)
    console.print(table)
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
