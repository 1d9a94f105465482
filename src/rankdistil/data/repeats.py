"""Ids that stand more than once in a file of texts: a repeated line does no harm, one that contradicts another is bad."""

from array import array
from collections.abc import Collection, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.badlines import Tally

Row = tuple[int, str, str]
"""Line number, id, text."""


def distinct(rows: Iterable[Row], tally: Tally, among: Collection[int] | None = None) -> Iterator[Row]:
    """Leave out lines that repeat an earlier one; a line that gives an id another text is a bad one.

    Args:
        rows: of one file.
        tally: takes bad lines down.
        among: hashes of the ids that are looked at, ``repeated`` ones; None looks at all, which takes memory for each.
    """
    seen: dict[str, tuple[int, int]] = {}
    for number, key, text in rows:
        if among is not None and (not among or hash(key) not in among):
            yield number, key, text
            continue
        mark = hash(text)
        first, first_mark = seen.setdefault(key, (number, mark))
        if first == number:
            yield number, key, text
        elif first_mark != mark:
            tally.add(number, f"id {key!r} has another text than in line {first}. Keep one of them.")


def repeated(keys: Iterable[str]) -> set[int]:
    """Return the hashes of ids that occur more than once. Memory holds eight bytes of each id."""
    return repeated_hashes(np.array(array("q", map(hash, keys)), np.int64))


def repeated_hashes(hashes: NDArray[np.int64]) -> set[int]:
    """Return those of some hashes, (N,), that occur more than once."""
    ascending = np.sort(hashes)
    return set(ascending[1:][ascending[1:] == ascending[:-1]].tolist())
