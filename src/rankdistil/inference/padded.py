"""Padded inference for other runtimes: batches of nearly one length, and BERT as a graph over them.

The same function as transformers' ``BertForSequenceClassification`` in evaluation mode, less the work that no score depends on.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rankdistil.data.encode import SPECIAL_TOKENS, PairEncoder, Segment
from rankdistil.data.records import Pair
from rankdistil.models.bert import CrossEncoder

Inputs = dict[str, NDArray[np.int64]]
"""What the graphs take: ``input_ids``, ``attention_mask`` and ``token_type_ids``, (B, T) each."""

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def cut_padded(lengths: NDArray[np.int64], budget: int) -> list[int]:
    """Cut pairs into batches of at most ``budget`` tokens with padding, but one pair at least.

    Args:
        lengths: tokens of each pair, in ascending order, (N,).
        budget: tokens of a batch.

    Returns:
        The number of pairs in each batch.
    """
    sizes, at = [], 0
    while at < len(lengths):
        padded = lengths[at : at + budget] * np.arange(1, min(budget, len(lengths) - at) + 1)
        sizes.append(max(int(np.searchsorted(padded, budget, side="right")), 1))
        at += sizes[-1]
    return sizes


def padded_batches(first: Segment, second: Segment, encoder: PairEncoder, budget: int, multiple: int = 1) -> Iterator[Inputs]:
    """Yield batches of pairs that are given in ascending order of length.

    Args:
        first: queries.
        second: passages, as many.
        encoder: lays them out.
        budget: tokens of a batch, padding included.
        multiple: of which batches have lengths, up to the longest that the encoder makes, so that there are few of them.
    """
    lengths = -(-(first.lengths + second.lengths + SPECIAL_TOKENS) // multiple) * multiple
    lengths = np.minimum(lengths, encoder.max_length)
    sizes, last = cut_padded(lengths, budget), -1
    fill = encoder.tokenizer.pad_token_id, 0, 0
    for size, *pair in zip(sizes, first.parts(sizes), second.parts(sizes), strict=True):
        last += size
        arrays = [part.numpy() for part in encoder.assemble(*pair)]
        wider = (0, 0), (0, int(lengths[last]) - arrays[0].shape[1])
        padded = (np.pad(array, wider, constant_values=value) for array, value in zip(arrays, fill, strict=True))
        yield dict(zip(NAMES, padded, strict=True))


def text_batches(pairs: Sequence[Pair], encoder: PairEncoder, budget: int) -> list[Inputs]:
    """Tokenise pairs and lay them out in batches, in the order of their lengths.

    Args:
        pairs: texts.
        encoder: gives the tokens.
        budget: tokens of a batch, padding included.
    """
    texts = [pair.query for pair in pairs], [pair.passage for pair in pairs]
    first, second = encoder.cut(*map(encoder.segment, texts))
    order = (first.lengths + second.lengths).argsort(kind="stable")
    return list(padded_batches(first.take(order), second.take(order), encoder, budget))


HIDDEN = -10_000.0  # what padding's attention scores get: no share is left of them, and bfloat16 and float16 can hold it


class Product(nn.Module):
    """A linear layer written as a matrix product, which is what the runtimes' quantisers look for."""

    def __init__(self, *parts: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", torch.cat([part.weight.detach() for part in parts]).T.contiguous())
        self.register_buffer("bias", torch.cat([part.bias.detach() for part in parts]))

    def forward(self, states: Tensor) -> Tensor:
        """Multiply states, (..., in); returns (..., out)."""
        return states @ self.weight + self.bias


class PaddedLayer(nn.Module):
    """An encoder layer; ``last`` computes the state of [CLS] alone."""

    def __init__(self, layer: nn.Module, last: bool) -> None:
        super().__init__()
        own = layer.attention.self
        self._heads, self._size, self._last = own.num_attention_heads, own.attention_head_size, last
        self.query, self.key, self.value = map(Product, (own.query, own.key, own.value))
        rest = layer.attention.output.dense, layer.intermediate.dense, layer.output.dense
        self.out, self.up, self.down = map(Product, rest)
        self._activate = layer.intermediate.intermediate_act_fn
        self.norms = nn.ModuleList([layer.attention.output.LayerNorm, layer.output.LayerNorm])

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Compute the next states, (B, T, H), or those of [CLS], (B, 1, H).

        Args:
            states: (B, T, H).
            mask: 0 where a token may be looked at, a large negative number at padding, (B, 1, 1, T).
        """
        asking = states[:, :1] if self._last else states
        query, key, value = (self._split(part) for part in (self.query(asking), self.key(states), self.value(states)))
        attended = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
        states = self.norms[0](self.out(attended) + asking)
        return self.norms[1](self.down(self._activate(self.up(states))) + states)

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(2, (self._heads, self._size)).transpose(1, 2)


class PaddedRanker(nn.Module):
    """A ranker for padded batches, to be exported.

    Args:
        ranker: in float32, with one logit.
    """

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__()
        body = ranker.bert.bert
        self.embeddings = body.embeddings
        layers = list(body.encoder.layer)
        self.layers = nn.ModuleList(PaddedLayer(layer, last=layer is layers[-1]) for layer in layers)
        self.pooler, self.head = Product(body.pooler.dense), Product(ranker.bert.classifier)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Score a batch, (B, T) each; returns logits, (B, 1)."""
        own = self.embeddings
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        states = own.word_embeddings(input_ids) + own.token_type_embeddings(token_type_ids)
        states = own.LayerNorm(states + own.position_embeddings(positions))
        mask = (1 - attention_mask[:, None, None].to(states.dtype)) * HIDDEN
        for layer in self.layers:
            states = layer(states, mask)
        return self.head(torch.tanh(self.pooler(states[:, 0])))
