"""Counts of what files hold: texts, judgments, triples and candidates, each in one pass with little memory.

Ids are kept as 64-bit hashes: of nine million, one pair is mistaken for each other once in half a million checks; training
itself compares the ids.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.batches.groups import row_chunks
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import mark
from rankdistil.data.collections.texts import numbered, training_triples
from rankdistil.data.encode import Rows
from rankdistil.data.stores.ragged import in_chunks

SAMPLED = 10_000  # texts of each file that are tokenised, to see how many are cut
CHUNK = 1 << 14


class TextsFound:
    """Passages or queries; each has a row, as in a store.

    Args:
        texts: id and text of each.
        room: tokens that each has at most.

    Attributes:
        marks: mark of each text (``leaks.mark``), (N,).
        empty: whether it is without a word, (N,).
        sample: up to ``SAMPLED`` of the texts, each as likely as any other.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], room: int) -> None:
        hashes, marks, words = array("q"), array("q"), array("I")
        self.sample: list[str] = []
        random = Random(0)
        for count, (key, text) in enumerate(texts, 1):
            hashes.append(hash(key))
            marks.append(mark(text))
            words.append(len(text.split()))
            if count <= SAMPLED:
                self.sample.append(text)
            elif (place := random.randrange(count)) < SAMPLED:
                self.sample[place] = text
        self._hashes, self.marks, self._words = np.array(hashes), np.array(marks), np.array(words)
        self._order, self.empty = self._hashes.argsort(), self._words == 0
        self._room = room

    def __len__(self) -> int:
        return len(self.marks)

    def rows(self, ids: Sequence[str]) -> Rows:
        """Find texts by id: (N,), -1 for one that isn't there."""
        if not len(self):
            return np.full(len(ids), -1)
        wanted = np.fromiter(map(hash, ids), np.int64, len(ids))
        place = self._order[np.searchsorted(self._hashes, wanted, sorter=self._order).clip(max=len(self) - 1)]
        return np.where(self._hashes[place] == wanted, place, -1)

    def of(self, rows: Rows) -> NDArray[np.int64]:
        """Return the marks of rows, (N,), as ``leaks.TextMarks`` does."""
        return self.marks[rows]

    def told(self, what: str) -> str:
        """Say what was counted; ``what`` the texts are."""
        if not len(self):
            return f"0 {what}"
        words, room = self._words, self._room
        middle, most = (int(np.percentile(words, share, method="lower")) for share in (50, 95))
        shared = np.unique(self.marks[~self.empty], return_counts=True)[1]
        counts = {
            "empty": int(self.empty.sum()),
            f"of more than {room} words, cut to {room} tokens or fewer": int((words > room).sum()),
            "with the text of another": int(shared[shared > 1].sum()),
        }
        parts = [f"{len(self)} {what}", f"words: {middle} median, {most} at 95 %, {words.max()} at most"]
        return "; ".join(parts + _some(counts))


def count_lines(reader: Reader, part: str, what: str) -> tuple[str, set[int]]:
    """Count the ``qrels`` or ``docpairs`` of texts that can't be read; ``what`` they are."""
    return f"{sum(1 for _ in numbered(reader, part)[1])} {what}", set()


def count_judgments(
    reader: Reader, queries: TextsFound, passages: TextsFound, level: int, answered_only: bool
) -> tuple[str, set[int]]:
    """Count judgments.

    Args:
        reader: the split.
        queries: that they may name.
        passages: that they may name.
        level: lowest grade that is relevant.
        answered_only: return queries with a relevant passage only.

    Returns:
        What was counted, in words; the rows of judged queries.
    """
    grades, unknown, pairs, judged, answered = Counter(), Counter(), array("q"), set(), set()
    for chunk in in_chunks((row for _, row in numbered(reader, "qrels")[1]), CHUNK):
        query = queries.rows([row.query_id for row in chunk])
        passage = passages.rows([row.doc_id for row in chunk])
        relevant = np.array([row.relevance >= level for row in chunk])
        grades.update(row.relevance for row in chunk)
        pairs.extend(hash((row.query_id, row.doc_id)) for row in chunk)
        unknown.update({"passages": int((passage < 0).sum()), "queries": int((query < 0).sum())})
        judged.update(query[query >= 0].tolist())
        answered.update(query[(query >= 0) & (passage >= 0) & relevant].tolist())
    parts = {
        "of unknown passages": unknown["passages"],
        "of unknown queries": unknown["queries"],
        "repeated": _repetitions(pairs),
        "queries without a judgment": len(queries) - len(judged),
        f"judged queries without a passage of grade {level} or more": len(judged - answered),
    }
    told = [f"{grades.total()} judgments of {len(judged)} queries"]
    told.append(f"grades {', '.join(f'{grade}: {grades[grade]}' for grade in sorted(grades))}")
    return "; ".join(told + _some(parts)), answered if answered_only else judged


class TriplesFound(NamedTuple):
    """Attributes: count: of triples; queries: rows of theirs; same_text: those whose negative has the positive's text."""

    count: int
    queries: set[int]
    same_text: int


def count_triples(reader: Reader, queries: TextsFound, passages: TextsFound) -> tuple[str, TriplesFound]:
    """Count triples, in words and for comparisons."""
    tally, triples = training_triples(reader)
    every, asked, counts, same_text = array("q"), set(), Counter(), 0
    for rows in row_chunks(triples, queries, passages, tally):
        query, positive, negative = rows.T
        every.extend(map(hash, map(tuple, rows.tolist())))
        asked.update(query.tolist())
        same, twins = positive == negative, passages.of(positive) == passages.of(negative)
        counts["with an empty positive"] += int(passages.empty[positive].sum())
        counts["whose negative is the positive"] += int(same.sum())
        counts["whose negative has the positive's text"] += int((twins & ~same).sum())
        same_text += int(twins.sum())
    counts["repeated"] = _repetitions(every)
    side = "" if reader.holdout is None else " on this side of data.holdout"
    told = [f"{len(every)} triples of {len(asked)} queries{side}", *_some(counts)]
    return "; ".join(told), TriplesFound(len(every), asked, same_text)


def count_candidates(reader: Reader, queries: Iterable[str] | None, run: str | None = None) -> tuple[str, int]:
    """Count the candidates that a file names for some queries (None: any), in words; and how many there are.

    Args:
        reader: the split.
        queries: whose candidates are counted.
        run: see ``Reader.candidates``.
    """
    every = (reader.scored if run is None else reader.mined(run)).table().counts()
    own = [every[query] for query in (every if queries is None else queries) if query in every]
    told = [f"{sum(own)} candidates of {len(own)} queries"] + ([f"{min(own)} to {max(own)} each"] if own else [])
    return "; ".join(told + _some({"lines of other queries": sum(every.values()) - sum(own)})), sum(own)


def _some(counts: dict[str, int]) -> list[str]:
    return [f"{count} {what}" for what, count in counts.items() if count > 0]


def _repetitions(hashes: array) -> int:
    """Count the hashes, signed and of eight bytes, that stand behind an equal one."""
    return len(hashes) - len(np.unique(np.array(hashes)))
