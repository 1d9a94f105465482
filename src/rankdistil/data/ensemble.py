"""Several teachers' scores as one: their mean, each brought to one scale first."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.scores import TeacherScores, keys_of
from rankdistil.data.texts import Rows


def standardised_mean(members: Sequence[TeacherScores], pairs: Rows) -> TeacherScores:
    """Average the scores of several teachers, each brought to mean 0 and standard deviation 1 first.

    Teachers score on scales of their own: a plain mean would follow the one with the widest. The scale is that of the pairs
    trained on, whatever else was scored or is known to a store.

    Args:
        members: each teacher's.
        pairs: rows of query and passage of all pairs that are trained on, once each, ascending, (N, 2). All of them are in
            memory, with the scores of one member in double precision: some 50 bytes a pair.

    Raises:
        ValueError: for a pair that a member holds no score of, or a member that scores all of them alike.
    """
    queries, passages = pairs.T
    total = np.zeros(len(pairs))
    for member in members:
        total += _standardised(member.of(queries, passages), member.name)
    names = " + ".join(member.name for member in members)
    return TeacherScores(keys_of(queries, passages), (total / len(members)).astype(np.float32), members[0].collection, names)


def _standardised(scores: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    ordered = np.sort(scores).astype(np.float64)  # a sum depends on its order, and that of rows on whether there is a store
    if ordered[0] == ordered[-1]:
        raise ValueError(
            f"{name}: all {len(scores)} pairs that are trained on have the score {scores[0]:g}. A teacher that tells no pairs "
            "apart has no scale to bring to that of the others. Take it out of teacher.scores, or score again."
        )
    return (scores.astype(np.float64) - ordered.mean()) / ordered.std()
