"""Negatives that a teacher scores about as high as the positive are likely relevant, though nobody judged them: left out."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.groups import CHUNK, ByMargin, ListedGroups
from rankdistil.data.scores import TeacherScores
from rankdistil.data.texts import Rows


class Margin(NamedTuple):
    """How far a positive is above its negatives.

    Attributes:
        scores: a teacher's.
        least: what a positive's score exceeds a negative's by, at least, in the unit of the scores.
    """

    scores: TeacherScores
    least: float


class SafeGroups:
    """Triples whose negative is scored below the positive by a margin.

    Args:
        source: all triples.
        margin: the margin.

    Attributes:
        by_margin: how many triples are left out.

    Raises:
        ValueError: if no triple is left.
    """

    left_out = 0

    def __init__(self, source: ListedGroups, margin: Margin) -> None:
        self._source, self._margin, self.same_text = source, margin, source.same_text
        self._safe_groups = sum(int(self._safe(source.read(at, CHUNK)).sum()) for at in range(0, len(source), CHUNK))
        self.by_margin = ByMargin("triples", len(source), len(source) - self._safe_groups)
        if not self._safe_groups:
            raise ValueError(
                f"data.negatives_margin={margin.least:g} leaves no triple of {len(source)}: the teacher scores no negative "
                "that far below its positive. Lower it, or set it to null."
            )

    def __len__(self) -> int:
        return self._safe_groups

    def epoch(self, seed: int, epoch: int) -> Iterator[Rows]:
        """Yield the groups of an epoch."""
        return (rows[self._safe(rows)] for rows in self._source.epoch(seed, epoch))

    def pairs(self) -> Rows:
        """Return every pair that is listed: the scores decide which are used."""
        return self._source.pairs()

    def queries(self) -> Rows:
        """Return every query that is listed."""
        return self._source.queries()

    def _safe(self, rows: Rows) -> NDArray[np.bool_]:
        positive, negative = (self._margin.scores.of(rows[:, 0], rows[:, column]) for column in (1, 2))
        return negative <= positive - np.float32(self._margin.least)


def safe_negatives(margin: Margin, queries: Rows, positives: list[Rows], negatives: list[Rows]) -> list[Rows]:
    """Keep the negatives of each query that are scored below all of its positives by a margin.

    Args:
        margin: the margin.
        queries: row of each query.
        positives: rows of its positives.
        negatives: rows of its negatives.
    """
    kept = []
    for query, good, bad in zip(queries, positives, negatives, strict=True):
        lowest = margin.scores.of(np.repeat(query, len(good)), good).min()
        kept.append(bad[margin.scores.of(np.repeat(query, len(bad)), bad) <= lowest - np.float32(margin.least)])
    return kept
