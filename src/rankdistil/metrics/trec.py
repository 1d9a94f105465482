"""TREC run files: scores as they are, so that a reader sees which of them tell nothing apart.

Equal scores are ordered by descending passage id, here as by trec_eval. Lowering ties, so that every tool keeps the written
order, was rejected: it makes a ranking of a ranker that has none.
"""

from pathlib import Path

from rankdistil.data.parse import fields, number_in
from rankdistil.data.records import Ranking
from rankdistil.files import write_text
from rankdistil.metrics.measures import ranked


def write_run(path: Path, ranking: Ranking, tag: str) -> None:
    """Write a ranking as ``query_id Q0 passage_id rank score tag``; ``read_run`` reads the same one, to the last bit.

    Args:
        path: the file, replaced in one step.
        ranking: candidates in the order of ``ranked``.
        tag: name of the run, without white space.
    """
    rows = []
    for query_id, row in ranking.items():
        for rank, candidate in enumerate(row, 1):
            rows.append(f"{query_id} Q0 {candidate.passage_id} {rank} {float(candidate.score)!r} {tag}\n")
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
