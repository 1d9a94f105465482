"""Relative positions in attention: learnt biases, rotated queries and keys, windows.

What they are depends on places in a text alone, so they are made once for the longest text of a pass, and shorter ones read the
first rows and columns. Angles and biases are float32 whatever the states are.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

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
