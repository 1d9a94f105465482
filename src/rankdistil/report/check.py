"""What ``plan=check`` prints: a table of the files, then every problem."""

from rich.console import Console
from rich.table import Table

from rankdistil.data.check import Check
from rankdistil.report.table import print_plain


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
