"""Listwise losses, over all passages of a query: its softmax, the likelihood of its order, the ranks in it.

Each is one number of a group, then the mean over groups.
"""

import math

import torch
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import Grouped, differences, full, group_log_softmax, group_number, lay_out, mean_ranks, members
from rankdistil.models.bert import Trace


def list_net(student: Tensor, teacher: Tensor, groups: Grouped, temperature: float = 1.0) -> Tensor:
    """Cross-entropy between the teacher's and the student's softmax over each group's passages.

    It is ``logits.group_divergence`` and the teacher's entropy: the same gradient, but an equal student doesn't cost 0.

    Args:
        student: scores, float, (B,).
        teacher: the same shape; receives no gradient.
        groups: pairs of one group share a number 0..G-1, (B,).
        temperature: divides both sides before the softmax; not squared back into the loss.

    Returns:
        Scalar, in float32 and in nats: summed over the passages of a group, mean over groups; a group of one adds 0.

    Source: Cao et al. 2007 (top-one probabilities).
    """
    own, wanted = (group_log_softmax(full(side) / temperature, groups) for side in (student, teacher.detach()))
    return -(wanted.exp() * own).sum() / group_number(groups)


def list_mle(student: Tensor, teacher: Tensor, groups: Grouped, position_aware: bool = False) -> Tensor:
    """Negative log-likelihood of the teacher's order under the student's scores, by Plackett and Luce.

    The passages are drawn from the top of the order, each with its softmax among those that aren't drawn yet. Passages that the
    teacher scores alike are drawn together, each among all of them and those below (Breslow's rule), so that the order in
    which they stand in a batch has no say.

    Args:
        student: scores, float, (B,).
        teacher: scores of which only the order counts, (B,); receives no gradient.
        groups: pairs of one group share a number, (B,).
        position_aware: weights the draw of rank r in a group of K by 2^(K-r) - 1, the weights of a group adding up to 1.

    Returns:
        Scalar, in float32 and in nats: summed over the passages of a group, mean over groups; a group of one adds 0.

    Source: Xia et al. 2008; Lan et al. 2014 (position-aware).
    """
    laid = lay_out(groups)
    scores, wanted = laid.of(full(student)), laid.of(full(teacher.detach()))
    left = laid.pairs & (differences(wanted) >= 0)  # second: not drawn before the first
    left = left | torch.eye(left.size(1), dtype=torch.bool, device=left.device)  # where there is no passage, too: no log of 0
    total = scores[:, None, :].expand(left.shape).masked_fill(~left, -torch.inf).logsumexp(2)
    costs = (total - scores).masked_fill(~laid.real, 0)
    if position_aware:
        ranks, sizes = mean_ranks(wanted, laid.real), laid.real.sum(1, keepdim=True)
        weights = (2**-ranks - 2.0**-sizes).masked_fill(~laid.real, 0)  # over 2^K, which long groups have no number for
        costs = costs * weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(costs.dtype).tiny)
    return costs.sum(1).mean()


DISCOUNTS = {
    "log2": lambda ranks: 1 / torch.log2(1 + ranks),
    "reciprocal": lambda ranks: 1 / ranks,
    "none": torch.ones_like,
}


def adr_mse(student: Tensor, teacher: Tensor, groups: Grouped, sharpness: float = 1.0, discount: str = "log2") -> Tensor:
    """Mean squared gap between the teacher's ranks and a smooth approximation of the student's: ADR-MSE.

    Args:
        student: scores, float, (B,).
        teacher: scores of which only the ranks count, (B,); receives no gradient. Equal ones share the mean of their ranks.
        groups: pairs of one group share a number, (B,).
        sharpness: a of the student's rank of i, 1 + sum of sigmoid(a (s_j - s_i)) over the other passages j.
        discount: weight of a passage of rank r: 1 / log2(1 + r) (``log2``), 1 / r (``reciprocal``) or 1 (``none``).

    Returns:
        Scalar, in float32: mean over the passages of a group, then over groups; a group of one adds 0. Only scores far apart
        reach whole ranks, so an equal order doesn't cost 0. (In the mean over all passages of a batch, which others take, long
        groups weigh more.)

    Source: Schlatt et al. 2025, arXiv:2405.07920.
    """
    laid = lay_out(groups)
    ranks = mean_ranks(laid.of(full(teacher.detach())), laid.real)
    above = (sharpness * -differences(laid.of(full(student)))).sigmoid()
    approximate = 0.5 + above.masked_fill(~laid.pairs, 0).sum(2)  # each is half above itself
    return laid.mean(DISCOUNTS[discount](ranks) * (ranks - approximate).square(), laid.real)


class ListNetLoss(nn.Module):
    """Learn how the teacher spreads relevance over a list.

    Args:
        temperature: softens both sides, greater than 0.

    Raises:
        ValueError: for a temperature of 0 or less.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True
    least_passages = 3

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = _above_zero("temperature", temperature)

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        return list_net(student.logits, teacher.logits, members(batch), self.temperature)


class ListMLELoss(nn.Module):
    """Learn the teacher's order, drawn from its top.

    Args:
        position_aware: whether the top counts most; see ``list_mle``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True
    least_passages = 3

    def __init__(self, position_aware: bool = False) -> None:
        super().__init__()
        self.position_aware = position_aware

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        return list_mle(student.logits, teacher.logits, members(batch), self.position_aware)


class ADRMSELoss(nn.Module):
    """Learn the teacher's ranks.

    Args:
        sharpness: of the student's ranks, greater than 0; see ``adr_mse``.
        discount: see ``adr_mse``.

    Raises:
        ValueError: for a sharpness of 0 or less, or another value of ``discount``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True
    least_passages = 3

    def __init__(self, sharpness: float = 1.0, discount: str = "log2") -> None:
        super().__init__()
        if discount not in DISCOUNTS:
            raise ValueError(f"discount is {discount!r}; expected one of {', '.join(DISCOUNTS)}.")
        self.sharpness, self.discount = _above_zero("sharpness", sharpness), discount

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        return adr_mse(student.logits, teacher.logits, members(batch), self.sharpness, self.discount)


def _above_zero(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; expected a number greater than 0.")
    return value
