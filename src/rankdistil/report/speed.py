"""What ``latency.json`` says, for tables: one speed of each ranker, and all of them.

The one speed is that of the first backend and, if it was timed, float32, in which the measures are computed too. Of a machine
that others kept busy meanwhile no time is shown: neither milliseconds nor ratios of them could be compared with anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rankdistil.inference.others import shown_share
from rankdistil.report.columns import Column

Timing = Mapping[str, Any]
"""Content of ``latency.json``, see ``rankdistil.inference.stopwatch.time_rankers``; None stands for nothing timed."""
UNTIMED = "no inference time: callbacks.inference_time is null. Measure it later: python evaluate.py models=<run>"
ALL = "all"
BUSY = "busy, not comparable"
TIME = "latency_ms_p50"


def speed(timing: Timing | None, ranker: str) -> dict[str, float]:
    """Return a ranker's numbers of latency, of the first size that was timed, and ``parameters``.

    ``passages_per_second`` is of many queries in one call, if that was timed. Empty if the ranker wasn't timed as the others;
    ``parameters`` alone if the machine was busy.
    """
    if timing is None:
        return {}
    how = reference(timing)
    rows = [row for row in _summed(timing) if row["ranker"] == ranker and _how(row) == how]
    single = next((row for row in rows if row["measured"] == "latency"), None)
    if single is None:
        return {}
    if is_busy(timing):
        return {"parameters": single["parameters"]}
    numbers = {key: value for key, value in single.items() if "_ms_" in key or key in ("passages_per_second", "parameters")}
    rate = _throughput(rows)
    return numbers if rate is None else numbers | {"passages_per_second": rate}


def beside_teacher(timing: Timing, teacher: str = "teacher") -> dict[str, float]:
    """Return the times of a run's ranker as shares of the latency of the teacher that was timed beside it.

    Runs that were timed at different hours can be compared by these, and by nothing else: a machine's load differs.

    Args:
        timing: what was measured.
        teacher: as timed; ``ranker`` for a teacher's own run, whose latency then is 1.

    Returns:
        By key of ``speed``; empty where one of them has no time.
    """
    own, above = speed(timing, "ranker"), speed(timing, teacher)
    if TIME not in own or TIME not in above:
        return {}
    return {key: value / above[TIME] for key, value in own.items() if "_ms_" in key}


def is_busy(timing: Timing | None) -> bool:
    """Whether other processes used so much of the machine that its times compare nothing; where it isn't known, they don't."""
    return timing is not None and bool(timing["setup"].get("busy"))


def time_columns(speeds: Sequence[Mapping[str, float]], base: Mapping[str, float] | None) -> list[Column]:
    """Make the columns of the one speed of each row of a table; none where no row was timed.

    Args:
        speeds: of each row, see ``speed``.
        base: the speed that speed-ups are relative to; no such column without it.
    """
    if not any(speeds):
        return []
    busy = not any(TIME in one for one in speeds)
    columns = [Column("ms / query", [BUSY if one and TIME not in one else _shown(one, TIME, ".0f") for one in speeds])]
    if not busy:
        ends = [tuple(_shown(one, f"latency_ms_{end}", ".0f") for end in ("min", "max")) for one in speeds]
        columns.append(Column("min..max", ["-" if "-" in pair else "..".join(pair) for pair in ends]))
        columns += _if_any("p95", [_shown(one, "latency_ms_p95", ".0f") for one in speeds])
        columns.append(Column("passages/s", [_shown(one, "passages_per_second", ".0f") for one in speeds]))
    columns.append(Column("parameters", [f"{one['parameters'] / 1e6:.2f} M" if one else "-" for one in speeds]))
    if base is not None and not busy:
        columns.append(Column("speed-up", [_ratio(base.get(TIME), one.get(TIME)) for one in speeds]))
    return columns


def reference(timing: Timing) -> tuple[str, str]:
    """Choose the backend and dtype in which most rankers were timed; of several float32, else the first."""
    rankers: dict[tuple[str, str], set[str]] = {}
    for row in timing["rows"]:
        rankers.setdefault(_how(row), set()).add(row["ranker"])
    return max(rankers, key=lambda how: (len(rankers[how]), how[1] == "float32"))


def measured_row(timing: Timing) -> Timing:
    """Return the row of latency that the one speed of every ranker is like: its ``passages`` and ``tokens_per_pair`` hold."""
    return next(row for row in _summed(timing) if row["measured"] == "latency" and _how(row) == reference(timing))


def timing_notes(timing: Timing | None) -> list[str]:
    """Say how times were measured, and what was left out."""
    if timing is None:
        return [UNTIMED]
    setup, row = timing["setup"], measured_row(timing)
    together = f" in each of {setup['processes']} processes" if setup["processes"] > 1 else ""
    used = f"others used {shown_share(setup['others'])} of its {setup['cores']} cores meanwhile"
    if is_busy(timing):
        return [
            f"{BUSY}: {used}, more than {setup['busy_share']:.0%} (callbacks.inference_time.busy_share), so no time is shown. "
            "Measure again when nothing else runs: python evaluate.py models=<run>",
            *_left_out(setup["left_out"]),
        ]
    percentile = " and 95th percentile" if "latency_ms_p95" in row else ""
    lines = [
        f"ms / query: median, fastest and slowest{percentile} of {setup['queries']} queries x {row['rounds']} rounds, "
        f"{row['passages']:.0f} passages each, "
        f"{row['tokens_per_pair']:.0f} tokens a pair, strings to scores, {_named(reference(timing))}, "
        f"{setup['device']}, {setup['threads']} threads{together}; {used}"
    ]
    pairs = next((row["passages"] for row in _summed(timing) if row["measured"] == "throughput"), None)
    calls = "as above" if pairs is None else f"{pairs:.0f} pairs of several queries in one call"
    lines.append(f"passages/s: {calls}, median{', summed over processes' if together else ''}")
    return lines + _left_out(setup["left_out"])


def speed_columns(timing: Timing | None, names: Mapping[str, str], slowest: str | None) -> list[Column]:
    """Make the table of all backends, dtypes and sizes; no columns if there is but one of each, which other tables show.

    None either for a busy machine, or where nothing was timed.

    Args:
        timing: what was measured.
        names: of the rankers shown, in their order: as timed -> as tables call them.
        slowest: the ranker, as timed, that speed-ups are relative to; none are given without it.
    """
    rows = [] if timing is None else [row for row in _summed(timing) if row["ranker"] in names]
    single = {(row["ranker"], _how(row), row["candidates"]): row for row in rows if row["measured"] == "latency"}
    sizes = list(dict.fromkeys(size for *_, size in single))
    keys = [(name, how) for how in dict.fromkeys(map(_how, rows)) for name in names if (name, how, sizes[0]) in single]
    if is_busy(timing) or len(sizes) * len({how for _, how in keys}) < 2:
        return []
    many = {key: _throughput([row for row in rows if (row["ranker"], _how(row)) == key]) for key in keys}
    columns = [Column("ranker", [f"{names[name]}, {_named(how)}" for name, how in keys])]
    for size in sizes:
        found = [single[name, how, size] for name, how in keys]
        columns.append(Column(f"ms / 1x{size}", [_shown(row, TIME, ".1f") for row in found]))
        columns += _if_any("p95", [_shown(row, "latency_ms_p95", ".1f") for row in found])
        if slowest:
            base = [single.get((slowest, how, size), {}).get(TIME) for _, how in keys]
            columns.append(Column("speed-up", [_ratio(a, row[TIME]) for a, row in zip(base, found, strict=True)]))
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


def _shown(numbers: Mapping[str, float], key: str, how: str) -> str:
    return format(numbers[key], how) if key in numbers else "-"


def _if_any(header: str, cells: list[str]) -> list[Column]:
    """Leave a column out that no row has a value for."""
    return [] if all(cell == "-" for cell in cells) else [Column(header, cells)]


def _ratio(above: float | None, below: float | None) -> str:
    return f"{above / below:.2f}x" if above and below else "-"
