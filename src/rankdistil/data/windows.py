"""Windows of documents: a text that a pair has no room for is read in overlapping parts, and their scores are united.

A window is a run of a document's tokens. It stands beside the query in a pair of its own, laid out and cut by the one rule of
pairs (``encode.cut_pairs``). Beside a query of more than half the room a window is so short that the rule cuts the query alone.
Where windows begin, and how many there are, follows from query and document, never from other documents.

Source: Dai & Callan 2019, "Deeper text understanding for IR with contextual neural language modeling", for FirstP, MaxP and the
sum (here a mean, which doesn't grow with a document), and for windows that take over the label of their document.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

AGGREGATES = {"max": "MaxP", "first": "FirstP", "mean": "the mean of their scores"}
RICHEST = -1  # in place of a window's number: the one with the most of the query's tokens

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Plain settings of ``data.windows``.

    Attributes:
        stride: tokens from the beginning of a window to that of the next one. (Elsewhere it is what two windows share.)
        most: windows of a document at most; what lies behind them is cut.
        size: tokens of a window at most; None for as many as the query leaves.
        aggregate: what the score of a document is: ``max`` (MaxP) or ``mean`` of its windows' scores, or ``first`` (FirstP):
            that of the first window, which alone is read.
        top: how many of the highest scores ``mean`` is of; None for all.
    """

    stride: int
    most: int
    size: int | None = None
    aggregate: str = "max"
    top: int | None = None

    def __post_init__(self) -> None:
        for name in ("stride", "most", "size", "top"):
            value = getattr(self, name)
            if value is None and name in ("size", "top"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                null = ", or null" if name in ("size", "top") else ""
                raise ValueError(f"windows.{name} is {value!r}; expected a whole number of at least 1{null}.")
        if self.aggregate not in AGGREGATES:
            raise ValueError(f"windows.aggregate is {self.aggregate!r}; expected one of {', '.join(AGGREGATES)}.")
        if self.size is not None and self.stride > self.size:
            raise ValueError(
                f"windows.stride is {self.stride}, and windows.size {self.size}: tokens between two windows would never be "
                "read. Set the stride to the size at most; half of it is usual."
            )
        if self.top is not None and self.aggregate != "mean":
            raise ValueError(f"windows.top has no effect beside windows.aggregate={self.aggregate}. Leave it out.")

    @classmethod
    def of(cls, values: object, key: str = "windows") -> "Windows | None":
        """Read settings.

        Args:
            values: by name; None for no windows.
            key: that they stand under, for messages.

        Raises:
            ValueError: for a key that there isn't, one that is missing, or a value out of range.
        """
        if values is None:
            return None
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise ValueError(f"{key} is {values!r}; expected null, or a mapping with stride and most (size, aggregate, top).")
        if wrong := [name for name in values if name not in known]:
            raise ValueError(f"{key}.{wrong[0]} is no setting; the keys are {', '.join(known)}.")
        if missing := [name for name in ("stride", "most") if name not in values]:
            raise ValueError(f"{key} lacks {' and '.join(missing)}. Example: {key}={{stride: 64, most: 16, size: 128}}")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{key.removesuffix('windows')}{error}") from None

    def values(self) -> dict[str, Any]:
        """Return the settings as plain values, as ``of`` reads them."""
        return asdict(self)

    @property
    def read(self) -> int:
        """Windows of a document that are read at most."""
        return 1 if self.aggregate == "first" else self.most

    def told(self) -> str:
        """Say it in words."""
        size = "as many tokens as the query leaves" if self.size is None else f"{self.size} tokens"
        if self.aggregate == "first":
            return f"the first window, of {size} (FirstP)"
        score = AGGREGATES[self.aggregate] if self.top is None else f"the mean of the {self.top} highest scores"
        return f"windows of {size}, one every {self.stride}, {self.most} at most ({score})"

    def reach(self, room: int) -> int:
        """Tokens of a document that are read at most, where a pair has room for ``room``."""
        return room if self.aggregate == "first" else max(room, (self.most - 1) * self.stride + min(self.size or room, room))

    def sizes(self, queries: Lengths, room: int) -> Lengths:
        """Tokens that a window has at most beside queries of so many tokens, (N,)."""
        left = room - np.minimum(queries, (room + 1) // 2)
        return left if self.size is None else np.minimum(left, self.size)

    def counts(self, queries: Lengths, documents: Lengths, room: int) -> Lengths:
        """Say how many windows documents have, (N,), 1 at least.

        Args:
            queries: tokens of each query, (N,).
            documents: tokens of the document beside it, (N,).
            room: tokens that query and window may have together.
        """
        sizes = self.sizes(queries, room)
        steps = np.minimum(self.stride, sizes)  # beside a long query windows are shorter, and still leave no gap
        return np.clip(1 - (sizes - documents) // steps, 1, self.read)

    def places(self, queries: Lengths, documents: Lengths, numbers: Lengths, room: int) -> tuple[Lengths, Lengths]:
        """Say where windows are.

        Args:
            queries: as for ``counts``.
            documents: as for ``counts``.
            numbers: of the window of each document, from 0, (N,).
            room: as for ``counts``.

        Returns:
            Tokens before it and tokens in it, (N,) each.
        """
        sizes = self.sizes(queries, room)
        starts = numbers * np.minimum(self.stride, sizes)
        return starts, np.minimum(sizes, documents - starts)

    def unite(self, scores: NDArray[np.float32], counts: Lengths) -> NDArray[np.float32]:
        """Make the scores of documents of those of their windows; of a lone window it is its own, to the bit.

        Args:
            scores: of all windows, those of a document one behind the other, (sum of counts,).
            counts: windows of each document, (N,).

        Returns:
            (N,).
        """
        if not len(counts):
            return np.zeros(0, np.float32)
        starts = counts.cumsum() - counts
        if self.aggregate == "first":
            return scores[starts]
        if self.aggregate == "max":
            return np.maximum.reduceat(scores, starts)
        falling = np.where(np.isnan(scores), -np.inf, -scores)  # one that is no number comes first, so that it isn't left out
        order = np.lexsort((falling, np.repeat(np.arange(len(counts)), counts)))
        place = np.arange(len(scores)) - np.repeat(starts, counts)
        kept = counts if self.top is None else np.minimum(counts, self.top)
        counted = np.where(place < np.repeat(kept, counts), scores[order].astype(np.float64), 0.0)
        return (np.add.reduceat(counted, starts) / kept).astype(np.float32)


def read_windows(word: str, key: str) -> dict[str, Any] | bool:
    """Read a word of a command line: settings as JSON, or ``none``, which gives False.

    Args:
        word: the word.
        key: that it was given for, for messages.

    Raises:
        ValueError: for anything else.
    """
    if word == "none":
        return False
    try:
        found = json.loads(word)
    except ValueError:
        raise ValueError(f'{key} is {word!r}; expected none, or JSON such as {{"stride": 64, "most": 16}}.') from None
    return Windows.of(found if isinstance(found, dict) else str(found), key).values()


def draws(seed: int, epoch: int, queries: tuple[str, ...], passages: tuple[str, ...]) -> Lengths:
    """Draw the window that each pair is trained on in an epoch, by ids alone: numbers, to be taken modulo its windows, (N,)."""
    names = (f"{seed} {epoch} {query}\0{passage}" for query, passage in zip(queries, passages, strict=True))
    hashes = (blake2b(name.encode(), digest_size=7).digest() for name in names)
    return np.fromiter((int.from_bytes(each) for each in hashes), np.int64, len(queries))


def richest(query: NDArray[np.integer], document: NDArray[np.integer], starts: Lengths, lengths: Lengths) -> int:
    """Find the window that holds the most of a query's tokens, each counted once; of several the first.

    It stands for a relevant document in training: a window drawn at random would be called relevant, and mostly isn't. Blocks
    chosen by words in common with the query are those of Li & Gaussier 2021, "KeyBLD: selecting key blocks with local
    pre-ranking for long document information retrieval".

    Args:
        query: its tokens.
        document: its tokens.
        starts: of each window.
        lengths: of each window.
    """
    shared = np.isin(document, query)
    parts = (slice(start, start + length) for start, length in zip(starts.tolist(), lengths.tolist(), strict=True))
    return int(np.argmax([len(np.unique(document[part][shared[part]])) for part in parts]))
