"""Texts to token ids, and pairs of them to batches: a pair that is too long is cut by one rule wherever it is scored."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rankdistil.data.assemble import Segment, assemble, cut_pairs
from rankdistil.data.batch import PairBatch
from rankdistil.data.records import Pair

if TYPE_CHECKING:  # the library takes seconds to import
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = 3  # [CLS] query [SEP] passage [SEP]
FEWEST_TOKENS = SPECIAL_TOKENS + 2
CHARACTERS = 100  # per token: BERT's word pieces make one token of any longer word


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
        self.tokenizer = tokenizer
        self.max_length, self.room = max_length, max_length - SPECIAL_TOKENS
        self._special = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id  # slow to look up per batch

    def token_ids(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        """Token ids of texts, without special tokens, cut to a budget.

        A text is first cut to ``CHARACTERS`` per token of the budget, so that an overlong line costs no time.
        """
        own = self.tokenizer.backend_tokenizer  # the library's own call takes a fifth longer: it wraps every result
        own.no_truncation()  # as the tokenizer's last caller may have left it
        own.no_padding()
        encoded = own.encode_batch_fast([text[: CHARACTERS * (budget + 1)] for text in texts], add_special_tokens=False)
        return [each.ids[:budget] for each in encoded]

    def segment(self, texts: Sequence[str]) -> Segment:
        """Tokenise texts, each cut to what the longest pair has room for."""
        return Segment.of(self.token_ids(texts, self.room))

    def cut(self, first: Segment, second: Segment) -> tuple[Segment, Segment]:
        """Cut the pairs that are too long."""
        if not len(first.lengths) or (first.lengths + second.lengths).max() <= self.room:
            return first, second
        kept = cut_pairs(first.lengths, second.lengths, self.room)
        return first.keep(kept[0]), second.keep(kept[1])

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
