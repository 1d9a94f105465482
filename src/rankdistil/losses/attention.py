"""Attention maps: where the student looks learns where the teacher looks."""

import torch
from torch import Tensor, nn

from rankdistil.data.batch import PairBatch
from rankdistil.models.trace import Trace


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor, count_padding: bool = False) -> Tensor:
    """Mean squared gap between two attention maps before softmax.

    Args:
        student: scores before softmax, float, (B, H, T, T).
        teacher: the same shape; receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T).
        count_padding: mean over all T×T entries, padded rows included and padded columns as 0, as TinyBERT's code does. By
            default only pairs of real tokens count, so the loss doesn't depend on how far a batch is padded.

    Returns:
        Scalar, in float32. Heads and real token pairs weigh equally. A batch without a real token gives 0.

    Raises:
        ValueError: if the maps differ in shape.

    Source: Jiao et al. 2020, arXiv:1909.10351 (attention-based distillation).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"attention maps differ in shape: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. "
            f"Pick a student with {teacher.shape[1]} heads, or drop the loss: '~stage.losses.attention'."
        )
    gap = student.float() - teacher.detach().float()
    pairs = mask[:, None, None, :].float()
    if not count_padding:
        pairs = pairs * mask[:, None, :, None].float()
    gap = gap.mul_(pairs).square()  # as fast as it gets: a CPU takes several times as long to fill by a mask of booleans
    return gap.mean() if count_padding else gap.sum() / (pairs.sum() * gap.size(1)).clamp(min=1)


class AttentionLoss(nn.Module):
    """Sum over mapped layers of ``attention_mse``.

    Args:
        count_padding: see ``attention_mse``.
    """

    needs = frozenset({"attention"})
    asks_teacher = True

    def __init__(self, count_padding: bool = False) -> None:
        super().__init__()
        self.count_padding = count_padding

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no attention scores, or not the same number on both sides.
        """
        maps = student.attention_scores, teacher.attention_scores
        if not maps[0] or len(maps[0]) != len(maps[1]):
            raise RuntimeError(f"attention loss over {len(maps[0])} student and {len(maps[1])} teacher layers")
        return torch.stack(
            [attention_mse(s, t, batch.attention_mask, self.count_padding) for s, t in zip(*maps, strict=True)]
        ).sum()
