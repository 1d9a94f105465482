"""TREC run files that every tool ranks the same way."""

from pathlib import Path

import numpy as np

from rankdistil.data.parse import fields, number_in
from rankdistil.data.records import Ranking
from rankdistil.files import write_text
from rankdistil.metrics.measures import ranked


def strictly_decreasing(scores: list[float]) -> list[float]:
    """Lower ties by the smallest float32 step, so that a reader who sorts by float32 scores keeps the order."""
    fixed: list[np.float32] = []
    for score in scores:
        value = np.float32(score)
        if fixed and value >= fixed[-1]:
            value = np.nextafter(fixed[-1], np.float32(-np.inf))
        fixed.append(value)
    return [float(value) for value in fixed]


def write_run(path: Path, ranking: Ranking, tag: str) -> None:
    """Write a ranking as ``query_id Q0 passage_id rank score tag``; nine digits keep a float32 exactly.

    Args:
        path: the file, replaced in one step.
        ranking: candidates in their order.
        tag: name of the run, without white space.
    """
    rows = []
    for query_id, row in ranking.items():
        scores = strictly_decreasing([candidate.score for candidate in row])
        for rank, (candidate, score) in enumerate(zip(row, scores, strict=True), 1):
            rows.append(f"{query_id} Q0 {candidate.passage_id} {rank} {score:.9g} {tag}\n")
    write_text(path, "".join(rows))


def read_run(path: Path) -> Ranking:
    """Read a run file into the total order of ``ranked``: ranks in the file don't count, scores do.

    Raises:
        ValueError: for a bad line or a passage ranked twice, naming the line.
    """
    scores: dict[str, dict[str, float]] = {}
    names = ("query_id", "Q0", "passage_id", "rank", "score", "tag")
    for line, (query_id, _, passage_id, _, score, _) in fields(path, None, names):
        row = scores.setdefault(query_id, {})
        if passage_id in row:
            raise ValueError(f"{path}:{line}: query {query_id} ranks passage {passage_id} again. Keep one of the lines.")
        row[passage_id] = float(number_in(path, line, score, float, "score"))
    return ranked(scores)
