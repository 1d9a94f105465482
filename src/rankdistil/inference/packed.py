"""Packed inference: batches without padding, fused projections, and of the last layer only what [CLS] needs.

torch's own dynamic quantisation is deprecated, and has one scale for all rows of a batch. Here each row has its own scale, and
its own middle between its lowest and highest value: what follows a GELU, or a LayerNorm with an outlier, isn't centred on 0. So
a pair's score doesn't depend on what else is in its batch, and rounding costs less of a ranking than without the middle.

oneDNN, which multiplies in bfloat16 and 8 bits, prepares a kernel for each number of rows: in milliseconds, as long as a batch
takes, and it keeps a thousand of a megabyte each. So batches have one of a few numbers of rows, the last of which are nobody's.

Without 8-bit dot products a processor sums pairs of products in 16 bits. Weights of 7 bits keep these sums in range, so the
result is exact there, too; activations keep their 8 bits.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rankdistil.data.encode import PairLayout, Segment
from rankdistil.inference.machine import LEVELS, ZERO, multiply_int8, pack_int8, require_weight_bits
from rankdistil.models.bert import CrossEncoder, embed, encode, score
from rankdistil.models.cpu_layers import Dropout, PrepackedLinear, prepacks
from rankdistil.models.families import Encoder, Layer
from rankdistil.models.layout import NOWHERE, Padded, Places, attend, lay_out

LENGTHS = 16  # a padded batch is as long as a multiple of it, as fused kernels want their masks
ROWS, PAIRS = 64, 8  # tokens and first tokens of a batch that is rounded up are multiples of them


class PackedBatch(NamedTuple):
    """Pairs laid end to end, in ascending order of length; a layout, as ``Padded`` is one, of runs of equal length.

    Attributes:
        input_ids: of each pair as its tokenizer lays it out, [CLS] query [SEP] passage [SEP] for BERT, int64, (tokens,). Where
            the batch is rounded up, tokens of no pair follow, which attend to nothing.
        token_type_ids: 0 up to the passage of a pair, from there the layout's type of passages, int64, (tokens,).
        positions: place in the pair, from 0, int64, (tokens,).
        starts: place of each pair's [CLS], int64, (B,); where the batch is rounded up, 0 of no pair follow.
        runs: pairs of one length that stand together: (pairs, tokens of each).
        padded: the same rows, where all pairs attend in one padded batch, as a GPU wants them: telling it of hundreds of runs
            takes longer than computing their padding. None where each run attends by itself.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    positions: Tensor
    starts: Tensor
    runs: list[tuple[int, int]]
    padded: Padded | None = None

    def side_by_side(self) -> "PackedBatch":
        """Let all pairs attend in one padded batch."""
        tokens, length = len(self.input_ids), -(-self.length // LENGTHS) * LENGTHS
        lengths = F.pad(self.starts[1:], (0, 1), value=tokens) - self.starts
        real = torch.arange(length, device=self.starts.device) < lengths[:, None]
        return self._replace(padded=lay_out(real, padding=False, tokens=tokens, fused=True))

    def rounded(self) -> "PackedBatch":
        """Let tokens and pairs of nobody follow, up to a multiple of ``ROWS`` and of ``PAIRS``; all pairs get scores."""
        parts = zip(self[:4], (ROWS, ROWS, ROWS, PAIRS), strict=True)
        return PackedBatch(*(F.pad(part, (0, -len(part) % size)) for part, size in parts), self.runs)

    def first(self, rows: Tensor) -> Tensor:
        """Return the rows of first tokens, (B, H)."""
        return rows[self.starts]

    def mean(self, rows: Tensor) -> Tensor:
        """Average the rows of each pair's tokens, (B, D)."""
        if self.padded is not None:
            return self.padded.mean(rows)
        sizes = [pairs * tokens for pairs, tokens in self.runs]
        parts = zip(rows[: sum(sizes)].split(sizes), self.runs, strict=True)
        return torch.cat([part.view(*run, -1).mean(1) for part, run in parts])

    @property
    def length(self) -> int:
        """Tokens of the longest pair, padding included."""
        return self.runs[-1][1] if self.padded is None else self.padded.length

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, heads: int, alone: bool, p: float = 0.0, record: bool = False,
        where: Places = NOWHERE,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """Attend without a mask; see ``Padded``.

        CPUs compute it in float32 whatever the dtype: SDPA gains nothing from bfloat16 there, and matrix products in bfloat16
        are prepared anew for every shape, of which this has hundreds.

        Raises:
            ValueError: if scores are to be recorded: those of texts that differ in length have no shape in common.
        """
        if record:
            raise ValueError("attention scores are recorded from padded batches only.")
        if self.padded is not None:
            return self.padded.attend(query, key, value, heads, alone, p, record, where)
        dtype = torch.float32 if query.device.type == "cpu" else query.dtype
        every = [pairs * tokens for pairs, tokens in self.runs]
        asking = [pairs for pairs, _ in self.runs] if alone else every
        parts = (rows[: sum(sizes)].to(dtype).split(sizes) for rows, sizes in ((query, asking), (key, every), (value, every)))
        width, found = query.size(1), []
        for (pairs, _), *run in zip(self.runs, *parts, strict=True):
            split = (rows.view(pairs, -1, heads, width // heads).transpose(1, 2) for rows in run)
            found.append(attend(*split, None, p, False, where)[0].transpose(1, 2).reshape(-1, width))
        nobody = len(query) - sum(asking)
        return torch.cat([*found, query.new_zeros(nobody, width, dtype=dtype)] if nobody else found).to(query.dtype), None


def pack(first: Segment, second: Segment, layout: PairLayout) -> PackedBatch:
    """Lay out pairs one after the other, [CLS] first [SEP] second [SEP] each in BERT's layout.

    Args:
        first: queries, so ordered that the lengths of the pairs don't descend.
        second: their passages.
        layout: where special tokens go.
    """
    middles = first.lengths + len(layout.prefix)
    lengths = middles + second.lengths + (layout.special - len(layout.prefix))
    ends = lengths.cumsum()
    starts = ends - lengths
    total = int(ends[-1])
    positions = np.arange(total) - np.repeat(starts, lengths)
    behind = positions >= np.repeat(middles + len(layout.between), lengths)
    ids = np.empty(total, dtype=np.int64)
    special = np.zeros(total, dtype=bool)
    for place, part in zip((starts, starts + middles, ends - len(layout.suffix)), layout[:3], strict=True):
        for offset, token in enumerate(part):
            ids[place + offset], special[place + offset] = token, True
    ids[~special & ~behind] = first.tokens
    ids[~special & behind] = second.tokens
    values, counts = np.unique(lengths, return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    return PackedBatch(*map(torch.from_numpy, (ids, behind * np.int64(layout.second_type), positions, starts)), runs)


def pack_padded(
    input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, tokens: int | None = None, fused: bool | None = None
) -> tuple[PackedBatch, Tensor]:
    """Take the padding out of a batch, but on a GPU out of all but attention.

    Args:
        input_ids: token ids, (B, T).
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        token_type_ids: (B, T).
        tokens: how many are real, see ``lay_out``.
        fused: pairs attend in one padded batch; by default everywhere but on a CPU.

    Returns:
        The batch, and where each of its pairs stood, (B,).
    """
    if input_ids.device.type != "cpu" if fused is None else fused:
        layout = lay_out(attention_mask, padding=False, tokens=tokens, fused=True)
        places = torch.arange(layout.length, device=input_ids.device).expand_as(input_ids)
        found = [layout.take(part) for part in (input_ids, token_type_ids, places)]
        starts = layout.first(torch.arange(len(found[0]), device=input_ids.device)[:, None]).squeeze(1)
        return PackedBatch(*found, starts, [], layout), torch.arange(layout.texts, device=input_ids.device)
    lengths, order = attention_mask.sum(1).sort(stable=True)
    kept = attention_mask[order].bool()
    positions = torch.arange(kept.size(1), device=kept.device).expand_as(kept)
    values, counts = lengths.unique_consecutive(return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    parts = (part[kept] for part in (input_ids[order], token_type_ids[order], positions))
    return PackedBatch(*parts, lengths.cumsum(0) - lengths, runs), order


def cut(lengths: NDArray[np.int64], budget: int, padded: bool = False) -> list[int]:
    """Cut pairs into batches of at most ``budget`` tokens, but one pair at least.

    Args:
        lengths: tokens of each pair, in ascending order, (N,).
        budget: tokens of a batch.
        padded: padding counts, too.

    Returns:
        The number of pairs in each batch.
    """
    sizes, at = [], 0
    while at < len(lengths):
        ahead = lengths[at : at + budget]
        tokens = ahead * np.arange(1, len(ahead) + 1) if padded else ahead.cumsum()
        sizes.append(max(int(np.searchsorted(tokens, budget, side="right")), 1))
        at += sizes[-1]
    return sizes


LARGEST = 127  # of rounded activations, whose range is used symmetrically
SMALLEST = 1e-12  # a scale above zero for rows of zeros


class Int8Linear(nn.Module):
    """A linear layer with weights scaled per output and activations per row, multiplied in 8 bits and summed in 32.

    Args:
        weight: float, (out, in).
        bias: float, (out,); None for none.
        bits: of a weight, 7 or 8; by default as many as this processor computes exactly. More than that are emulated, slowly:
            the same rounded operands, multiplied in float32.

    Raises:
        ValueError: if this build of torch has no 8-bit kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, bits: int | None = None) -> None:
        super().__init__()
        own = require_weight_bits()
        self.bits = bits or own
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=SMALLEST) / LEVELS[self.bits]
        whole = (weight / scale[:, None]).round()
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int32)
        # The sum of the rounded weights, not of those given: what rounding them does to the middle is undone by the rest.
        self._bias = torch.zeros(len(weight)) if bias is None else bias.detach().float()
        self._sum = (whole * scale[:, None]).sum(1)
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

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply rows, (N, in); returns (N, out)."""
        return F.linear(rows, self.weight, self.bias)


Build = Callable[[Tensor, Tensor | None], nn.Module]


class InferenceRanker(nn.Module):
    """A ranker that is only asked for scores: fused projections, linear layers of another make, no dropout.

    Args:
        encoder: a ranker's parts; shared, as far as they aren't made anew.
        build: makes a linear layer of weight and bias. The head's are ``Dense``.
    """

    def __init__(self, encoder: Encoder, build: Build) -> None:
        super().__init__()
        layers = tuple(_made_anew(layer, build, alone=layer is encoder.layers[-1]) for layer in encoder.layers)
        pooler, head = (Dense(part.weight, part.bias) for part in (encoder.pooler, encoder.head))
        off = Dropout(0)
        relative = encoder.relative and nn.Embedding.from_pretrained(encoder.relative.weight.detach())
        self.encoder = encoder._replace(
            relative=relative, layers=layers, pooler=pooler, head=head, dropout=off, pool_dropout=off, head_dropout=off
        )
        parts = (part for group in (self.encoder, *layers) for part in group)
        self._parts = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))  # to be moved, or exported
        self.eval()


def _made_anew(layer: Layer, build: Build, alone: bool) -> Layer:
    """Fuse what multiplies the same rows: where [CLS] ``alone`` asks, key and value only."""

    def make(*parts: Weights) -> nn.Module:
        if len(parts) == 1:
            return build(*parts[0])  # shared
        return build(*(None if some[0] is None else torch.cat(some) for some in zip(*parts, strict=True)))

    three, off = _three(layer), Dropout(0)
    query, key = (make(three[0]), make(*three[1:])) if alone else (make(*three), None)
    out, up, down = (make((part.weight, part.bias)) for part in (layer.out, layer.up, layer.down))
    return layer._replace(
        query=query, key=key, value=None, out=out, up=up, down=down,
        attention_dropout=off, out_dropout=off, inner_dropout=off, down_dropout=off,
    )  # fmt: skip


Weights = tuple[Tensor, Tensor | None]
"""Of a linear layer: weight and bias."""


def _three(layer: Layer) -> list[Weights]:
    """Return the weights of query, key and value, of which some families have one matrix."""
    if layer.key is not None:
        return [(part.weight, part.bias) for part in (layer.query, layer.key, layer.value)]
    bias = layer.query.bias
    return list(zip(layer.query.weight.chunk(3), (None,) * 3 if bias is None else bias.chunk(3), strict=True))


class PackedRanker(InferenceRanker):
    """A ranker for packed batches.

    Args:
        ranker: in float32; its weights are shared where the precision allows it.
        precision: ``float32``; ``bfloat16`` weights and states; ``int8`` products of float32 states (CPU only). Logits are
            float32 always.
        weight_bits: of int8's weights, see ``Int8Linear``.
        stays: it is not to be moved from the CPU, so weights in bfloat16 may lie as its kernels want them.

    Raises:
        ValueError: for another precision, or one that this machine can't compute.
    """

    def __init__(
        self, ranker: CrossEncoder, precision: str = "float32", weight_bits: int | None = None, stays: bool = False
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"dtype is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
        encoder, build = ranker.encoder, partial(Int8Linear, bits=weight_bits) if precision == "int8" else Dense
        if precision == "bfloat16":
            build = PrepackedLinear if stays and prepacks() else Dense
            half = copy.deepcopy(ranker).to(torch.bfloat16).encoder
            encoder = half._replace(
                pooler=encoder.pooler, pool_norm=encoder.pool_norm, head=encoder.head, rotary=encoder.rotary
            )
        super().__init__(encoder, build)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Score a batch.

        Returns:
            Logits in the order of the batch, float32, (B,).
        """
        rows = embed(self.encoder, batch.input_ids, batch.token_type_ids, batch.positions)
        return score(self.encoder, encode(self.encoder, rows, batch)[0]).squeeze(-1)
