"""Attention that also shows its scores before softmax, where a loss compares them.

Distillation compares Q·Kᵀ/√d. The library's own outputs hold probabilities after softmax, and under SDPA an empty tuple.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdistil.models.dropout import drop


def attend(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, p: float, record: bool
) -> tuple[Tensor, Tensor | None]:
    """Dropout(softmax(QKᵀ/√d))V.

    On a CPU, SDPA with dropout takes four times as long as the products written out, and in bfloat16 it is slower without
    dropout, too; where scores are recorded it would compute them twice.

    Args:
        query: (B, H, Q, d).
        key: (B, H, T, d).
        value: (B, H, T, d).
        hidden: True where nothing may be looked at, (B, T); None where nothing is hidden.
        p: dropout of the attention.
        record: whether to return the scores.

    Returns:
        (B, H, Q, d), and the scores before mask and softmax, (B, H, Q, T), or None.
    """
    on_cpu = query.device.type == "cpu"
    scores = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 if record else None
    if not on_cpu or not (record or p or query.dtype == torch.bfloat16):
        mask = None if hidden is None else ~hidden[:, None, None]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p), scores
    seen = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 if scores is None else scores
    if hidden is not None:
        seen = seen + torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)[:, None, None]  # float32 from here
    shares = seen.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (drop(shares, p) if p else shares) @ value, scores
