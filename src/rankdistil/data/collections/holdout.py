"""Held-out queries: training queries set apart for validation, or for test, where no split of their own is named."""

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from rankdistil.data.collections.leaks import normal
from rankdistil.data.records import Qrels


class Holdout(NamedTuple):
    """A fixed number of questions set apart. Queries of one text are one question, and stand on one side.

    Only questions that somebody has answered are set apart: nothing can be measured on others.

    Attributes:
        queries: how many, those of one text counted once.
        inside: True for the reader of the queries set apart, False for the reader of the others.
        behind: queries set apart for something else, before these.
        level: lowest grade of a passage that answers a query.
    """

    queries: int
    inside: bool
    behind: int = 0
    level: int = 1

    def named(self, text: str) -> str:
        """Add to the name of a split which of its queries these are."""
        which = "without" if not self.inside else "another" if self.behind else "only"
        return f"{text} ({which} {self.queries} held-out queries)"

    def of(self, texts: Mapping[str, str], qrels: Qrels | None) -> dict[str, str]:
        """Return this side's queries; which they are doesn't depend on their order.

        Args:
            texts: of all queries, by id.
            qrels: judgments of all queries; None where there are none, and no query can be preferred.

        Raises:
            ValueError: if too few have an answer, or none is left to train on.
        """
        questions: dict[str, list[str]] = {}
        for key in sorted(texts, key=lambda key: sha256(key.encode()).digest()):
            questions.setdefault(normal(texts[key]), []).append(key)
        able = [keys for keys in questions.values() if qrels is None or answered(keys, qrels, self.level)]
        end = self.behind + self.queries
        if end >= len(questions):
            raise ValueError(
                f"data.holdout sets {end} queries apart, which leaves none of {len(questions)} to train on; set it lower."
            )
        if end > len(able):
            raise ValueError(
                f"data.holdout sets {end} queries apart, but only {len(able)} of {len(questions)} have a passage of grade "
                f"{self.level} or more, which they need to be measured on. Set it lower, or name splits: data.valid, data.test."
            )
        chosen = {key for keys in able[self.behind : end] for key in keys}
        return {key: text for key, text in texts.items() if (key in chosen) == self.inside}


def answered(keys: list[str], qrels: Qrels, level: int) -> list[str]:
    """Return those of some queries that have a passage of a grade or more."""
    return [key for key in keys if any(grade >= level for grade in qrels.get(key, {}).values())]


def told_sides(sides: Mapping[str, Mapping[str, int]], level: int) -> list[str]:
    """Say how many queries each side of ``data.holdout`` has.

    Args:
        sides: by split its ``queries``, and how many of them are ``answered``.
        level: lowest grade of an answer.
    """
    return [
        f"data.holdout: {split} has {side['queries']} queries, {side['answered']} of them with a passage of grade {level} or "
        "more."
        for split, side in sides.items()
    ]
