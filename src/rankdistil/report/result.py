"""What a finished run or evaluation left behind, read back for tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rankdistil.data.trained_on import Leak
from rankdistil.files import read_json
from rankdistil.metrics.measures import MAIN
from rankdistil.report.speed import speed


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
        speed: its inference time and ``parameters`` (see ``rankdistil.report.speed``); empty if it wasn't timed.
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
