"""Check of one file, in one pass with little memory: what it holds, and every complaint about it.

Ids are kept as 64-bit hashes: of nine million, one pair is mistaken for each other once in half a million checks; training
itself compares the ids.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import eq
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.collections.leaks import mark
from rankdistil.data.collections.texts import known_triples
from rankdistil.data.files import lines as file_lines
from rankdistil.data.files.bad_lines import BadLines, Tally, allowed, distinct, repeated_hashes
from rankdistil.data.files.folder import TextDocPairs
from rankdistil.data.stores.ragged import in_chunks

SHOWN = 20  # complaints of each file
SAMPLED = 10_000  # texts of each file that are tokenised, to see how many are cut


class Listing(Tally):
    """All complaints about one file: counted, each once however often the file is read, and the first ones kept."""

    def __init__(self, file: str) -> None:
        super().__init__(file, "skip")
        self._shown: list[tuple[int, str]] = []
        self._left_out, self._ending, self._all = array("q"), array("q"), array("q")

    @property
    def found(self) -> int:
        """Count the lines that a run may leave out."""
        return _different(self._left_out)

    @property
    def fatal(self) -> int:
        """Count the complaints that end any run."""
        return _different(self._ending)

    def add(self, line: int, complaint: str) -> None:
        """Take down a line that a run may leave out."""
        self._left_out.append(line)
        self._keep(line, f"{self.file}:{line}: {complaint}")

    def refuse(self, line: int, complaint: str) -> None:
        """Take down a line that ends any run."""
        self._end(line, f"{self.file}:{line}: {complaint}")

    def fail(self, message: str) -> None:
        """Take down what ends any run."""
        self._end(0, message)

    def end(self, lines: int) -> None:
        """Say how many lines the file has."""
        self.lines = lines

    def stops(self, on_bad: str) -> bool:
        """Whether a run would end here."""
        return bool(self.fatal) or self.found > (allowed(self.lines or 0) if on_bad == "skip" else 0)

    def shown(self) -> list[str]:
        """Return the first complaints in the order of the lines, and how many more there are."""
        more = _different(self._all) - len(self._shown)
        return [message for _, message in sorted(self._shown)] + ([f"{self.file}: and {more} more."] if more else [])

    def _end(self, line: int, message: str) -> None:
        self._ending.append(hash((line, message)))
        self._keep(line, message)

    def _keep(self, line: int, message: str) -> None:
        self._all.append(hash((line, message)))
        if len(self._shown) < SHOWN and (line, message) not in self._shown:
            self._shown.append((line, message))


def _different(numbers: array) -> int:
    return len(np.unique(np.frombuffer(numbers, np.int64))) if numbers else 0


class Listings(BadLines):
    """The complaints about several files."""

    def of(self, file: Path | str) -> Listing:
        """Return the complaints about a file."""
        return self._files.setdefault(str(file), Listing(str(file)))

    def all(self) -> list[Listing]:
        """Return the complaints about each file, in the order of reading."""
        return list(self._files.values())


class Ids:
    """A multitude of ids, or of anything else that can be hashed."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._order: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: object) -> None:
        """Add an id."""
        self._hashes.append(hash(key))

    def add_all(self, keys: Iterable[object]) -> None:
        """Add several."""
        self._hashes.extend(map(hash, keys))

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Look ids up: the place of each among those that were added, -1 for one that isn't there, (N,)."""
        if not len(self):
            return np.full(len(keys), -1)
        if self._order is None:
            self._order = np.argsort(self.hashes, kind="stable")
        wanted = np.fromiter(map(hash, keys), np.int64, len(keys))
        place = self._order[np.searchsorted(self.hashes, wanted, sorter=self._order).clip(max=len(self) - 1)]
        return np.where(self.hashes[place] == wanted, place, -1)

    @property
    def hashes(self) -> NDArray[np.int64]:
        """Their hashes as they were added, (N,); nothing can be added while they are in use."""
        return np.frombuffer(self._hashes, np.int64) if self._hashes else np.zeros(0, np.int64)

    def repetitions(self) -> int:
        """Count those that were there already when they were added."""
        return len(self) - _different(self._hashes)

    def repeated(self) -> set[int]:
        """Return the hashes of those that were added more than once."""
        return repeated_hashes(np.array(self._hashes, dtype=np.int64))


class AnyIds(Ids):
    """Stands in for the ids of a file that can't be read: everything is among them."""

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Find each: 0, (N,)."""
        return np.zeros(len(keys), np.int64)


class TextsFound:
    """The texts of a file.

    Args:
        room: tokens that each has at most.
        keep: keep the texts' marks by id too.

    Attributes:
        ids: of all.
        empty: ids of texts without a word.
        marks: mark of each text (``same_text.mark``) by id, 0 for one without a word.
        sample: up to ``SAMPLED`` of the texts, each as likely as any other.
    """

    def __init__(self, room: int, keep: bool = False) -> None:
        self.ids, self.empty = Ids(), set()
        self.marks: dict[str, int] = {}
        self.sample: list[str] = []
        self._random = Random(0)
        self._room, self._keep = room, keep
        self._words = array("I")
        self._marks = array("q")

    def add(self, key: str, text: str) -> None:
        """Count a text."""
        words = text.split()
        self.ids.add(key)
        self._words.append(len(words))
        if len(self.sample) < SAMPLED:
            self.sample.append(text)
        elif (place := self._random.randrange(len(self.ids))) < SAMPLED:
            self.sample[place] = text
        if not words:
            self.empty.add(key)
        self._marks.append(mark(text) if words else 0)
        if self._keep:
            self.marks.setdefault(key, self._marks[-1])

    def same(self, some: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
        """Say which of N pairs of ids, both there and of texts with words, name one text, (N,)."""
        if not self._marks:
            return np.zeros(len(some), np.bool_)
        places = [self.ids.rows(keys) for keys in (some, others)]
        one, other = (np.frombuffer(self._marks, np.int64)[place] for place in places)
        return (one == other) & (one != 0) & (np.minimum(*places) >= 0)

    def _twins(self) -> int:
        """Count the texts that another id has too."""
        first = np.unique(self.ids.hashes, return_index=True)[1]
        marks = np.array(self._marks, np.int64)[first]
        counts = np.unique(marks[marks != 0], return_counts=True)[1]
        return int(counts[counts > 1].sum())

    def told(self, what: str) -> str:
        """Say what was counted; ``what`` the texts are."""
        if not self._words:
            return f"0 {what}"
        words, room = np.array(self._words), self._room
        middle, most = (int(np.percentile(words, share, method="lower")) for share in (50, 95))
        counts = {
            "empty": len(self.empty),
            f"of more than {room} words, cut to {room} tokens or fewer": int((words > room).sum()),
            "with the text of another": self._twins(),
        }
        parts = [f"{len(words)} {what}", f"words: {middle} median, {most} at 95 %, {words.max()} at most"]
        return "; ".join(parts + [f"{count} {which}" for which, count in counts.items() if count])


ANYTHING = TextsFound(0)
ANYTHING.ids = AnyIds()


def read_texts(path: Path, columns: file_lines.Columns | None, listings: Listings, found: TextsFound) -> TextsFound:
    """Read passages or queries; ids that stand twice with different texts are complaints."""
    for _, key, text in file_lines.numbered_texts(path, columns, listings):
        found.add(key, text)
    if twice := found.ids.repeated():
        again = file_lines.numbered_texts(path, columns, Listings())  # whose complaints were heard
        for _ in distinct(again, listings.of(path), twice):
            pass
    return found


def count_text_triples(rows: TextDocPairs, again: TextDocPairs, room: int) -> tuple[str, tuple[TextsFound, TextsFound]]:
    """Count triples of texts.

    Args:
        rows: the file, with its complaints.
        again: the same without them.
        room: tokens that a text has at most.

    Returns:
        What was counted, in words; the queries, and the passages.
    """
    queries, passages = TextsFound(room, keep=True), TextsFound(room)
    for key, text in rows.texts(0):
        queries.add(key, text)
    for key, text in again.texts(1, 2):
        passages.add(key, text)
    triples = same = 0
    for chunk in in_chunks((row for _, row in again.numbered()), SAMPLED):
        triples += len(chunk)
        same += int(passages.same(*([row[place] for row in chunk] for place in (1, 2))).sum())
    told = f"{triples} triples of texts; " + (f"{same} whose negative has the positive's text; " if same else "")
    return f"{told}{queries.told('queries')}; {passages.told('passages')}", (queries, passages)


CHUNK = 1 << 14

Numbered = Iterable[tuple[int, Any]]
"""(line, record)"""


class Named(NamedTuple):
    """Attributes: queries: of the split; passages: of its collection."""

    queries: TextsFound
    passages: TextsFound


class Judged(NamedTuple):
    """Attributes: told: in words; queries: with a judgment; answered: with a relevant passage that is there."""

    told: str
    queries: set[str]
    answered: set[str]


def count_judgments(rows: Numbered, named: Named, level: int, listing: Listing, allow_unknown: bool) -> Judged:
    """Count judgments; unknown ids are complaints unless they are allowed.

    Args:
        rows: (line, judgment).
        named: what they may name.
        level: lowest grade that is relevant.
        listing: takes complaints.
        allow_unknown: of ``data``.
    """
    counts: Counter[int] = Counter()
    unknown = {"passage": 0, "query": 0}
    judged, answered, every = set(), set(), Ids()
    for chunk in in_chunks(rows, CHUNK):
        passages = named.passages.ids.rows([row.doc_id for _, row in chunk])
        queries = named.queries.ids.rows([row.query_id for _, row in chunk])
        for (line, row), passage, query in zip(chunk, passages.tolist(), queries.tolist(), strict=True):
            counts[row.relevance] += 1
            every.add((row.query_id, row.doc_id))
            for what, key, place in (("passage", row.doc_id, passage), ("query", row.query_id, query)):
                unknown[what] += place < 0
                if place < 0 and not allow_unknown:
                    listing.refuse(line, f"{what} {key!r} is not there; data.allow_unknown=true would accept that.")
            if query >= 0:
                judged.add(row.query_id)
                if passage >= 0 and row.relevance >= level:
                    answered.add(row.query_id)
    if not judged:
        listing.fail(f"{listing.file}: no query of the split has a judgment. Do queries and qrels belong together?")
    grades = ", ".join(f"{grade}: {counts[grade]}" for grade in sorted(counts))
    parts = {
        "of unknown passages": unknown["passage"],
        "of unknown queries": unknown["query"],
        "repeated": every.repetitions(),
        "queries without a judgment": len(named.queries.ids) - len(judged),
        f"judged queries without a passage of grade {level} or more": len(judged - answered),
    }
    told = [f"{counts.total()} judgments of {len(judged)} queries", f"grades {grades}", *_some(parts)]
    return Judged("; ".join(told), judged, answered)


class Listed(NamedTuple):
    """Attributes: told: in words; queries: that triples are of."""

    told: str
    queries: set[str]


def count_triples(rows: Numbered, named: Named, listing: Listing) -> Listed:
    """Count triples; those that name an unknown query or passage are complaints."""
    every, queries = Ids(), set()
    empty = same = twins = 0
    for chunk in in_chunks(rows, CHUNK):
        asked, positives, negatives = zip(*(row[:3] for _, row in chunk), strict=True)
        columns = [named.queries.ids.rows(asked), *(named.passages.ids.rows(ids) for ids in (positives, negatives))]
        known_triples(*zip(*chunk, strict=True), columns, listing)
        queries.update(asked)
        every.add_all(row for _, row in chunk)
        empty += sum(key in named.passages.empty for key in positives)
        same += sum(map(eq, positives, negatives))
        twins += int((named.passages.same(positives, negatives) & ~np.fromiter(map(eq, positives, negatives), np.bool_)).sum())
    parts = {
        "with an empty positive": empty,
        "whose negative is the positive": same,
        "whose negative has the positive's text": twins,
        "repeated": every.repetitions(),
    }
    return Listed("; ".join([f"{len(every)} triples of {len(queries)} queries", *_some(parts)]), queries)


class Ranked(NamedTuple):
    """Attributes: told: in words; queries: of the split, with candidates."""

    told: str
    queries: set[str]


def count_candidates(rows: Numbered, named: Named, listing: Listing, again: Numbered) -> Ranked:
    """Count candidates; unknown and repeated passages are complaints.

    Args:
        rows: (line, candidate).
        named: what they may name; further queries do no harm.
        listing: takes complaints.
        again: the same rows, read where one stands twice.
    """
    hits: Counter[str] = Counter()
    pairs, other = Ids(), 0
    for chunk in in_chunks(rows, CHUNK):
        passages = named.passages.ids.rows([row.doc_id for _, row in chunk])
        queries = named.queries.ids.rows([row.query_id for _, row in chunk])
        other += int((queries < 0).sum())
        for index in np.flatnonzero(queries >= 0).tolist():
            line, row = chunk[index]
            hits[row.query_id] += 1
            pairs.add((row.query_id, row.doc_id))
            if passages[index] < 0:
                listing.add(line, f"passage {row.doc_id!r} is not in the collection. Do the files belong together?")
    twice, first = pairs.repeated(), {}
    for line, row in again if twice else ():
        pair = row.query_id, row.doc_id
        if hash(pair) in twice and first.setdefault(pair, line) != line:
            listing.refuse(line, f"query {pair[0]} names passage {pair[1]} again (line {first[pair]}). Remove the repetition.")
    told = [f"{hits.total()} candidates of {len(hits)} queries"]
    if hits:
        told.append(f"{min(hits.values())} to {max(hits.values())} each")
    return Ranked("; ".join([*told, *_some({"lines of other queries": other})]), set(hits))


def _some(counts: dict[str, int]) -> list[str]:
    return [f"{count} {what}" for what, count in counts.items() if count > 0]
