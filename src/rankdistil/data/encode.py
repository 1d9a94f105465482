"""Texts to token ids, and pairs of them to batches: a pair that is too long is cut by one rule wherever it is scored."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rankdistil.data.assemble import Segment, assemble, cut_pairs
from rankdistil.data.batch import PairBatch
from rankdistil.data.records import Pair

if TYPE_CHECKING:  # the library takes seconds to import
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = 3  # [CLS] query [SEP] passage [SEP]
FEWEST_TOKENS = SPECIAL_TOKENS + 2
CHARACTERS = 100  # per token that an overlong text is first read to: most texts have more tokens there than a pair has room for


class PairEncoder:
    """Encodes query-passage pairs for a BERT.

    A pair has at most ``max_length`` tokens, cut as the library's ``longest_first`` does (see ``cut_pairs``), so that an export
    scores alike in all tools that read it. Budgets of query and passage were rejected: no other tool has them.

    Args:
        tokenizer: the tokenizer of the teacher, which its students share.
        max_length: tokens of a pair at most, the special ones among them.
        max_positions: positions that the networks have.

    Attributes:
        room: tokens of query and passage together at most.

    Raises:
        ValueError: if there is no room for a token of each, or more than there are positions.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", max_length: int, max_positions: int = 512) -> None:
        if max_length < FEWEST_TOKENS:
            raise ValueError(
                f"data.max_length is {max_length}; expected at least {FEWEST_TOKENS}: {SPECIAL_TOKENS} special tokens, and one "
                "of each text."
            )
        if max_length > max_positions:
            raise ValueError(f"data.max_length is {max_length}, but the network has {max_positions} positions. Lower it.")
        self.tokenizer, self._left = tokenizer, tokenizer.truncation_side == "left"
        self.max_length, self.room = max_length, max_length - SPECIAL_TOKENS
        self._special = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id  # slow to look up per batch

    def token_ids(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        """Token ids of texts, without special tokens, cut to a budget on the tokenizer's ``truncation_side``.

        Text is text: a ``[SEP]`` in it is five characters as any others, and doesn't end a segment. An overlong text is read as
        far as its budget needs, so that a line of megabytes costs no time.
        """
        return [self._kept(row, budget) for row in self._read(texts, budget)]

    def segment(self, texts: Sequence[str]) -> Segment:
        """Tokenise texts, each cut to what the longest pair has room for."""
        rows = self._read(texts, self.room)
        whole = np.fromiter(map(len, rows), np.int64, len(rows))
        if not len(rows) or whole.max() <= self.room:
            return Segment.of(rows)
        return Segment.of([self._kept(row, self.room) for row in rows], whole)

    def _read(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        """Token ids of whole texts; of an overlong one at least the budget's, on the side that is kept."""
        own = self.tokenizer.backend_tokenizer  # the library's own call takes a fifth longer: it wraps every result
        own.no_truncation()  # as the tokenizer's last caller may have left it
        own.no_padding()
        if not own.encode_special_tokens:
            own.encode_special_tokens = True

        def read(some: Sequence[str], reach: int) -> list[list[int]]:
            parts = [text[-reach:] if self._left else text[:reach] for text in some]
            return [each.ids for each in own.encode_batch_fast(parts, add_special_tokens=False)]

        reach = CHARACTERS * (budget + 1)
        rows = read(texts, reach)
        enough = budget + own.model.max_input_chars_per_word  # a word that is cut in two has at most so many wrong tokens
        while short := [at for at, row in enumerate(rows) if len(row) < enough and len(texts[at]) > reach]:
            reach *= 2
            for at, row in zip(short, read([texts[at] for at in short], reach), strict=True):
                rows[at] = row
        return rows

    def _kept(self, ids: list[int], budget: int) -> list[int]:
        return ids[-budget:] if self._left else ids[:budget]

    def cut(self, first: Segment, second: Segment) -> tuple[Segment, Segment]:
        """Cut the pairs that are too long."""
        if not len(first.lengths) or (first.lengths + second.lengths).max() <= self.room:
            return first, second
        # Of two texts that each fill the room, the one that was longer has the odd token.
        kept = cut_pairs(*(part.lengths if part.whole is None else part.whole for part in (first, second)), self.room)
        return first.keep(kept[0], self._left), second.keep(kept[1], self._left)

    def batch(self, pairs: Sequence[Pair]) -> PairBatch:
        """Encode pairs, cut and padded to the longest."""
        texts = [pair.query for pair in pairs], [pair.passage for pair in pairs]
        return PairBatch(
            *self.assemble(*map(self.segment, texts)),
            labels=torch.zeros(len(pairs)),
            groups=torch.arange(len(pairs)),
            query_ids=tuple(pair.query_id for pair in pairs),
            passage_ids=tuple(pair.passage_id for pair in pairs),
        )

    def assemble(self, first: Segment, second: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """Lay out [CLS] first [SEP] second [SEP], cut where it is too long and padded to the longest.

        Returns:
            Token ids, attention mask and token types, int64, (B, T) each.
        """
        return assemble(*self.cut(first, second), *self._special)
