"""Splits kept apart: held-out queries, and leaks: queries that two splits share or that a ranker was trained on, alike texts.

A run's file holds those of its parents too: a student learns from its teacher's memory. Asking the config was rejected: files
change, and each test would have to read forty million triples. The price here is 16 bytes a query.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b, sha256
from itertools import combinations, islice
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.encode import Rows, Texts
from rankdistil.data.records import Qrels
from rankdistil.files import written

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


FILE = "trained_on.npy"
EXAMPLES = 3


class Leak(NamedTuple):
    """Test queries that a ranker, or what it learnt from, was trained on.

    Attributes:
        queries: how many have the text of a training query.
        of: how many there are.
        examples: ids of the first ones.
        other_text: how many have the id of a training query, but another text.
    """

    queries: int
    of: int
    examples: list[str]
    other_text: int

    def told(self) -> str:
        """Say how many, with examples."""
        return f"{self.queries} of {self.of} test queries, for example {', '.join(self.examples)}"


def write_trained_on(folder: Path, queries: Mapping[str, str], learnt_from: Iterable[Path]) -> None:
    """Write what a run is trained on into its folder.

    Args:
        folder: of the run.
        queries: its training queries, text by id.
        learnt_from: folders of the runs that it starts or learns from; of those without such a file nothing is known.
    """
    own = np.array([_marks(key, text) for key, text in queries.items()], np.int64).reshape(-1, 2)
    found = [marks for marks in map(_read, learnt_from) if marks is not None]
    with written(folder / FILE) as place, place.open("wb") as file:
        np.save(file, np.unique(np.concatenate([own, *found]), axis=0))


def find_leak(folder: Path, queries: Mapping[str, str]) -> Leak | None:
    """Compare test queries with those that the ranker of a run was trained on; None where that isn't known.

    Args:
        folder: of the run.
        queries: of the test, text by id.

    Raises:
        ValueError: if the run's file is damaged.
    """
    trained = _read(folder)
    if trained is None:
        return None
    ids, texts = (set(column) for column in trained.T.tolist())
    marks = {key: _marks(key, text) for key, text in queries.items()}
    leaked = sorted(key for key, (_, text) in marks.items() if text in texts and normal(queries[key]))
    other = sum(own in ids and text not in texts for own, text in marks.values())
    return Leak(len(leaked), len(queries), leaked[:EXAMPLES], other)


def _marks(key: str, text: str) -> tuple[int, int]:
    return digest(key), mark(text)


def _read(folder: Path) -> NDArray[np.int64] | None:
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it to test without knowing what was trained on.") from None
    if found.dtype != np.int64 or found.ndim != 2 or found.shape[1] != 2:
        raise ValueError(f"{path} is damaged. Remove it to test without knowing what was trained on.")
    return found


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
