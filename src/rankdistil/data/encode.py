"""Texts to token ids: query and passage have budgets of their own, so that neither can push the other out.

The library's truncation strategies were rejected: ``only_second`` raises when the query alone is too long, ``longest_first``
lets a long passage cut the query.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rankdistil.data.batch import PairBatch
from rankdistil.data.records import Pair

SPECIAL_TOKENS = 3  # [CLS] query [SEP] passage [SEP]


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
        self, tokenizer: PreTrainedTokenizerFast, query_tokens: int, passage_tokens: int, max_positions: int = 512
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

    def token_ids(self, texts: Sequence[str], budget: int) -> list[list[int]]:
        """Token ids of texts, without special tokens, cut to a budget."""
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=True,
            max_length=budget,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return encoded["input_ids"]

    def batch(self, pairs: Sequence[Pair]) -> PairBatch:
        """Encode pairs and pad them to the longest."""
        queries = self.token_ids([pair.query for pair in pairs], self.query_tokens)
        passages = self.token_ids([pair.passage for pair in pairs], self.passage_tokens)
        input_ids, mask, types = self.assemble(list(zip(queries, passages, strict=True)))
        return PairBatch(
            input_ids=input_ids,
            attention_mask=mask,
            token_type_ids=types,
            labels=torch.tensor([pair.label for pair in pairs], dtype=torch.float32),
            groups=torch.tensor([pair.group for pair in pairs]),
            query_ids=tuple(pair.query_id for pair in pairs),
            passage_ids=tuple(pair.passage_id for pair in pairs),
        )

    def assemble(self, segments: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
        """Lay out token ids as [CLS] first [SEP] second [SEP], padded to the longest.

        Returns:
            Token ids, attention mask and token types, int64, (B, T) each.
        """
        cls, sep, pad = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id
        length = max(len(first) + len(second) for first, second in segments) + SPECIAL_TOKENS
        input_ids = torch.full((len(segments), length), pad)
        mask, types = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        for row, (first, second) in enumerate(segments):
            tokens = [cls, *first, sep, *second, sep]
            input_ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            types[row, len(first) + 2 : len(tokens)] = 1
        return input_ids, mask, types
