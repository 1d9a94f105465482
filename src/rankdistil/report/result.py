"""What a finished run or evaluation left behind, read back for tables."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from rankdistil.report.speed import speed


class Result(NamedTuple):
    """One ranker on one test split.

    Attributes:
        name: how tables call it.
        measures: means by measure.
        per_query: query id -> measure -> value.
        speed: its inference time and ``parameters`` (see ``rankdistil.report.speed``); empty if it wasn't timed.
    """

    name: str
    measures: dict[str, float]
    per_query: dict[str, dict[str, float]]
    speed: dict[str, float]


def read_result(folder: Path, name: str, timed: bool = True) -> Result:
    """Read the ranker of a folder with ``metrics.json``, ``per_query.jsonl`` and, if it was timed there, ``latency.json``.

    Raises:
        FileNotFoundError: if one is missing.
        ValueError: if another version wrote it.
    """
    measures = _json(folder / "metrics.json")["measures"]
    timing = _json(folder / "latency.json") if timed else {"rows": []}
    if "rows" not in timing:
        raise ValueError(f"{folder / 'latency.json'} has no rows: another version of rankdistil wrote it. Test the run again.")
    numbers = speed(timing, "ranker") if timed else {}
    return Result(name, measures, _per_query(folder, "measures"), numbers)


def read_first_stage(folder: Path) -> Result:
    """Read the first stage's ranking that a folder's ranker re-ordered."""
    metrics = _json(folder / "metrics.json")
    return Result(metrics["first_stage_name"], metrics["first_stage"], _per_query(folder, "first_stage"), {})


def same_test(a: Path, b: Path) -> bool:
    """Whether two folders were tested on the same queries, judgments and candidates, as far as their files show."""
    if not (a / "per_query.jsonl").is_file():
        return False
    keys = "dataset", "queries", "pairs"
    left, right = _json(a / "metrics.json"), _json(b / "metrics.json")
    return [left[key] for key in keys] == [right[key] for key in keys] and (
        _per_query(a, "first_stage") == _per_query(b, "first_stage")
    )


def _per_query(folder: Path, what: str) -> dict[str, dict[str, float]]:
    rows = (json.loads(line) for line in (folder / "per_query.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["query_id"]: row[what] for row in rows}


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: the run or evaluation didn't end. Run it again.")
    return json.loads(file.read_text(encoding="utf-8"))
