"""Attention over packed tokens: pairs of one length at a time, so that no token is padding."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdistil.inference.packed import PackedBatch


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
