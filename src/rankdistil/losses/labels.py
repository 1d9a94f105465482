"""Cross-entropy on relevance labels, over a group or for each pair, and gBCE: what is learnt without a teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import Grouped, full, group_log_softmax, lay_out, members
from rankdistil.models.bert import Trace


def label_cross_entropy(logits: Tensor, labels: Tensor, groups: Grouped) -> Tensor:
    """Cross-entropy of choosing the positive among the passages of its triple.

    Args:
        logits: scores, float, (B,).
        labels: 1 for a positive, 0 for a negative, (B,).
        groups: pairs of one triple share a number 0..G-1, (B,).

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


def generalised_binary_cross_entropy(
    logits: Tensor, labels: Tensor, groups: Grouped, sampled_from: int, calibration: float = 0.75
) -> Tensor:
    """gBCE: binary cross-entropy of each pair; positives count the less, the smaller the share of negatives that were drawn.

    A positive's logarithm counts b = 1 - t (1 - a) times, where a is the share of negatives that were drawn. With few negatives
    the plain loss, b = 1, teaches probabilities that are too high, and so spends itself on positives that are certain.

    Args:
        logits: scores, float, (B,).
        labels: 1 for a positive, 0 for a negative, (B,).
        groups: pairs of one group share a number, (B,).
        sampled_from: candidates that the negatives of a group were drawn from.
        calibration: t, from 0 (the plain loss) to 1.

    Returns:
        Scalar, computed in float32: mean over the pairs of a group, then over groups. A positive alone costs (1 - t) of its own
        loss.

    Source: Petrov & Macdonald 2023, arXiv:2308.07192; for cross-encoders Petrov et al. 2024, arXiv:2403.20222.
    """
    laid = lay_out(groups)
    scores, positive = laid.of(full(logits)), laid.of(labels) > 0
    drawn = (laid.real & ~positive).sum(1, keepdim=True) / sampled_from
    share = 1 - calibration * (1 - drawn.clamp(max=1))
    return laid.mean(torch.where(positive, share * F.softplus(-scores), F.softplus(scores)), laid.real)


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
            raise ValueError(f"over is {over!r}; expected 'group' or 'pair'.")
        self.over = over

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch; the teacher isn't used."""
        if self.over == "pair":
            return label_binary_cross_entropy(student.logits, batch.labels)
        return label_cross_entropy(student.logits, batch.labels, members(batch))


class GBCELoss(nn.Module):
    """Learn the judgments pair by pair, calibrated by how many negatives were drawn.

    Args:
        sampled_from: see ``generalised_binary_cross_entropy``; about ``data.negatives_depth``.
        calibration: see there.

    Raises:
        ValueError: for a number of candidates below 1, or a calibration outside of [0, 1].
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = False

    def __init__(self, sampled_from: int, calibration: float = 0.75) -> None:
        super().__init__()
        if sampled_from < 1:
            raise ValueError(f"sampled_from is {sampled_from}; expected a whole number of at least 1.")
        if not 0 <= calibration <= 1:
            raise ValueError(f"calibration is {calibration}; expected a number from 0 to 1.")
        self.sampled_from, self.calibration = sampled_from, calibration

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch; the teacher isn't used."""
        return generalised_binary_cross_entropy(
            student.logits, batch.labels, members(batch), self.sampled_from, self.calibration
        )
