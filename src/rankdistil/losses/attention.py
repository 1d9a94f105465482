"""Attention distillation: mean squared error of attention scores, or divergence of attention distributions."""

import torch
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import full
from rankdistil.models.bert import Trace

LOWEST = -1e4  # the score of padding, which no token looks at


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
    _require_alike(student, teacher)
    gap = student.float() - teacher.detach().float()
    pairs = mask[:, None, None, :].float()
    if not count_padding:
        pairs = pairs * mask[:, None, :, None].float()
    gap = gap.mul_(pairs).square()  # as fast as it gets: a CPU takes several times as long to fill by a mask of booleans
    return gap.mean() if count_padding else gap.sum() / (pairs.sum() * gap.size(1)).clamp(min=1)


def _require_alike(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"attention maps differ in shape: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. "
            f"Pick a student with {teacher.shape[1]} heads, or drop the loss: '~stage.losses.attention'."
        )


def attention_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's attention after softmax from the teacher's.

    Scores before softmax may differ by a constant in every row, and far below the highest by anything, without any effect on
    the network; their squares are mostly that. Here only what a token looks at counts.

    Args:
        student: scores before softmax, float, (B, H, T, T).
        teacher: the same shape; receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T).

    Returns:
        Scalar, in float32, in nats: heads and real tokens that look weigh equally. A batch without a real token gives 0.

    Raises:
        ValueError: if the maps differ in shape.

    Source: Wang et al. 2020, arXiv:2002.10957 (MiniLM's attention transfer, there of the last layer alone).
    """
    _require_alike(student, teacher)
    hidden, real = mask[:, None, None, :] == 0, mask[:, None, :].float()
    own, wanted = (full(part).masked_fill(hidden, LOWEST).log_softmax(-1) for part in (student, teacher.detach()))
    apart = (wanted.exp() * (wanted - own)).sum(-1) * real
    return apart.sum() / (real.sum() * student.size(1)).clamp(min=1)


class AttentionLoss(nn.Module):
    """Sum over mapped layers of ``attention_mse``, or mean over them of ``attention_divergence``.

    Args:
        count_padding: see ``attention_mse``.
        compare: ``scores``, before softmax, as TinyBERT does, or ``shares``, after it.

    Raises:
        ValueError: for another value of ``compare``, and for counted padding, of which there are no shares.
    """

    needs = frozenset({"attention"})
    asks_teacher = True

    def __init__(self, count_padding: bool = False, compare: str = "scores") -> None:
        super().__init__()
        if compare not in ("scores", "shares"):
            raise ValueError(f"compare is {compare!r}; expected 'scores' or 'shares'.")
        if count_padding and compare == "shares":
            raise ValueError("count_padding is true; compare=shares has no padding to count. Set it to false.")
        self.count_padding, self.compare = count_padding, compare

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no attention scores, or not the same number on both sides.
        """
        maps = student.attention_scores, teacher.attention_scores
        if not maps[0] or len(maps[0]) != len(maps[1]):
            raise RuntimeError(f"attention loss over {len(maps[0])} student and {len(maps[1])} teacher layers")
        pairs, mask = list(zip(*maps, strict=True)), batch.attention_mask
        if self.compare == "shares":
            return torch.stack([attention_divergence(*pair, mask) for pair in pairs]).mean()
        return torch.stack([attention_mse(*pair, mask, self.count_padding) for pair in pairs]).sum()
