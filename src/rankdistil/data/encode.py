"""Tokenisation and batching: texts to token ids, pairs cut by one rule wherever they are scored, padded batches of them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankdistil.data.records import Pair, PairBatch
from rankdistil.data.windows import RICHEST, Windows, richest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Segment(NamedTuple):
    """Token ids of several texts.

    Attributes:
        tokens: of all texts, one after the other, (sum of lengths,).
        lengths: tokens of each text, int64, (N,).
        whole: tokens that each text had before it was cut, (N,); None if none was cut.
    """

    tokens: NDArray[np.integer]
    lengths: NDArray[np.int64]
    whole: NDArray[np.integer] | None = None

    @classmethod
    def of(cls, rows: list[list[int]], whole: NDArray[np.integer] | None = None) -> "Segment":
        """Lay lists of token ids end to end."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, lengths.sum()), lengths, whole)

    def split(self, cuts: NDArray[np.int64]) -> tuple["Segment", "Segment"]:
        """Split each text after its first ``cuts`` tokens, (N,)."""
        ends = self.lengths.cumsum()
        before = np.arange(len(self.tokens)) - np.repeat(ends - self.lengths, self.lengths) < np.repeat(cuts, self.lengths)
        return Segment(self.tokens[before], cuts), Segment(self.tokens[~before], self.lengths - cuts)

    def keep(self, counts: NDArray[np.int64], last: bool = False) -> "Segment":
        """Keep ``counts`` tokens of each text, (N,): the first ones, or the last."""
        return self.split(self.lengths - counts)[1] if last else self.split(counts)[0]

    def take(self, rows: NDArray[np.int64]) -> "Segment":
        """Take some texts, (M,), each as often as it is named."""
        return self.parts_of(rows, 0, self.lengths[rows])._replace(whole=None if self.whole is None else self.whole[rows])

    def parts_of(self, rows: NDArray[np.int64], before: NDArray[np.int64] | int, counts: NDArray[np.int64]) -> "Segment":
        """Take a part of some texts, (M,), each as often as it is named: ``counts`` tokens behind the ``before`` first ones."""
        starts = (self.lengths.cumsum() - self.lengths)[rows] + before
        return Segment(self.tokens[np.arange(counts.sum()) + np.repeat(starts - counts.cumsum() + counts, counts)], counts)

    def parts(self, sizes: list[int]) -> Iterator["Segment"]:
        """Yield the first ``sizes[0]`` texts, the next ``sizes[1]`` and so on."""
        ends = self.lengths.cumsum()
        row = start = 0
        for size in sizes:
            end, some = int(ends[row + size - 1]), slice(row, row + size)
            yield Segment(self.tokens[start:end], self.lengths[some], None if self.whole is None else self.whole[some])
            row, start = row + size, end

    def rows(self) -> Iterable[list[int]]:
        """Return the token ids of each text."""
        return (row.tolist() for row in np.split(self.tokens, self.lengths.cumsum()[:-1]))


def cut_pairs(first: NDArray[np.int64], second: NDArray[np.int64], room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say how many tokens of two texts are kept that may be too long together: the longer is cut first.

    This is ``longest_first`` of the Hugging Face tokenizers. A text of up to half the room stays whole, the other has the rest.
    Two longer ones have half of it each; the token that an odd one leaves is the longer's, or the second's.

    Args:
        first: tokens of first texts, (N,).
        second: tokens of the texts beside them, (N,).
        room: tokens that both may have together.

    Returns:
        Tokens of each that are kept, (N,) twice.
    """
    kept = np.minimum(first, np.maximum(room - second, room // 2 + (first > second) * (room % 2)))
    return kept, np.minimum(second, room - kept)


class PairLayout(NamedTuple):
    """Where a tokenizer puts the special tokens of a pair: before the query, between the two, behind the passage.

    Attributes:
        prefix: ids before the query; [CLS] in BERT's layout.
        between: ids between query and passage; [SEP], in RoBERTa's layout </s></s>.
        suffix: ids behind the passage; [SEP].
        second_type: token type of the passage and of what is behind it; before it, it is 0.
    """

    prefix: tuple[int, ...]
    between: tuple[int, ...]
    suffix: tuple[int, ...]
    second_type: int

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerFast") -> "PairLayout":
        """Find out how a tokenizer lays out pairs, by a pair of one letter each.

        Raises:
            ValueError: if it lays them out in no such way.
        """
        own = tokenizer.backend_tokenizer
        own.no_truncation()
        own.no_padding()
        found = own.encode("a", "a")
        texts = [(place, side) for place, side in enumerate(found.sequence_ids) if side is not None]
        query, passage = ([place for place, side in texts if side == number] for number in (0, 1))
        types = found.type_ids if "token_type_ids" in tokenizer.model_input_names else [0] * len(found)
        turn = passage[0] if passage else 0
        if not query or query[-1] >= turn or any(types[:turn]) or len({*types[turn:]}) > 1:
            told = " ".join(found.tokens)
            raise ValueError(
                f"the tokenizer lays out the pair (a, a) as {told!r} with token types {types}; expected query, then passage, "
                "special tokens around and between them, and token type 0 up to the passage, one type from there on."
            )
        bounds = (0, query[0]), (query[-1] + 1, turn), (passage[-1] + 1, len(found))
        return cls(*(tuple(found.ids[start:end]) for start, end in bounds), types[turn])

    def told(self, tokenizer: "PreTrainedTokenizerFast") -> str:
        """Say where special tokens go: ``[CLS] query [SEP] passage [SEP]``."""
        prefix, between, suffix = (tokenizer.convert_ids_to_tokens(list(part)) for part in self[:3])
        return " ".join([*prefix, "query", *between, "passage", *suffix])

    @property
    def special(self) -> int:
        """Number of special tokens of a pair."""
        return len(self.prefix) + len(self.between) + len(self.suffix)

    @property
    def fewest(self) -> int:
        """Tokens of a pair of one token each."""
        return self.special + 2


def assemble(first: Segment, second: Segment, layout: PairLayout, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lay out pairs, [CLS] first [SEP] second [SEP] in BERT's layout, padded to the longest row.

    Args:
        first: queries.
        second: passages, as many.
        layout: where special tokens go.
        pad: id of [PAD].

    Returns:
        Token ids, attention mask and token types, int64, (B, T) each.
    """
    (tokens, lengths, _), (others, other_lengths, _) = first, second
    start, gap, end = map(len, layout[:3])
    between = (start + lengths)[:, None]  # column of what is between
    passage = between + gap
    suffix = passage + other_lengths[:, None]
    rows, columns = np.arange(len(lengths))[:, None], np.arange(int(suffix.max()) + end)
    mask = columns < suffix + end
    behind = columns >= passage
    ids = np.full(mask.shape, pad, dtype=np.int64)
    ids[(columns >= start) & (columns < between)] = tokens
    ids[behind & (columns < suffix)] = others
    ids[:, :start] = layout.prefix
    ids[rows, between + np.arange(gap)] = layout.between
    ids[rows, suffix + np.arange(end)] = layout.suffix
    types = (mask & behind) * np.int64(layout.second_type)
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(types)


FEWEST_SPECIAL = 3  # tokens of any layout: [CLS] query [SEP] passage [SEP]
CHARACTERS = 100  # per token that an overlong text is first read to: most texts have more tokens there than a pair has room for


class PairEncoder:
    """Encodes query-passage pairs, laid out as the tokenizer itself does.

    A pair has at most ``max_length`` tokens, cut as the library's ``longest_first`` does (see ``cut_pairs``), so that an export
    scores alike in all tools that read it. Budgets of query and passage were rejected: no other tool has them.

    Args:
        tokenizer: the tokenizer of the teacher, which its students share.
        max_length: tokens of a pair at most, the special ones among them.
        max_positions: positions that the networks have.
        windows: that longer documents are read in; None cuts them as any other text.

    Attributes:
        layout: where special tokens go.
        room: tokens of query and passage together at most.
        reach: tokens of a text that are looked at at most: the room, or as many as all windows of a document hold.
        pad: id of [PAD].

    Raises:
        ValueError: if there is no room for a token of each or for a window, more than there are positions, or no such layout.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", max_length: int, max_positions: int = 512, windows: Windows | None = None
    ) -> None:
        self.layout = PairLayout.of(tokenizer)
        if max_length < self.layout.fewest:
            raise ValueError(
                f"data.max_length is {max_length}; expected at least {self.layout.fewest}: {self.layout.special} special "
                "tokens, and one of each text."
            )
        if max_length > max_positions:
            raise ValueError(f"data.max_length is {max_length}, but the network has {max_positions} positions. Lower it.")
        self.tokenizer, self._left = tokenizer, tokenizer.truncation_side == "left"
        self.max_length, self.room = max_length, max_length - self.layout.special
        if windows is not None and windows.size is not None and windows.size >= self.room:
            raise ValueError(
                f"windows.size is {windows.size}; expected {self.room - 1} at most: of the {max_length} tokens of a pair "
                f"(data.max_length), {self.layout.special} are special ones, and the query has one at least."
            )
        self.windows, self.reach = windows, self.room if windows is None else windows.reach(self.room)
        self.pad, self._unknown = tokenizer.pad_token_id, tokenizer.unk_token_id  # slow to look up per batch
        # Unigram finds special tokens among its pieces, even in a text that is told to hold none.
        found_in_texts = type(tokenizer.backend_tokenizer.model).__name__ == "Unigram"
        self._special = frozenset(tokenizer.all_special_ids) - {self._unknown} if found_in_texts else frozenset()

    def token_ids(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        """Token ids of texts, without special tokens, cut to a budget on the tokenizer's ``truncation_side``.

        Text is text: a ``[SEP]`` in it is five characters as any others, or unknown, and doesn't end a segment. An overlong
        text is read as far as its budget needs, so that a line of megabytes costs no time.
        """
        return [self._kept(row, budget) for row in self._read(texts, budget)]

    def segment(self, texts: Sequence[str]) -> Segment:
        """Tokenise texts, each cut to what is looked at of any (``reach``)."""
        rows = self._read(texts, self.reach)
        whole = np.fromiter(map(len, rows), np.int64, len(rows))
        if not len(rows) or whole.max() <= self.reach:
            return Segment.of(rows)
        return Segment.of([self._kept(row, self.reach) for row in rows], whole)

    def _read(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        """Token ids of whole texts; of an overlong one at least the budget's, on the side that is kept."""
        own = self.tokenizer.backend_tokenizer  # the library's own call takes a fifth longer: it wraps every result
        own.no_truncation()  # as the tokenizer's last caller may have left it
        own.no_padding()
        if not own.encode_special_tokens:
            own.encode_special_tokens = True

        def read(some: Sequence[str], reach: int) -> list[list[int]]:
            parts = [text[-reach:] if self._left else text[:reach] for text in some]
            return [self._plain(each.ids) for each in own.encode_batch_fast(parts, add_special_tokens=False)]

        reach = CHARACTERS * (budget + 1)
        rows = read(texts, reach)
        # A word that is cut in two has at most so many wrong tokens; only WordPiece has a limit of its own.
        enough = budget + getattr(own.model, "max_input_chars_per_word", CHARACTERS)
        while short := [at for at, row in enumerate(rows) if len(row) < enough and len(texts[at]) > reach]:
            reach *= 2
            for at, row in zip(short, read([texts[at] for at in short], reach), strict=True):
                rows[at] = row
        return rows

    def _plain(self, ids: list[int]) -> list[int]:
        """Read special tokens in a text as unknown ones."""
        if not self._special or self._special.isdisjoint(ids):
            return ids
        return [self._unknown if token in self._special else token for token in ids]

    def _kept(self, ids: list[int], budget: int) -> list[int]:
        return ids[-budget:] if self._left else ids[:budget]

    def cut(self, first: Segment, second: Segment) -> tuple[Segment, Segment]:
        """Cut the pairs that are too long."""
        if not len(first.lengths) or (first.lengths + second.lengths).max() <= self.room:
            return first, second
        # Of two texts that each fill the room, the one that was longer has the odd token.
        kept = cut_pairs(*(part.lengths if part.whole is None else part.whole for part in (first, second)), self.room)
        return first.keep(kept[0], self._left), second.keep(kept[1], self._left)

    def count(self, queries: NDArray[np.int64], documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Say in how many windows documents are read, (N,), by their tokens and those of the query beside each, (N,) both."""
        return self.windows.counts(queries, documents, self.room)

    def window(
        self, first: Segment, texts: Segment, rows: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> tuple[Segment, NDArray[np.int64]]:
        """Take a window of the document beside each query.

        Args:
            first: queries, N of them.
            texts: documents, each once.
            rows: place of each query's document among them, (N,).
            wanted: which window, (N,): a number, modulo those there are, or ``RICHEST``.

        Returns:
            The windows, and their numbers, (N,).
        """
        lengths = texts.lengths[rows]
        counts = self.count(first.lengths, lengths)
        numbers = wanted % counts  # of a lone window 0, RICHEST too
        ends, starts = texts.lengths.cumsum(), first.lengths.cumsum() - first.lengths
        for at in np.flatnonzero((wanted == RICHEST) & (counts > 1)).tolist():
            several = np.arange(counts[at])
            query = first.tokens[starts[at] : starts[at] + first.lengths[at]]
            document = texts.tokens[ends[rows[at]] - lengths[at] : ends[rows[at]]]
            sides = (np.full(len(several), len(side)) for side in (query, document))
            numbers[at] = richest(query, document, *self._places(*sides, several))
        return texts.parts_of(rows, *self._places(first.lengths, lengths, numbers)), numbers

    def windowed(self, first: Segment, second: Segment) -> tuple[Segment, Segment, NDArray[np.int64] | None]:
        """Cut pairs to what fits, after each document was laid out in its windows.

        Returns:
            Queries and windows, those of a document one behind the other; how many each has, (N,), or None without windows.
        """
        if self.windows is None:
            return *self.cut(first, second), None
        counts = self.count(first.lengths, second.lengths)
        rows = np.repeat(np.arange(len(counts)), counts)
        numbers = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
        asked = first.take(rows)
        return *self.cut(asked, self.window(asked, second, rows, numbers)[0]), counts

    def _places(
        self, queries: NDArray[np.int64], documents: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Say where windows are, see ``Windows.places``; they begin at the end of a text that is kept where it is cut."""
        before, counts = self.windows.places(queries, documents, numbers, self.room)
        return (documents - before - counts if self._left else before), counts

    def batch(self, pairs: Sequence[Pair]) -> PairBatch:
        """Encode pairs, cut and padded to the longest."""
        texts = [pair.query for pair in pairs], [pair.passage for pair in pairs]
        inputs = self.assemble(*map(self.segment, texts))
        return PairBatch(
            *inputs,
            labels=torch.zeros(len(pairs)),
            groups=torch.arange(len(pairs)),
            query_ids=tuple(pair.query_id for pair in pairs),
            passage_ids=tuple(pair.passage_id for pair in pairs),
            tokens=int(inputs[1].sum()),
        )

    def assemble(self, first: Segment, second: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """Lay out pairs, cut where they are too long and padded to the longest.

        Returns:
            Token ids, attention mask and token types, int64, (B, T) each.
        """
        return assemble(*self.cut(first, second), self.layout, self.pad)


Rows = NDArray[np.integer]
"""Places of texts, (N,) or (N, K)."""


class Texts(Protocol):
    """Many texts, each at a row."""

    def rows(self, ids: Sequence[str]) -> Rows:
        """Find texts by id: (N,), -1 for one that isn't there."""
        ...

    def names(self, rows: Rows) -> tuple[str, ...]:
        """Return the ids of rows, (N,)."""
        ...

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Return how long the texts are, the same shape; in what unit is the implementation's business."""
        ...

    def tokens(self, rows: Rows) -> NDArray[np.int64]:
        """Count the tokens of rows, (N,)."""
        ...

    def gather(self, rows: Rows) -> Segment:
        """Fetch the token ids of rows, (N,)."""
        ...
