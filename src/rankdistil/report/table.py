"""The table that compares rankers, and the sentence that says which differences are more than chance."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rankdistil.metrics.significance import randomisation_test
from rankdistil.report.result import Result

SAMPLES = 10_000


def results_table(results: Sequence[Result], title: str, slowest: str | None = None) -> Table:
    """Build the table.

    Args:
        results: one row each.
        title: what was ranked.
        slowest: name of the row that speed-ups are relative to; no speed-up column without it.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("ranker", no_wrap=True)
    for name in results[0].measures:
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("ms / query", "p95", "passages/s", "parameters") + (("speed-up",) if slowest else ()):
        table.add_column(name, justify="right", no_wrap=True)
    base = next((result.speed for result in results if result.name == slowest), {})
    for result in results:
        cells = [f"{value:.4f}" for value in result.measures.values()]
        speed = result.speed
        if speed:
            million = speed["parameters"] / 1e6
            cells += [f"{speed[key]:.0f}" for key in ("latency_ms_p50", "latency_ms_p95", "passages_per_second")]
            cells.append(f"{million:.2f} M")
        else:
            cells += ["-"] * 4
        if slowest:
            cells.append(f"{base['latency_ms_p50'] / speed['latency_ms_p50']:.2f}x" if speed and base else "-")
        table.add_row(result.name, *cells)
    return table


def differences(results: Sequence[Result], baseline: Result, measure: str = "nDCG@10") -> list[str]:
    """Say how each ranker differs from a baseline, with the p value of a paired randomisation test."""
    lines = []
    for result in results:
        test = randomisation_test(
            {query: row[measure] for query, row in result.per_query.items()},
            {query: row[measure] for query, row in baseline.per_query.items()},
            SAMPLES,
        )
        lines.append(
            f"{result.name} - {baseline.name}: {measure} {test.difference:+.4f}, p = {test.p_value:.4f} "
            f"(paired randomisation test, {test.queries} queries, {SAMPLES} samples)"
        )
    return lines


def print_plain(console: Console, lines: Sequence[str]) -> None:
    """Print lines as they are, without wrapping or markup."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
