"""Where the real tokens of a padded batch stand: everything but attention is computed for them alone.

The passages of a triple differ in length, so even in batches of similar length a sixth of all tokens is padding.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """How rows, one per token, and a batch of texts belong together.

    Attributes:
        texts: B.
        length: T.
        hidden: True where nothing may be looked at, (B, T); None where nothing is padding.
        kept: place of each row in the batch, 0..B·T-1, ascending, (N,); None where every place has a row.
        rows: row of each place, any for padding, (B·T,); None as well.
    """

    texts: int
    length: int
    hidden: Tensor | None
    kept: Tensor | None = None
    rows: Tensor | None = None

    @property
    def firsts(self) -> Tensor | slice:
        """Row of each text's first token, (B,)."""
        every = slice(None, None, self.length)
        return every if self.rows is None else self.rows[every]

    def take(self, batch: Tensor) -> Tensor:
        """Give each row its value in a batch, (B, T); returns (N,)."""
        flat = batch.reshape(-1)
        return flat if self.kept is None else flat[self.kept]

    def pad(self, rows: Tensor) -> Tensor:
        """Lay rows, (N, D), out as a batch, (B, T, D). Padding holds anything finite, and gives no gradient."""
        if self.kept is not None:
            rows = _Pad.apply(rows, self.kept, self.rows)
        return rows.view(self.texts, self.length, -1)

    def unpad(self, batch: Tensor) -> Tensor:
        """Give each row its part of a batch, (B, T, ...); returns (N, D)."""
        rows = batch.reshape(self.texts * self.length, -1)
        return rows if self.kept is None else _Unpad.apply(rows, self.kept)


def lay_out(attention_mask: Tensor, padding: bool) -> Layout:
    """Find out where the real tokens are.

    Args:
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        padding: padding gets rows, too.
    """
    real = attention_mask.bool()
    kept = real.flatten().nonzero().squeeze(1)
    if len(kept) == real.numel():
        return Layout(*real.shape, None)
    if padding:
        return Layout(*real.shape, ~real)
    return Layout(*real.shape, ~real, kept, (real.flatten().cumsum(0) - 1).clamp(min=0))


class _Pad(torch.autograd.Function):
    """Copies both ways, where torch's own gradient adds row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kept: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return rows.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, *ctx.saved_tensors), None, None


class _Unpad(torch.autograd.Function):
    """The other way; padding gets a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.places = len(batch)
        return batch.index_select(0, kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.places, gradient.size(1))
        return whole.index_copy_(0, *ctx.saved_tensors, gradient), None
