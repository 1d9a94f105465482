"""Knowledge distillation on logits: each pair by itself, or those of a group together."""

import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import Grouped, full, group_log_softmax, group_number, members
from rankdistil.models.bert import Trace


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy between the teacher's and the student's softened predictions.

    A one-logit head is read as the two classes (not relevant, relevant) with logits (0, s), so its loss equals that of a
    two-class head whose logits differ by s.

    Args:
        student: logits, float, (B,) or (B, C).
        teacher: the same shape; receives no gradient.
        temperature: divides both sides before the softmax; not squared back into the loss.

    Returns:
        Scalar, in float32: summed over classes, mean over pairs. TinyBERT's code takes the mean over classes too: half of
        this for two classes.

    Raises:
        ValueError: if the shapes differ.

    Source: Hinton et al. 2015, arXiv:1503.02531; Jiao et al. 2020, arXiv:1909.10351 (prediction-layer distillation).
    """
    _require_alike(student, teacher)
    student, teacher = full(student) / temperature, full(teacher.detach()) / temperature
    if student.dim() == 1:
        return F.binary_cross_entropy_with_logits(student, teacher.sigmoid())
    return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared gap between the student's and the teacher's logits, on the teacher's own scale.

    Args:
        student: logits, float, (B,).
        teacher: the same shape; receives no gradient.

    Returns:
        Scalar, in float32: mean over pairs, whatever their group.

    Raises:
        ValueError: if the shapes differ.

    Source: Ba & Caruana 2014, arXiv:1312.6184.
    """
    _require_alike(student, teacher)
    return F.mse_loss(full(student), full(teacher.detach()))


def _require_alike(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"logits differ in shape: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}.")


def group_divergence(student: Tensor, teacher: Tensor, groups: Grouped, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the student's softmax over each group's passages from the teacher's.

    Only differences within a group count, as in a ranking: a constant added to all scores of a query costs nothing.

    Args:
        student: logits, float, (B,).
        teacher: the same shape; receives no gradient.
        groups: pairs of one group share a number 0..G-1, (B,).
        temperature: divides both sides before the softmax; not squared back into the loss.

    Returns:
        Scalar, in float32 and in nats: summed over the passages of a group, mean over groups; a group of one adds 0.

    Source: listwise distillation as in lightning-ir's KLDivergence; for groups of two the soft form of RankNet (Burges et al.
        2005) up to the teacher's entropy.
    """
    own, wanted = (group_log_softmax(full(side) / temperature, groups) for side in (student, teacher.detach()))
    return (wanted.exp() * (wanted - own)).sum() / group_number(groups)


class LogitLoss(nn.Module):
    """Learn the teacher's logits.

    Args:
        temperature: softens both sides, greater than 0.
        over: ``pair`` learns each logit by itself (``soft_cross_entropy``), ``group`` how the passages of a group stand to one
            another (``group_divergence``).

    Raises:
        ValueError: for a temperature of 0 or less, or another value of ``over``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True

    def __init__(self, temperature: float = 1.0, over: str = "pair") -> None:
        super().__init__()
        if over not in ("pair", "group"):
            raise ValueError(f"over is {over!r}; expected 'pair' or 'group'.")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected a number greater than 0.")
        self.temperature, self.over = temperature, over

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        if self.over == "group":
            return group_divergence(student.logits, teacher.logits, members(batch), self.temperature)
        return soft_cross_entropy(student.logits, teacher.logits, self.temperature)


class LogitMSELoss(nn.Module):
    """Learn the teacher's logits as they are."""

    needs: frozenset[str] = frozenset()
    asks_teacher = True

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        return logit_mse(student.logits, teacher.logits)
