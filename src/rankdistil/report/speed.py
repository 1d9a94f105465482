"""What ``latency.json`` says, for tables: one speed of each ranker, and all of them.

The one speed is that of the first backend and, if it was timed, float32, in which the measures are computed too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rankdistil.report.columns import Column

Timing = Mapping[str, Any]
"""Content of ``latency.json``, see ``rankdistil.inference.stopwatch.time_rankers``."""
ALL = "all"


def speed(timing: Timing, ranker: str) -> dict[str, float]:
    """Return a ranker's numbers of latency, of the first size that was timed, and ``parameters``.

    ``passages_per_second`` is of many queries in one call, if that was timed. Empty if the ranker wasn't timed as the others.
    """
    how = reference(timing)
    rows = [row for row in _summed(timing) if row["ranker"] == ranker and _how(row) == how]
    single = next((row for row in rows if row["measured"] == "latency"), None)
    if single is None:
        return {}
    numbers = {key: value for key, value in single.items() if "_ms_p" in key or key in ("passages_per_second", "parameters")}
    rate = _throughput(rows)
    return numbers if rate is None else numbers | {"passages_per_second": rate}


def reference(timing: Timing) -> tuple[str, str]:
    """Choose the backend and dtype in which most rankers were timed; of several float32, else the first."""
    rankers: dict[tuple[str, str], set[str]] = {}
    for row in timing["rows"]:
        rankers.setdefault(_how(row), set()).add(row["ranker"])
    return max(rankers, key=lambda how: (len(rankers[how]), how[1] == "float32"))


def measured_row(timing: Timing) -> Timing:
    """Return the row of latency that the one speed of every ranker is like: its ``passages`` and ``tokens_per_pair`` hold."""
    return next(row for row in _summed(timing) if row["measured"] == "latency" and _how(row) == reference(timing))


def timing_notes(timing: Timing) -> list[str]:
    """Say how times were measured, and what was left out."""
    setup, row = timing["setup"], measured_row(timing)
    together = f" in each of {setup['processes']} processes" if setup["processes"] > 1 else ""
    load = "" if setup["load"] is None else f"; load {setup['load']:.1f} on {setup['cores']} cores before"
    lines = [
        f"ms / query: median and 95th percentile of {setup['queries']} queries x {setup['rounds']} rounds, "
        f"{row['passages']:.0f} passages each, "
        f"{row['tokens_per_pair']:.0f} tokens a pair, strings to scores, {_named(reference(timing))}, "
        f"{setup['device']}, {setup['threads']} threads{together}{load}"
    ]
    pairs = next((row["passages"] for row in _summed(timing) if row["measured"] == "throughput"), None)
    calls = "as above" if pairs is None else f"{pairs:.0f} pairs of several queries in one call"
    lines.append(f"passages/s: {calls}, median{', summed over processes' if together else ''}")
    return lines + _left_out(setup["left_out"])


def speed_columns(timing: Timing, names: Mapping[str, str], slowest: str | None) -> list[Column]:
    """Make the table of all backends, dtypes and sizes; no columns if there is but one of each, which other tables show.

    Args:
        timing: what was measured.
        names: of the rankers shown, in their order: as timed -> as tables call them.
        slowest: the ranker, as timed, that speed-ups are relative to; none are given without it.
    """
    rows = [row for row in _summed(timing) if row["ranker"] in names]
    single = {(row["ranker"], _how(row), row["candidates"]): row for row in rows if row["measured"] == "latency"}
    sizes = list(dict.fromkeys(size for *_, size in single))
    keys = [(name, how) for how in dict.fromkeys(map(_how, rows)) for name in names if (name, how, sizes[0]) in single]
    if len(sizes) * len({how for _, how in keys}) < 2:
        return []
    many = {key: _throughput([row for row in rows if (row["ranker"], _how(row)) == key]) for key in keys}
    columns = [Column("ranker", [f"{names[name]}, {_named(how)}" for name, how in keys])]
    for size in sizes:
        found = [single[name, how, size] for name, how in keys]
        for header, key in ((f"ms / 1x{size}", "latency_ms_p50"), ("p95", "latency_ms_p95")):
            columns.append(Column(header, [f"{row[key]:.1f}" for row in found]))
        if slowest:
            base = [single.get((slowest, how, size), {}).get("latency_ms_p50") for _, how in keys]
            columns.append(Column("speed-up", [_ratio(a, row["latency_ms_p50"]) for a, row in zip(base, found, strict=True)]))
    values = [many[key] for key in keys]
    if any(value is not None for value in values):
        columns.append(Column("passages/s", ["-" if value is None else f"{value:.0f}" for value in values]))
        if slowest:
            base = [many.get((slowest, how)) for _, how in keys]
            columns.append(Column("speed-up", [_ratio(value, a) for a, value in zip(base, values, strict=True)]))
    return columns


def _left_out(refused: Sequence[Mapping[str, str]]) -> list[str]:
    """Say what wasn't timed, one line for each reason."""
    rankers: dict[tuple[str, tuple[str, str]], list[str]] = {}
    for one in refused:
        rankers.setdefault((one["reason"], _how(one)), []).append(one["ranker"])
    ways: dict[tuple[str, str], list[str]] = {}
    for (reason, how), names in rankers.items():
        ways.setdefault((reason, ", ".join(names)), []).append(_named(how))
    return [f"not timed: {names} in {', '.join(found)}: {reason}" for (reason, names), found in ways.items()]


def _throughput(rows: Sequence[Timing]) -> float | None:
    return next((row["passages_per_second"] for row in rows if row["measured"] == "throughput"), None)


def _summed(timing: Timing) -> list[Timing]:
    return [row for row in timing["rows"] if row["rank"] == ALL]


def _how(row: Timing) -> tuple[str, str]:
    return row["backend"], row["dtype"]


def _named(how: tuple[str, str]) -> str:
    return how[1] if how[0] == "torch" else " ".join(how)


def _ratio(above: float | None, below: float | None) -> str:
    return f"{above / below:.2f}x" if above and below else "-"
