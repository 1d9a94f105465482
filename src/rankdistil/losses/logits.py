"""Soft labels: the student's scores learn the teacher's."""

import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.batch import PairBatch
from rankdistil.models.trace import Trace


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
    if student.shape != teacher.shape:
        raise ValueError(f"logits differ in shape: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}.")
    student, teacher = student.float() / temperature, teacher.detach().float() / temperature
    if student.dim() == 1:
        return F.binary_cross_entropy_with_logits(student, teacher.sigmoid())
    return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()


class LogitLoss(nn.Module):
    """Learn the teacher's logits.

    Args:
        temperature: softens both sides, greater than 0.

    Raises:
        ValueError: for a temperature of 0 or less.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"stage.losses.logits.loss.temperature is {temperature}; expected a number greater than 0.")
        self.temperature = temperature

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        return soft_cross_entropy(student.logits, teacher.logits, self.temperature)
