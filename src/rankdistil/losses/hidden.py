"""Hidden-state and embedding distillation: mean squared error against the mapped layer of the teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import full
from rankdistil.models.bert import Trace
from rankdistil.models.layout import real_places

SMALLEST = 1e-12  # a variance above zero for states that are all alike


def hidden_mse(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, count_padding: bool = False, relative: bool = False,
    tokens: int | None = None,
) -> Tensor:  # fmt: skip
    """Mean squared gap between two hidden states.

    Args:
        student: hidden states in the teacher's width, float, (B, T, D), or (N, D) of real tokens alone.
        teacher: the same shape; receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T); only for states that hold padding.
        count_padding: mean over all positions, as TinyBERT's code does; by default over real tokens only.
        relative: divided by the variance of the teacher's states over the tokens that count, mean over units: 0 is the teacher
            itself, 1 is what its mean would cost, whatever the scale of a layer.
        tokens: how many are real; None asks the device of ``mask``.

    Returns:
        Scalar, in float32. Real tokens and units weigh equally. A batch without a real token gives 0.

    Raises:
        ValueError: if the states differ in shape, or are to count padding that they don't hold.

    Source: Jiao et al. 2020, arXiv:1909.10351 (hidden-states-based distillation).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"hidden states differ in shape: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. "
            "Set stage.projection=auto so that a learned projection bridges the widths."
        )
    if student.dim() == 2 and count_padding:
        raise ValueError("count_padding=True needs hidden states with padding; these are of real tokens alone.")
    if student.dim() == 3:
        student, teacher = student.flatten(0, 1), teacher.flatten(0, 1)
        if not count_padding:
            kept = real_places(mask, tokens)
            student, teacher = student[kept], teacher[kept]
    student, teacher = student.float(), teacher.detach().float()
    if not len(student):
        return student.sum()
    gap = F.mse_loss(student, teacher)
    return gap / (teacher - teacher.mean(0)).square().mean().clamp(min=SMALLEST) if relative else gap


def first_token_gap(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance between the states of [CLS], each of length 1.

    Args:
        student: hidden states in the teacher's width, float, (B, T, D), or (N, D) of real tokens alone.
        teacher: the same shape; receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T).

    Returns:
        Scalar from 0 (the same direction) to 4 (the opposite one), in float32: summed over units, mean over texts. PKD's code
        takes the mean over units: 1/D of this.

    Source: Sun et al. 2019, arXiv:1908.09355 (patient knowledge distillation).
    """
    own, wanted = (F.normalize(full(_first(states, mask)), dim=1) for states in (student, teacher.detach()))
    return (own - wanted).square().sum(1).mean()


def _first(states: Tensor, mask: Tensor) -> Tensor:
    """Return the state of each text's first token, (B, D)."""
    if states.dim() == 3:
        return states[:, 0]
    lengths = mask.sum(1)
    return states[lengths.cumsum(0) - lengths]


class HiddenLoss(nn.Module):
    """Sum over mapped layers of ``hidden_mse``, or their mean where it is relative; the embedding output has its own loss.

    Args:
        count_padding: see ``hidden_mse``.
        relative: see ``hidden_mse``.
    """

    needs = frozenset({"hidden"})
    asks_teacher = True

    def __init__(self, count_padding: bool = False, relative: bool = False) -> None:
        super().__init__()
        self.count_padding, self.relative = count_padding, relative

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no layer outputs, or not the same number on both sides.
        """
        parts = [
            hidden_mse(*pair, batch.attention_mask, self.count_padding, self.relative, batch.tokens)
            for pair in _layers(student, teacher)
        ]
        return torch.stack(parts).mean() if self.relative else torch.stack(parts).sum()


class FirstTokenLoss(nn.Module):
    """Mean over mapped layers of ``first_token_gap``: PKD."""

    needs = frozenset({"hidden"})
    asks_teacher = True

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no layer outputs, or not the same number on both sides.
        """
        parts = [first_token_gap(*pair, batch.attention_mask) for pair in _layers(student, teacher)]
        return torch.stack(parts).mean()


def _layers(student: Trace, teacher: Trace) -> list[tuple[Tensor, Tensor]]:
    """Pair the outputs of mapped layers."""
    states = student.hidden_states[1:], teacher.hidden_states[1:]
    if not states[0] or len(states[0]) != len(states[1]):
        raise RuntimeError(f"hidden loss over {len(states[0])} student and {len(states[1])} teacher layers")
    return list(zip(*states, strict=True))


class EmbeddingLoss(nn.Module):
    """``hidden_mse`` of the embedding outputs (hidden state 0).

    Args:
        count_padding: see ``hidden_mse``.
        relative: see ``hidden_mse``.

    Source: Jiao et al. 2020, arXiv:1909.10351 (embedding-layer distillation).
    """

    needs = frozenset({"embedding"})
    asks_teacher = True

    def __init__(self, count_padding: bool = False, relative: bool = False) -> None:
        super().__init__()
        self.count_padding, self.relative = count_padding, relative

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no hidden state.
        """
        if not student.hidden_states or not teacher.hidden_states:
            raise RuntimeError("embedding loss over a trace without hidden states")
        states = student.hidden_states[0], teacher.hidden_states[0]
        return hidden_mse(*states, batch.attention_mask, self.count_padding, self.relative, batch.tokens)
