"""Results of finished runs, read back for tables: measures, latencies of ``latency.json``, speed-ups.

The one speed is that of the first backend and, if it was timed, float32, in which the measures are computed too. Of a machine
that others kept busy meanwhile no time is shown: neither milliseconds nor ratios of them could be compared with anything.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from rankdistil.data.collections.splits import Leak
from rankdistil.data.records import Qrels, Ranking
from rankdistil.files import called, read_json
from rankdistil.inference.machine import shown_share
from rankdistil.metrics.ranking import MAIN, means, per_query, random_order, tied_queries, with_choice
from rankdistil.report.tables import Column, names_column

Timing = Mapping[str, Any]
"""Content of ``latency.json``, see ``rankdistil.inference.stopwatch.time_rankers``; None stands for nothing timed."""
UNTIMED = f"no inference time: callbacks.inference_time is null. Measure it later: {called('evaluate')} models=<run>"
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


def milliseconds(timing: Timing | None, ranker: str, passages: Sequence[int]) -> list[float] | None:
    """Tell how long a ranker takes for so many candidates of a query, at the rate that was measured.

    Between two sizes that were timed times lie on a line, and so they do from none to the smallest; beyond the largest they are
    in proportion to it.

    Args:
        timing: content of ``latency.json``.
        ranker: as timed.
        passages: numbers of candidates.

    Returns:
        Milliseconds, median, end to end; None if the ranker wasn't timed as the others, or on a busy machine.
    """
    if timing is None or TIME not in speed(timing, ranker):
        return None
    how = reference(timing)
    rows = [row for row in _summed(timing) if (row["ranker"], row["measured"], _how(row)) == (ranker, "latency", how)]
    known = {0.0: 0.0} | {row["passages"]: row[TIME] for row in rows}
    sizes, times = zip(*sorted(known.items()), strict=True)
    return [float(np.interp(size, sizes, times)) * max(1.0, size / sizes[-1]) for size in passages]


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
            f"Measure again when nothing else runs: {called('evaluate')} models=<run>",
            *_left_out(setup["left_out"]),
        ]
    alike = [one for one in _summed(timing) if (one["measured"], one["candidates"]) == (row["measured"], row["candidates"])]
    tokens = sorted({round(one["tokens_per_pair"]) for one in alike})  # those of a document's windows count together
    percentile = " and 95th percentile" if "latency_ms_p95" in row else ""
    lines = [
        f"ms / query: median, fastest and slowest{percentile} of {setup['queries']} queries x {row['rounds']} rounds, "
        f"{row['passages']:.0f} passages each, "
        f"{' to '.join(map(str, dict.fromkeys(tokens[:1] + tokens[-1:])))} tokens a pair, strings to scores, "
        f"{_named(reference(timing))}, "
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
    columns = [names_column("ranker", [f"{names[name]}, {_named(how)}" for name, how in keys])]
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


class Tied(NamedTuple):
    """Attributes: queries: whose scores are all one; of: queries with two candidates or more."""

    queries: int
    of: int


class Result(NamedTuple):
    """One ranker on one test split.

    Attributes:
        name: how tables call it.
        measures: means by measure.
        per_query: query id -> measure -> value.
        speed: its inference time and ``parameters`` (see ``rankdistil.report.results``); empty if it wasn't timed.
        topics: query id -> topic, for tests; None where topics aren't known.
        chance: query id -> expected nDCG@10 of a random order of its candidates; None where it isn't known.
        tied: queries that its scores don't order; None where scores aren't known.
        leak: queries that it was trained on; None where that isn't known.
    """

    name: str
    measures: dict[str, float]
    per_query: dict[str, dict[str, float]]
    speed: dict[str, float]
    topics: dict[str, str] | None = None
    chance: dict[str, float] | None = None
    tied: Tied | None = None
    leak: Leak | None = None

    def values(self, measure: str = MAIN) -> dict[str, float]:
        """Return one measure by query id."""
        return {query: row[measure] for query, row in self.per_query.items()}


def results_columns(results: Sequence[Result], slowest: str | None = None) -> list[Column]:
    """Make the columns of a table.

    Args:
        results: one row each.
        slowest: name of the row that speed-ups are relative to; no speed-up column without it.
    """
    measures = [Column(name, [f"{one.measures[name]:.4f}" for one in results]) for name in results[0].measures]
    base = None if slowest is None else next((one.speed for one in results if one.name == slowest), {})
    names = names_column("ranker", [one.name for one in results])
    return [names, *measures, *time_columns([one.speed for one in results], base)]


def average(results: Sequence[Result], name: str) -> Result:
    """Average rankers that differ by seed only, query by query; with no speed, and the ties and the leak of the worst."""
    first = results[0]
    measures = {key: fmean(one.measures[key] for one in results) for key in first.measures}
    per_query = {
        query: {key: fmean(one.per_query[query][key] for one in results) for key in row}
        for query, row in first.per_query.items()
    }
    tied = max((one.tied for one in results if one.tied is not None), default=None)
    leak = max((one.leak for one in results if one.leak is not None), default=None)
    return Result(name, measures, per_query, {}, first.topics, first.chance, tied, leak)


def measured(name: str, ranking: Ranking, qrels: Qrels, level: int) -> Result:
    """Measure a ranking as a test does: against judgments, chance, and for scores that order nothing."""
    values = per_query(ranking, qrels, level)
    scores = {query: {hit.passage_id: hit.score for hit in row} for query, row in ranking.items()}
    tied = Tied(tied_queries(scores), with_choice(scores))
    return Result(name, means(values), values, {}, chance=random_order(ranking, qrels), tied=tied)


def read_result(folder: Path, name: str, timed: bool = True) -> Result:
    """Read the ranker of a folder with ``metrics.json``, ``per_query.jsonl`` and, if it was timed there, ``latency.json``.

    Raises:
        FileNotFoundError: if one is missing.
        ValueError: if another version wrote it.
    """
    metrics, rows = _json(folder / "metrics.json"), _rows(folder)
    timing = _json(folder / "latency.json") if timed else {"rows": []}
    if "rows" not in timing:
        raise ValueError(f"{folder / 'latency.json'} has no rows: another version of rankdistil wrote it. Test the run again.")
    numbers = speed(timing, "ranker") if timed else {}
    tied = Tied(metrics["tied_queries"], metrics["queries_with_choice"]) if "tied_queries" in metrics else None
    per_query = {query: row["measures"] for query, row in rows.items()}
    leak = Leak(**metrics["trained_on"]) if metrics.get("trained_on") else None
    return Result(name, metrics["measures"], per_query, numbers, _topics(rows), _chance(rows), tied, leak)


def read_first_stage(folder: Path) -> Result:
    """Read the first stage's ranking that a folder's ranker re-ordered."""
    metrics, rows = _json(folder / "metrics.json"), _rows(folder)
    return Result(metrics["first_stage_name"], metrics["first_stage"], _first_stage(rows), {}, _topics(rows), _chance(rows))


def same_test(a: Path, b: Path) -> bool:
    """Whether two folders were tested on the same queries, judgments and candidates, as far as their files show."""
    if not (a / "per_query.jsonl").is_file():
        return False
    keys = "dataset", "queries", "pairs"
    left, right = _json(a / "metrics.json"), _json(b / "metrics.json")
    return [left[key] for key in keys] == [right[key] for key in keys] and (_first_stage(_rows(a)) == _first_stage(_rows(b)))


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    rows = (json.loads(line) for line in (folder / "per_query.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["query_id"]: row for row in rows}


def _first_stage(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {query: row["first_stage"] for query, row in rows.items()}


def _topics(rows: dict[str, dict[str, Any]]) -> dict[str, str] | None:
    return {query: row["topic"] for query, row in rows.items()} if all("topic" in row for row in rows.values()) else None


def _chance(rows: dict[str, dict[str, Any]]) -> dict[str, float] | None:
    known = all("random_order" in row for row in rows.values())
    return {query: row["random_order"][MAIN] for query, row in rows.items()} if known else None


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: the run or evaluation didn't end. Run it again.")
    return read_json(file, "Test the run again.")
