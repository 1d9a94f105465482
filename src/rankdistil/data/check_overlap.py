"""Questions that two splits share: what is trained on can't be tested on, nor choose the checkpoint that is."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

EXAMPLES = 3
WORDS = {"train": "training", "valid": "validation"}


class Asked(NamedTuple):
    """The queries that a split is trained, validated or tested on.

    Attributes:
        split: its name.
        marks: mark of the text (``same_text.mark``) by query id; 0 for an empty text, which is no question.
    """

    split: str
    marks: Mapping[str, int]


class Shared(NamedTuple):
    """What two splits share.

    Attributes:
        by_text: queries of the second, by id, and one of the first with their text.
        by_id: queries of the second whose id is that of another text in the first.
    """

    by_text: dict[str, str]
    by_id: list[str]


def shared(first: Mapping[str, int], second: Mapping[str, int]) -> Shared:
    """Compare queries by text and by id.

    Args:
        first: marks by id.
        second: marks by id.
    """
    there = {mark: key for key, mark in first.items() if mark}
    by_text = {key: key if first.get(key) == mark else there[mark] for key, mark in second.items() if mark in there}
    return Shared(by_text, [key for key, mark in second.items() if first.get(key, mark) != mark and key not in by_text])


def overlaps(splits: Sequence[Asked]) -> tuple[list[str], list[str]]:
    """Compare every two splits.

    Returns:
        Leaks, in words: the same question on both sides. Notes: the same id for two texts.
    """
    leaks, notes = [], []
    for first, second in combinations(splits, 2):
        found, count = shared(first.marks, second.marks), len(second.marks)
        here, there = (WORDS.get(split.split, split.split) for split in (second, first))
        if found.by_text:
            examples = [f"{key} ({other} in {there})" for key, other in sorted(found.by_text.items())[:EXAMPLES]]
            told = f"{len(found.by_text)} of {count} {here} queries have the text of a {there} query"
            leaks.append(f"{told}, for example {', '.join(examples)}.")
        if found.by_id:
            told = f"{len(found.by_id)} of {count} {here} queries have the id of a {there} query with another text"
            notes.append(f"{told}, for example {', '.join(sorted(found.by_id)[:EXAMPLES])}.")
    return leaks, notes
