"""Packed inference: batches without padding, fused projections, and of the last layer only what [CLS] needs.

torch's own dynamic quantisation is deprecated, and has one scale for all rows of a batch. Here each row has its own scale, and
its own middle between its lowest and highest value: what follows a GELU, or a LayerNorm with an outlier, isn't centred on 0. So
a pair's score doesn't depend on what else is in its batch, and rounding costs less of a ranking than without the middle.

Without 8-bit dot products a processor sums pairs of products in 16 bits. Weights of 7 bits keep these sums in range, so the
result is exact there, too; activations keep their 8 bits.

The same function as transformers' ``BertForSequenceClassification`` in evaluation mode, less the work that no score depends on.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rankdistil.data.encode import Segment
from rankdistil.inference.machine import LEVELS, ZERO, multiply_int8, pack_int8, require_weight_bits
from rankdistil.models.bert import CrossEncoder


class PackedBatch(NamedTuple):
    """Pairs laid end to end, in ascending order of length.

    Attributes:
        input_ids: [CLS] query [SEP] passage [SEP] of each pair, int64, (tokens,).
        token_type_ids: 0 up to the first [SEP] of a pair, 1 after it, int64, (tokens,).
        positions: place in the pair, from 0, int64, (tokens,).
        starts: place of each pair's [CLS], int64, (B,).
        runs: pairs of one length that stand together: (pairs, tokens of each).
    """

    input_ids: Tensor
    token_type_ids: Tensor
    positions: Tensor
    starts: Tensor
    runs: list[tuple[int, int]]


def pack(first: Segment, second: Segment, cls: int, sep: int) -> PackedBatch:
    """Lay out [CLS] first [SEP] second [SEP] of each pair, one after the other.

    Args:
        first: queries, so ordered that the lengths of the pairs don't descend.
        second: their passages.
        cls: id of [CLS].
        sep: id of [SEP].
    """
    middles = first.lengths + 1
    lengths = middles + second.lengths + 2
    ends = lengths.cumsum()
    starts = ends - lengths
    total = int(ends[-1])
    positions = np.arange(total) - np.repeat(starts, lengths)
    types = positions > np.repeat(middles, lengths)
    ids = np.empty(total, dtype=np.int64)
    special = np.zeros(total, dtype=bool)
    special[starts] = special[starts + middles] = special[ends - 1] = True
    ids[starts] = cls
    ids[starts + middles] = ids[ends - 1] = sep
    ids[~special & ~types] = first.tokens
    ids[~special & types] = second.tokens
    values, counts = np.unique(lengths, return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    return PackedBatch(*map(torch.from_numpy, (ids, types.astype(np.int64), positions, starts)), runs)


def pack_padded(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[PackedBatch, Tensor]:
    """Take the padding out of a batch.

    Args:
        input_ids: token ids, (B, T).
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        token_type_ids: (B, T).

    Returns:
        The batch, and where each of its pairs stood, (B,).
    """
    lengths, order = attention_mask.sum(1).sort(stable=True)
    kept = attention_mask[order].bool()
    positions = torch.arange(kept.size(1), device=kept.device).expand_as(kept)
    values, counts = lengths.unique_consecutive(return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    parts = (part[kept] for part in (input_ids[order], token_type_ids[order], positions))
    return PackedBatch(*parts, lengths.cumsum(0) - lengths, runs), order


def cut(lengths: NDArray[np.int64], budget: int) -> Iterator[slice]:
    """Cut pairs into batches of at most ``budget`` tokens, but one pair at least.

    Args:
        lengths: tokens of each pair, in ascending order, (N,).
        budget: tokens of a batch.
    """
    ends = lengths.cumsum()
    at = 0
    while at < len(lengths):
        before = int(ends[at - 1]) if at else 0
        end = max(int(np.searchsorted(ends, before + budget, side="right")), at + 1)
        yield slice(at, end)
        at = end


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax(QKᵀ/√d)V without a mask.

    CPUs compute it in float32 whatever the dtype: SDPA gains nothing from bfloat16 there, and matrix products in bfloat16 are
    prepared anew for every shape, of which this has hundreds.

    Args:
        query: (B, heads, Q, d).
        key: (B, heads, T, d).
        value: (B, heads, T, d).

    Returns:
        (B, heads, Q, d).
    """
    if query.device.type == "cpu":
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value)


def attend_packed(projected: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    """Let every token attend to the tokens of its pair.

    Args:
        projected: query, key and value of each token, (tokens, 3 * H).
        batch: says which tokens belong together.
        heads: attention heads.

    Returns:
        (tokens, H).
    """
    width = projected.size(1) // 3
    out, at = projected.new_empty(projected.size(0), width), 0
    for pairs, tokens in batch.runs:
        end, shape = at + pairs * tokens, (pairs, tokens, heads, -1)
        parts = projected[at:end].view(pairs, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        out[at:end].view(shape).copy_(attend(*parts).transpose(1, 2))
        at = end
    return out


def attend_first(query: Tensor, projected: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    """Let the [CLS] of every pair attend to the tokens of its pair.

    Args:
        query: of each [CLS], (B, H).
        projected: key and value of each token, (tokens, 2 * H).
        batch: says which tokens belong together.
        heads: attention heads.

    Returns:
        (B, H).
    """
    out, at, row = torch.empty_like(query), 0, 0
    for pairs, tokens in batch.runs:
        end, last = at + pairs * tokens, row + pairs
        key, value = projected[at:end].view(pairs, tokens, 2, heads, -1).permute(2, 0, 3, 1, 4)
        own = query[row:last].view(pairs, heads, 1, -1)
        out[row:last] = attend(own, key, value).view(pairs, -1)
        at, row = end, last
    return out


LARGEST = 127  # of rounded activations, whose range is used symmetrically
SMALLEST = 1e-12  # a scale above zero for rows of zeros


class Int8Linear(nn.Module):
    """A linear layer with weights scaled per output and activations per row, multiplied in 8 bits and summed in 32.

    Args:
        weight: float, (out, in).
        bias: float, (out,).
        bits: of a weight, 7 or 8; by default as many as this processor computes exactly. More than that are emulated, slowly:
            the same rounded operands, multiplied in float32.

    Raises:
        ValueError: if this build of torch has no 8-bit kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor, bits: int | None = None) -> None:
        super().__init__()
        own = require_weight_bits()
        self.bits = bits or own
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=SMALLEST) / LEVELS[self.bits]
        whole = (weight / scale[:, None]).round()
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int32)
        # The sum of the rounded weights, not of those given: what rounding them does to the middle is undone by the rest.
        self._bias, self._sum = bias.detach().float(), (whole * scale[:, None]).sum(1)
        self._emulated = self.bits > own
        self._weight = whole * scale[:, None] if self._emulated else pack_int8(whole)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply float32 rows, (N, in); returns (N, out)."""
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        middle = (low + high) / 2
        scale = (high - middle).clamp_(min=SMALLEST) / LARGEST
        whole = (rows - middle).mul_(scale.reciprocal()).round_()
        if self._emulated:
            product = F.linear(whole, self._weight)
        else:
            signed = whole.to(torch.int8)  # torch is ten times slower to uint8
            unsigned = signed.view(torch.uint8).bitwise_xor_(ZERO)  # the other sign bit: plus ZERO
            product = multiply_int8(unsigned, self._weight, self._scale, self._zero)
        torch.addcmul(self._bias, product, scale, out=product)  # in place: no fresh memory for each
        return product.addcmul_(middle, self._sum)


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
