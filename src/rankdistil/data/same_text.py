"""Texts that say the same under different ids: one rule for the draw of held-out queries, the check, tests and negatives."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.texts import Rows, Texts

CHUNK = 8192  # texts that are read together
QUERIES = 4096  # whose candidates are looked at together
UNREAD = -1
ENDINGS = " .!?\u3002"  # of a sentence; what stands inside of a text stays, so C++ is not C


def normal(text: str) -> str:
    """Return a text without what makes no other text of it.

    That is case, variants of a character (Unicode's NFKC), the amount of white space, and the signs that end it.
    """
    words = " ".join(normalize("NFKC", normalize("NFKC", text).casefold()).split())  # folding may undo a composition
    return words.rstrip(ENDINGS) or words


def mark(text: str) -> int:
    """Return 63 bits of a text's normal form: of nine million texts, two of them share theirs once in 200,000 collections."""
    return digest(normal(text))


def digest(text: str) -> int:
    """Return 63 bits of a text as it is, which a signed number of eight bytes holds."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1


class TextMarks:
    """Marks of passages by row, each made when it is first asked for. Memory holds eight bytes for each row.

    Args:
        passages: names rows.
        find: gives text by id.
    """

    def __init__(self, passages: Texts, find: Callable[[Sequence[str]], Mapping[str, str]]) -> None:
        self._passages, self._find = passages, find
        self._marks = np.zeros(0, np.int64)

    def of(self, rows: Rows) -> NDArray[np.int64]:
        """Return the mark of each row, (N,)."""
        if (top := int(rows.max(initial=-1)) + 1) > len(self._marks):
            self._marks = np.pad(self._marks, (0, max(top, 2 * len(self._marks)) - len(self._marks)), constant_values=UNREAD)
        unread = np.unique(rows[self._marks[rows] == UNREAD])
        for at in range(0, len(unread), CHUNK):
            some = unread[at : at + CHUNK]
            names = self._passages.names(some)
            texts = self._find(names)
            self._marks[some] = [mark(texts[key]) for key in names]
        return self._marks[rows]

    def differ(self, triples: Rows) -> NDArray[np.bool_]:
        """Say of each triple of rows, (N, 3), whether its negative has another text than its positive, (N,)."""
        return self.of(triples[:, 1]) != self.of(triples[:, 2])


def without_twins(
    negatives: Mapping[str, list[str]], relevant: Mapping[str, list[str]], passages: Texts, marks: TextMarks
) -> tuple[dict[str, list[str]], int]:
    """Leave out negatives with the text of a passage that answers their query: the same text can't be both.

    Args:
        negatives: passages by query id.
        relevant: passages by query id.
        passages: gives the rows of both.
        marks: of these rows.

    Returns:
        The others by query id, and how many were left out.
    """
    kept, left_out = {}, 0
    ordered = iter(negatives)
    while queries := list(islice(ordered, QUERIES)):
        pools = [(relevant.get(query, ()), negatives[query]) for query in queries]
        found = iter(marks.of(passages.rows([key for good, bad in pools for key in (*good, *bad)])).tolist())
        for query, (good, bad) in zip(queries, pools, strict=True):
            taken = set(islice(found, len(good)))
            kept[query] = [key for key, text in zip(bad, islice(found, len(bad)), strict=True) if text not in taken]
            left_out += len(bad) - len(kept[query])
    return kept, left_out
