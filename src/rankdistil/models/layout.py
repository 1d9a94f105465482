"""Padding-free batches: which of a network's rows make up a text, and attention among those.

Rows, (N, D), hold one token each, one text behind the other. Passages differ in length: even in batches of similar length a
sixth of all tokens is padding, so it is left out of all but attention.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdistil.models.dropout import drop
from rankdistil.models.positions import NOWHERE, Places


class Padded(NamedTuple):
    """Rows of a padded batch, with or without its padding.

    Attributes:
        texts: B.
        length: T.
        mask: what is added to attention scores: 0, and -inf or as good as that at padding, float, (B, 1, 1, T); None where
            nothing is padding.
        kept: place of each row in the batch, 0..B·T-1, ascending, (N,); None where every place has a row.
        rows: row of each place, any for padding, (B·T,); None as well.
    """

    texts: int
    length: int
    mask: Tensor | None
    kept: Tensor | None = None
    rows: Tensor | None = None

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
        places = self.texts * self.length
        rows = batch.reshape(places, -1)
        if self.kept is None:
            return rows

        def spread(gradient: Tensor) -> Tensor:
            return gradient.new_zeros(places, gradient.size(1)).index_copy_(0, self.kept, gradient)

        return _Select.apply(rows, self.kept, spread)

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
        parts = query[:, None] if alone else self.pad(query), self.pad(key), self.pad(value)
        split = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
        attended, scores = attend(*split, self.mask, p, record, where)
        attended = attended.transpose(1, 2)
        return attended.flatten(1) if alone else self.unpad(attended), scores


def lay_out(attention_mask: Tensor, padding: bool) -> Padded:
    """Find out where the real tokens are.

    Args:
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        padding: padding gets rows, too.
    """
    real = attention_mask.bool()
    kept = real.flatten().nonzero().squeeze(1)
    if len(kept) == real.numel():
        return Padded(*real.shape, None)
    mask = torch.zeros(real.shape, device=real.device).masked_fill(~real, -torch.inf)[:, None, None]
    if padding:
        return Padded(*real.shape, mask)
    return Padded(*real.shape, mask, kept, (real.flatten().cumsum(0) - 1).clamp(min=0))


class _Select(torch.autograd.Function):
    """Selects rows by index. Its gradient is given, and copies rows, where torch's own adds them one by one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.gradient = gradient
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient(gradient), None, None


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, record: bool, where: Places = NOWHERE
) -> tuple[Tensor, Tensor | None]:
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

    Returns:
        (B, H, Q, d), and the scores or None.
    """
    bias = None
    if where is not NOWHERE:
        query, key = where.turned(query), where.turned(key)
        bias, window = where.among(query.size(2), key.size(2))
        mask = _sum(mask, window)
    written_out = query.device.type == "cpu" and (record or p > 0 or query.dtype == torch.bfloat16)
    scores = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 if record or written_out else None
    if scores is not None and bias is not None:
        scores = scores + bias.to(scores.dtype)
    if not written_out:
        mask = _sum(mask, bias)
        mask = None if mask is None else mask.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p), scores
    shares = (scores if mask is None else scores + mask).softmax(-1, dtype=torch.float32).to(value.dtype)
    return (drop(shares, p) if p else shares) @ value, scores if record else None


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Add up what may not be there."""
    return second if first is None else first if second is None else first + second
