"""Several teachers' scores as one: their mean, each brought to one scale first."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.scores import TeacherScores, keys_of
from rankdistil.data.texts import Rows


def mean_on_one_scale(members: Sequence[TeacherScores], pairs: Rows) -> TeacherScores:
    """Average the scores of several teachers, each brought to one mean and standard deviation first.

    Teachers score on scales of their own: a plain mean would follow the one with the widest. Each member is standardised, the
    standardised scores are averaged, and the average is brought back to the mean of the members' means and of their standard
    deviations. So a teacher beside itself is that teacher, members of one scale have their plain mean, and where members
    disagree, the average lies closer to the middle, as it should. The scale is that of the pairs trained on, whatever else was
    scored or is known to a store.

    Losses read the result as logits, as they read a single teacher's scores: members must be logits. A probability or a BM25
    score among them counts as much as the others in the order, but shifts and stretches all soft labels.

    Args:
        members: each teacher's.
        pairs: rows of query and passage of all pairs that are trained on, once each, ascending, (N, 2). All of them are in
            memory, with the scores of one member in double precision: some 50 bytes a pair.

    Raises:
        ValueError: for a pair that a member holds no score of, or a member that scores all of them alike.
    """
    queries, passages = pairs.T
    scales = [_scale(member.of(queries, passages), member.name) for member in members]
    level, spread = (fmean(values) for values in zip(*scales, strict=True))
    total, levels = np.zeros(len(pairs)), []
    for member, (mean, deviation) in zip(members, scales, strict=True):
        factor = spread / deviation  # exactly 1 among members of one scale, so that their scores stay as they are
        total += factor * member.of(queries, passages).astype(np.float64)
        levels.append(factor * mean)
    scores = (total / len(members) + (level - fmean(levels))).astype(np.float32)
    names = " + ".join(member.name for member in members)
    return TeacherScores(keys_of(queries, passages), scores, members[0].collection, names)


def _scale(scores: NDArray[np.float32], name: str) -> tuple[float, float]:
    """Return mean and standard deviation."""
    ordered = np.sort(scores).astype(np.float64)  # a sum depends on its order, and that of rows on whether there is a store
    if ordered[0] == ordered[-1]:
        raise ValueError(
            f"{name}: all {len(scores)} pairs that are trained on have the score {scores[0]:g}. A teacher that tells no pairs "
            "apart has no scale to bring to that of the others. Take it out of teacher.scores, or score again."
        )
    return float(ordered.mean()), float(ordered.std())
