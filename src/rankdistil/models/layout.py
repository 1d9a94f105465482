"""Unpadding: rows of a network without padding, where their tokens stand in their texts, and self-attention among them.

Rows, (N, D), hold one token each, one text behind the other. Passages differ in length: even in batches of similar length a
sixth of all tokens is padding, so it is left out of all but attention.

Relative positions are learnt biases, rotated queries and keys, windows. They depend on places in a text alone, so they are made
once for the longest text of a pass, and shorter ones read the first rows and columns. Angles and biases are float32 whatever
the states are.

On a CPU texts of similar length attend together. A GPU takes longer to be told of many small products than to compute a large
one, so there all texts attend in one padded batch, by a fused kernel; and it isn't asked how many tokens there are, for it
would answer only when it has done all that it was told before.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdistil.models.cpu_layers import drop
from rankdistil.models.families import Encoder

HIDDEN = -10_000.0  # what hidden tokens' attention scores get: no share is left of them, and bfloat16 and float16 can hold it
BUCKETS, FARTHEST = 32, 128  # of MPNet's relative positions, whatever its config says


class Places(NamedTuple):
    """What positions do in the attention of the layers of one kind.

    Attributes:
        cos: of the angles that queries and keys are turned by, (T, d); None where they aren't.
        sin: as ``cos``.
        bias: added to attention scores, (1, H, T, T), or None.
        window: what hides tokens farther away: 0 or ``HIDDEN``, (T, T); None where none is.
    """

    cos: Tensor | None = None
    sin: Tensor | None = None
    bias: Tensor | None = None
    window: Tensor | None = None

    def turned(self, part: Tensor) -> Tensor:
        """Turn queries or keys of the first places, (B, H, T, d)."""
        if self.cos is None:
            return part
        length, wide = part.size(2), part.float()
        left, right = wide.chunk(2, -1)
        return (wide * self.cos[:length] + torch.cat((-right, left), -1) * self.sin[:length]).to(part.dtype)

    def among(self, queries: int, keys: int) -> tuple[Tensor | None, Tensor | None]:
        """Return bias and window between the first places, (..., queries, keys) each."""
        return tuple(part if part is None else part[..., :queries, :keys] for part in (self.bias, self.window))


NOWHERE = Places()


def places(encoder: Encoder, length: int, device: torch.device) -> dict[str | None, Places]:
    """Prepare the places of texts of up to ``length`` tokens, by kind of layer."""
    if encoder.relative is None and encoder.rotary is None:
        return {}
    place = torch.arange(length, device=device)
    if encoder.relative is not None:
        return {None: Places(bias=_biases(encoder.relative, place, length))}
    found = {}
    for kind in {layer.kind for layer in encoder.layers}:
        angles = place[:, None] * getattr(encoder.rotary, f"{kind}_inv_freq").float().repeat(2)
        scale = getattr(encoder.rotary, f"{kind}_attention_scaling")
        window = _window(place, length, encoder.rotary.config.sliding_window) if kind == "sliding_attention" else None
        found[kind] = Places(angles.cos() * scale, angles.sin() * scale, window=window)
    return found


def _window(place: Tensor, length: int, reach: int) -> Tensor | None:
    """Hide tokens more than ``reach`` places away; None where there are none, but in graphs, which take any length."""
    if not torch.compiler.is_compiling() and length <= reach + 1:
        return None
    return ((place[:, None] - place).abs() > reach) * HIDDEN


def _biases(relative: torch.nn.Module, place: Tensor, length: int) -> Tensor:
    """Look up the learnt bias of each head between all places, (1, H, T, T).

    Half of the ``BUCKETS`` are of tokens behind, half of tokens ahead; in each half the near places have one each, and farther
    ones share buckets whose width grows with the logarithm of the distance (Raffel et al. 2020, arXiv:1910.10683).
    """
    distance = torch.arange(1 - length, length, device=place.device)  # of the key from the query
    half, near = BUCKETS // 2, BUCKETS // 4
    away = distance.abs().clamp(min=1)
    far = near + (torch.log(away.float() / near) / math.log(FARTHEST / near) * (half - near)).long().clamp(max=half - near - 1)
    buckets = torch.where(distance.abs() < near, distance.abs(), far) + half * (distance > 0)
    each = relative(buckets).float()
    return each[place - place[:, None] + length - 1].permute(2, 0, 1)[None]


ALIKE = 8  # texts of a part: on a CPU the attention scores of so few stay in its cache
LENGTHS = 8  # parts are as long as a multiple of it, as kernels are built for each shape anew
WIDTHS = 8  # fused kernels take heads whose width is a multiple of it; of others every score would lie in memory


class Parts(NamedTuple):
    """Texts of similar length side by side: attention costs the square of a length, so few are padded to the longest of all.

    Attributes:
        shapes: texts and length of each part, which is padded by itself; M places in all.
        masks: as ``Padded.mask``, of each part.
        rows: row of each place, any for padding, (M,).
        kept: place of each row, (N,).
    """

    shapes: tuple[tuple[int, int], ...]
    masks: tuple[Tensor | None, ...]
    rows: Tensor
    kept: Tensor

    def pad(self, rows: Tensor) -> list[Tensor]:
        """Lay rows, (N, D), out as a batch of each part, (b, t, D) each; see ``Padded.pad``."""
        cells = _Select.apply(rows, self.rows, lambda gradient: gradient.index_select(0, self.kept))
        cut = cells.split([texts * length for texts, length in self.shapes])
        return [part.view(*shape, -1) for part, shape in zip(cut, self.shapes, strict=True)]

    def unpad(self, batches: list[Tensor]) -> Tensor:
        """Give each row its part of the batches, (b, t, D) each; returns (N, D). Padding gets a gradient of 0."""
        return _unpad(torch.cat([batch.reshape(-1, batch.size(-1)) for batch in batches]), self.kept)


class Padded(NamedTuple):
    """Rows of a padded batch, with or without its padding.

    Attributes:
        texts: B.
        length: T.
        mask: what is added to attention scores: 0, and -inf or as good as that at padding, float, (B, 1, 1, T); None where
            nothing is padding.
        kept: place of each row in the batch, 0..B·T-1, ascending, (N,); None where every place has a row.
        rows: row of each place, any for padding, (B·T,); None as well.
        parts: of the same rows, for attention; None where all texts attend in one batch.
        fused: attention is left to fused kernels, those of a GPU.
    """

    texts: int
    length: int
    mask: Tensor | None
    kept: Tensor | None = None
    rows: Tensor | None = None
    parts: Parts | None = None
    fused: bool = False

    def take(self, batch: Tensor) -> Tensor:
        """Give each row its value in a batch, (B, T); returns (N,)."""
        flat = batch.reshape(-1)
        return flat if self.kept is None else flat[self.kept]

    def first(self, rows: Tensor) -> Tensor:
        """Return the rows of first tokens, (B, D)."""
        if self.rows is None:
            return rows.view(self.texts, self.length, -1)[:, 0]
        return rows[self.rows[:: self.length]]

    def mean(self, rows: Tensor) -> Tensor:
        """Average the rows of each text's tokens, (B, D)."""
        batch = self.pad(rows)
        if self.mask is None:
            return batch.mean(1)
        real = (self.mask == 0).view(self.texts, self.length, 1).to(rows.dtype)
        return (batch * real).sum(1) / real.sum(1)

    def pad(self, rows: Tensor) -> Tensor:
        """Lay rows, (N, D), out as a batch, (B, T, D). Padding holds anything finite, and gives no gradient."""
        if self.kept is not None:
            rows = _Select.apply(rows, self.rows, lambda gradient: gradient.index_select(0, self.kept))
        return rows.view(self.texts, self.length, -1)

    def unpad(self, batch: Tensor) -> Tensor:
        """Give each row its part of a batch, (B, T, ...); returns (N, D). Padding gets a gradient of 0."""
        rows = batch.reshape(self.texts * self.length, -1)
        return rows if self.kept is None else _unpad(rows, self.kept)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, heads: int, alone: bool, p: float = 0.0, record: bool = False,
        where: Places = NOWHERE,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Let tokens attend to the tokens of their text.

        Args:
            query: of each row, (N, D), or of first tokens ``alone``, (B, D).
            key: (N, D).
            value: (N, D).
            heads: H.
            alone: see ``query``.
            p: dropout of the attention.
            record: whether to return the scores.
            where: what positions do.

        Returns:
            As many rows as queries; the scores, (B, H, T, T), or None.
        """
        if self.parts is not None and not (alone or record):
            batches = zip(*map(self.parts.pad, (query, key, value)), self.parts.masks, strict=True)
            return self.parts.unpad([_attend(*batch, heads, p, False, where)[0].flatten(2) for batch in batches]), None
        asking = query[:, None] if alone else self.pad(query)
        attended, scores = _attend(asking, self.pad(key), self.pad(value), self.mask, heads, p, record, where, self.fused)
        return attended.flatten(1) if alone else self.unpad(attended), scores


def real_places(attention_mask: Tensor, tokens: int | None) -> Tensor:
    """Find the real tokens of a batch, 0..B·T-1, ascending, (N,); see ``lay_out``."""
    real = attention_mask.flatten()
    return (real.nonzero() if tokens is None else real.nonzero_static(size=tokens)).squeeze(1)


def lay_out(attention_mask: Tensor, padding: bool, tokens: int | None = None, fused: bool | None = None) -> Padded:
    """Find out where the real tokens are.

    Args:
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        padding: padding gets rows, too.
        tokens: how many are real; None asks the mask's device, which is waited for.
        fused: see ``Padded``; by default everywhere but on a CPU.
    """
    real, kept = attention_mask.bool(), real_places(attention_mask, tokens)
    fused = real.device.type != "cpu" if fused is None else fused
    if len(kept) == real.numel():
        return Padded(*real.shape, None, fused=fused)
    if padding:
        return Padded(*real.shape, _mask(real), fused=fused)
    rows = (real.flatten().cumsum(0) - 1).clamp(min=0)
    return Padded(*real.shape, _mask(real), kept, rows, None if fused else _alike(real, rows), fused)


def _mask(real: Tensor) -> Tensor:
    """Return what hides padding, (B, 1, 1, T)."""
    return torch.zeros(real.shape, device=real.device).masked_fill(~real, -torch.inf)[:, None, None]


def _alike(real: Tensor, rows: Tensor) -> Parts:
    """Put texts of similar length together."""
    lengths, shapes, masks, chosen = real.sum(1), [], [], []
    for texts in lengths.argsort(stable=True).split(ALIKE):
        length = min(-(-int(lengths[texts].max()) // LENGTHS) * LENGTHS, real.size(1))
        shapes.append((len(texts), length))
        masks.append(_mask(real[texts, :length]) if length > lengths[texts[0]] else None)
        chosen.append((texts[:, None] * real.size(1) + torch.arange(length)).flatten())
    cells = torch.cat(chosen)  # in the batch, (M,)
    held = real.flatten()[cells].nonzero().squeeze(1)
    kept = torch.empty_like(held)
    kept[rows[cells[held]]] = held
    return Parts(tuple(shapes), tuple(masks), rows[cells], kept)


def _unpad(cells: Tensor, kept: Tensor) -> Tensor:
    """Select the cells that are kept, (N, D) of (M, D); the others get a gradient of 0."""
    shape = cells.shape

    def spread(gradient: Tensor) -> Tensor:
        return gradient.new_zeros(shape).index_copy_(0, kept, gradient)

    return _Select.apply(cells, kept, spread)


class _Select(torch.autograd.Function):
    """Selects rows by index. Its gradient is given, and copies rows, where torch's own adds them one by one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.gradient = gradient
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient(gradient), None, None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int, p: float, record: bool, where: Places,
    fused: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Attend in a batch, (b, t, D), of heads side by side; returns (b, q, H, d), and the scores or None; see ``attend``."""
    split = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    attended, scores = attend(*split, mask, p, record, where, fused)
    return attended.transpose(1, 2), scores


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, record: bool, where: Places = NOWHERE,
    fused: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Dropout(softmax(QKᵀ/√d + bias + mask))V.

    On a CPU, SDPA with dropout takes four times as long as the products written out, and in bfloat16 it is slower without
    dropout, too; where scores are recorded it would compute them twice.

    Args:
        query: (B, H, Q, d).
        key: (B, H, T, d).
        value: (B, H, T, d).
        mask: see ``Padded``.
        p: of the dropout.
        record: whether to return the scores before mask and softmax, bias included, (B, H, Q, T).
        where: what positions do; queries are of the first places, as keys are.
        fused: see ``Padded``.

    Returns:
        (B, H, Q, d), and the scores or None.
    """
    bias = None
    if where is not NOWHERE:
        query, key = where.turned(query), where.turned(key)
        bias, window = where.among(query.size(2), key.size(2))
        mask = _sum(mask, window)
    written_out = not fused and query.device.type == "cpu" and (record or p > 0 or query.dtype == torch.bfloat16)
    scores = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 if record or written_out else None
    if scores is not None and bias is not None:
        scores = scores + bias.to(scores.dtype)
    if not written_out:
        mask = _sum(mask, bias)
        mask, width = None if mask is None else mask.to(query.dtype), query.size(-1)
        if fused and (missing := -width % WIDTHS):
            wide = (F.pad(part, (0, missing)) for part in (query, key, value))
            attended = F.scaled_dot_product_attention(*wide, attn_mask=mask, dropout_p=p, scale=width**-0.5)
            return attended[..., :width], scores
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p), scores
    shares = (scores if mask is None else scores + mask.to(scores.dtype)).softmax(-1)  # computed in float32, stored in its type
    return (drop(shares, p) if p else shares) @ value, scores if record else None


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Add up what may not be there."""
    return second if first is None else first if second is None else first + second
