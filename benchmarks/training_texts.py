"""Triples to train on: drawn words, with the lengths of MS MARCO's texts, batched by the real stream."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.rankers import TOKENIZER
from benchmarks.synthetic import Drawn, Sizes, passages, queries
from benchmarks.words import Words
from rankdistil.data.batches.groups import ListedGroups
from rankdistil.data.batches.stream import WINDOW, GroupStream, Size
from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.data.records import PairBatch
from rankdistil.models.checkpoints import load_tokenizer

LENGTH = 128  # tokens of a pair at most, and what the naive step pads to
TRIPLES = 8  # of a batch: 16 pairs


class StoredTexts:
    """Texts whose tokens are known, as those of a token store are."""

    def __init__(self, words: Words, drawn: list[Drawn], budget: int) -> None:
        segments = [words.tokens(part.words, part.lengths) for part in drawn]
        self._tokens = Segment.of([row[:budget] for segment in segments for row in segment.rows()])
        lines = b"".join(words.lines(part.ids, part.words, part.lengths) for part in drawn).decode()
        self.texts = [line.partition("\t")[2] for line in lines.splitlines()]

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Find texts by id."""
        return np.array(ids, dtype=np.int64)

    def names(self, rows: NDArray[np.integer]) -> tuple[str, ...]:
        """Return the ids of rows."""
        return tuple(map(str, rows.tolist()))

    def lengths(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the tokens of rows."""
        return self._tokens.lengths[rows]

    def gather(self, rows: NDArray[np.integer]) -> Segment:
        """Return the token ids of rows."""
        return self._tokens.take(rows)


class Work(NamedTuple):
    """What every variant trains on.

    Attributes:
        grouped: batches as the stream makes them, of similar length.
        arbitrary: the same pairs in arbitrary order, padded to ``LENGTH``.
        triples: the same once more, as texts: query, positive, negative.
    """

    grouped: list[PairBatch]
    arbitrary: list[PairBatch]
    triples: list[tuple[str, str, str]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Real tokens of each pair."""
        return np.concatenate([batch.attention_mask.sum(1).numpy() for batch in self.grouped])


def draw_work(batches: int, tokens: int | None, seed: int) -> Work:
    """Draw triples and batch them.

    Args:
        batches: to draw; each is of ``TRIPLES`` triples, or of as many as ``tokens`` allow.
        tokens: of a batch, padding included, as ``data.max_tokens``; None counts triples.
        seed: of all.
    """
    tokenizer = load_tokenizer(TOKENIZER)
    encoder = PairEncoder(tokenizer, LENGTH)
    groups = TRIPLES if tokens is None else max(1, tokens // LENGTH)
    count = max(batches, WINDOW) * groups
    words, sizes = Words(tokenizer), Sizes(passages=2 * count, queries=count, seed=seed)
    asked, answers = (
        StoredTexts(words, list(drawn), encoder.room) for drawn in (queries(words, sizes), passages(words, sizes))
    )
    first = np.arange(count)
    rows = np.stack([first, first, first + count], axis=1)
    stream = GroupStream(ListedGroups(rows), asked, answers, encoder, Size(groups, tokens), seed)
    grouped = list(islice(stream, batches))
    chosen = [tuple(map(int, ids)) for batch in grouped for ids in zip(batch.query_ids, batch.passage_ids, strict=True)]
    chosen = [(query, positive, negative) for (query, positive), (_, negative) in zip(chosen[::2], chosen[1::2], strict=True)]
    order = np.random.default_rng(seed).permutation(len(chosen))
    triples = [(asked.texts[q], answers.texts[p], answers.texts[n]) for q, p, n in (chosen[place] for place in order)]
    return Work(grouped, _arbitrary(grouped, order), triples)


def _arbitrary(grouped: list[PairBatch], order: NDArray[np.int64]) -> list[PairBatch]:
    fields = [
        torch.cat([F.pad(batch[field], (0, LENGTH - batch.input_ids.size(1))) for batch in grouped]) for field in range(3)
    ]
    pairs = torch.from_numpy(np.stack([2 * order, 2 * order + 1], axis=1).reshape(-1))
    size = -(-len(pairs) // len(grouped) // 2) * 2
    groups = torch.arange(size).div(2, rounding_mode="floor")
    return [
        PairBatch(
            *(field[part] for field in fields), torch.arange(len(part)).add(1).remainder(2).float(), groups[: len(part)], (), ()
        )
        for part in pairs.split(size)
    ]
