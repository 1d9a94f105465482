"""BERT for inference alone: tokens without padding, fused projections, and of the last layer only what [CLS] needs.

The same function as transformers' ``BertForSequenceClassification`` in evaluation mode, less the work that no score depends on.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.inference.attention import attend_first, attend_packed
from rankdistil.inference.int8 import Int8Linear
from rankdistil.inference.packed import PackedBatch
from rankdistil.models.bert import CrossEncoder

PRECISIONS = ("float32", "bfloat16", "int8")


class Dense(nn.Module):
    """A linear layer that shares the weights it is given."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", bias.detach(), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply rows, (N, in); returns (N, out)."""
        return F.linear(rows, self.weight, self.bias)


Build = Callable[[Tensor, Tensor], nn.Module]


class PackedLayer(nn.Module):
    """An encoder layer; ``last`` computes the states of [CLS] alone."""

    def __init__(self, layer: nn.Module, build: Build, last: bool) -> None:
        super().__init__()
        own = layer.attention.self
        self._heads, self._last = own.num_attention_heads, last
        weight, bias = (
            torch.cat([getattr(part, name) for part in (own.query, own.key, own.value)]) for name in ("weight", "bias")
        )
        if last:
            cut = own.query.out_features
            self._query, self._key_value = build(weight[:cut], bias[:cut]), build(weight[cut:], bias[cut:])
        else:
            self._projected = build(weight, bias)
        rest = layer.attention.output.dense, layer.intermediate.dense, layer.output.dense
        self._out, self._up, self._down = (build(part.weight, part.bias) for part in rest)
        self._activate = layer.intermediate.intermediate_act_fn
        self._norms = nn.ModuleList([layer.attention.output.LayerNorm, layer.output.LayerNorm])

    def forward(self, states: Tensor, batch: PackedBatch) -> Tensor:
        """Compute the next states, (tokens, H), or those of [CLS], (B, H)."""
        if self._last:
            first = states[batch.starts]
            attended = attend_first(self._query(first), self._key_value(states), batch, self._heads)
            states = first
        else:
            attended = attend_packed(self._projected(states), batch, self._heads)
        states = self._norms[0](self._out(attended) + states)
        return self._norms[1](self._down(self._activate(self._up(states))) + states)


class PackedRanker(nn.Module):
    """A ranker for packed batches.

    Args:
        ranker: in float32; its weights are shared where the precision allows it.
        precision: ``float32``; ``bfloat16`` weights and states; ``int8`` products of float32 states (CPU only). Logits are
            float32 always.
        weight_bits: of int8's weights, see ``Int8Linear``.

    Raises:
        ValueError: for another precision, or one that this machine can't compute.
    """

    def __init__(self, ranker: CrossEncoder, precision: str = "float32", weight_bits: int | None = None) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"dtype is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
        head = ranker.bert.bert.pooler.dense, ranker.bert.classifier  # in float32 always: bfloat16 would make scores equal
        if precision == "bfloat16":
            ranker = copy.deepcopy(ranker).to(torch.bfloat16)
        body = ranker.bert.bert
        layers = list(body.encoder.layer)
        build = partial(Int8Linear, bits=weight_bits) if precision == "int8" else Dense
        self._embeddings = body.embeddings
        self._layers = nn.ModuleList(PackedLayer(layer, build, last=layer is layers[-1]) for layer in layers)
        self._pooler, self._head = (Dense(part.weight, part.bias) for part in head)
        self.eval()

    def forward(self, batch: PackedBatch) -> Tensor:
        """Score a batch.

        Returns:
            Logits in the order of the batch, float32, (B,).
        """
        own = self._embeddings
        states = own.word_embeddings(batch.input_ids) + own.token_type_embeddings(batch.token_type_ids)
        states = own.LayerNorm(states + own.position_embeddings(batch.positions))
        for layer in self._layers:
            states = layer(states, batch)
        return self._head(torch.tanh(self._pooler(states.float()))).squeeze(-1)
