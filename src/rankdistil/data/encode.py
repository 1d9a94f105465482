"""Texts to token ids: query and passage have budgets of their own, so that neither can push the other out.

The library's truncation strategies were rejected: ``only_second`` raises when the query alone is too long, ``longest_first``
lets a long passage cut the query.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rankdistil.data.assemble import Segment, assemble
from rankdistil.data.batch import PairBatch
from rankdistil.data.records import Pair

if TYPE_CHECKING:  # the library takes seconds to import
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = 3  # [CLS] query [SEP] passage [SEP]
CHARACTERS = 100  # per token: BERT's word pieces make one token of any longer word


class PairEncoder:
    """Encodes query-passage pairs for a BERT.

    Args:
        tokenizer: the tokenizer of the teacher, which its students share.
        query_tokens: budget of a query, without special tokens.
        passage_tokens: budget of a passage, without special tokens.
        max_positions: positions that the networks have.

    Raises:
        ValueError: if a budget is below 1 or the sum doesn't fit.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", query_tokens: int, passage_tokens: int, max_positions: int = 512
    ) -> None:
        for name, value in (("query_tokens", query_tokens), ("passage_tokens", passage_tokens)):
            if value < 1:
                raise ValueError(f"data.{name} is {value}; expected at least 1.")
        self.max_tokens = query_tokens + passage_tokens + SPECIAL_TOKENS
        if self.max_tokens > max_positions:
            raise ValueError(
                f"data.query_tokens={query_tokens} and data.passage_tokens={passage_tokens} need {self.max_tokens} positions "
                f"with {SPECIAL_TOKENS} special tokens; the network has {max_positions}. Lower one of them."
            )
        self.tokenizer = tokenizer
        self.query_tokens, self.passage_tokens = query_tokens, passage_tokens
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

    def queries(self, texts: Sequence[str]) -> Segment:
        """Tokenise queries, cut to their budget."""
        return Segment.of(self.token_ids(texts, self.query_tokens))

    def passages(self, texts: Sequence[str]) -> Segment:
        """Tokenise passages, cut to their budget."""
        return Segment.of(self.token_ids(texts, self.passage_tokens))

    def batch(self, pairs: Sequence[Pair]) -> PairBatch:
        """Encode pairs and pad them to the longest."""
        return PairBatch(
            *self.assemble(self.queries([pair.query for pair in pairs]), self.passages([pair.passage for pair in pairs])),
            labels=torch.zeros(len(pairs)),
            groups=torch.arange(len(pairs)),
            query_ids=tuple(pair.query_id for pair in pairs),
            passage_ids=tuple(pair.passage_id for pair in pairs),
        )

    def assemble(self, first: Segment, second: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """Lay out [CLS] first [SEP] second [SEP], padded to the longest.

        Returns:
            Token ids, attention mask and token types, int64, (B, T) each.
        """
        return assemble(first, second, *self._special)
