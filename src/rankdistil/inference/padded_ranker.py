"""BERT as a graph for other runtimes: padded batches in, and of the last layer only what [CLS] needs.

The same function as transformers' ``BertForSequenceClassification`` in evaluation mode, less the work that no score depends on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.models.bert import CrossEncoder

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
