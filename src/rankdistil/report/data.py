"""Notes on data: what was left out of a run's, and what ``plan=check`` found in its files."""

from typing import Any

from rich.console import Console

from rankdistil.data.batches.groups import told_left_out
from rankdistil.data.check.whole import Check
from rankdistil.data.collections.splits import told_sides
from rankdistil.report.tables import Column, print_plain, to_table


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
