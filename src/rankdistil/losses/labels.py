"""Ranking loss on labels: what is learnt from judgments alone, without a teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import Trace


def group_log_softmax(logits: Tensor, groups: Tensor) -> Tensor:
    """Logarithm of the softmax within each group, in float32.

    Args:
        logits: float, (B,).
        groups: pairs of one group share a number 0..G-1, int64, (B,); groups may differ in size.

    Returns:
        (B,); that of a group of one is 0.
    """
    logits, count = logits.float(), int(groups.max()) + 1
    peak = logits.new_full((count,), -torch.inf).scatter_reduce(0, groups, logits.detach(), "amax")
    total = logits.new_zeros(count).scatter_add(0, groups, (logits - peak[groups]).exp())
    return logits - peak[groups] - total.log()[groups]


def label_cross_entropy(logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Cross-entropy of choosing the positive among the passages of its triple.

    Args:
        logits: scores, float, (B,).
        labels: 1 for a positive, 0 for a negative, (B,).
        groups: pairs of one triple share a number 0..G-1, int64, (B,).

    Returns:
        Scalar: the mean over positives of -log softmax within the group, computed in float32. A group that holds several
        positives counts each of them; 0 if the batch holds no positive.

    Source: localised contrastive estimation, Gao et al. 2021, arXiv:2101.08751; with one negative per positive it is
    the RankNet loss, Burges et al. 2005.
    """
    positives = (labels > 0).float()
    return -(group_log_softmax(logits, groups) * positives).sum() / positives.sum().clamp(min=1)


def label_binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each pair on its own, mean over pairs.

    Args:
        logits: scores, float, (B,).
        labels: 1 for a positive, 0 for a negative, (B,).

    Returns:
        Scalar, computed in float32.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


class LabelLoss(nn.Module):
    """Learn the judgments.

    Args:
        over: ``group`` compares the passages of one triple, ``pair`` judges each pair alone.

    Raises:
        ValueError: for another value of ``over``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = False

    def __init__(self, over: str = "group") -> None:
        super().__init__()
        if over not in ("group", "pair"):
            raise ValueError(f"over is {over!r} in stage.losses.labels; expected 'group' or 'pair'.")
        self.over = over

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch; the teacher isn't used."""
        if self.over == "pair":
            return label_binary_cross_entropy(student.logits, batch.labels)
        return label_cross_entropy(student.logits, batch.labels, batch.groups)
