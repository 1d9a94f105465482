"""The table of a run: its ranker beside the first stage, its teacher and its start."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rankdistil.report.columns import Column
from rankdistil.report.result import Result
from rankdistil.report.speed import time_columns


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
