"""Pairwise losses: how far the teacher puts one passage of a query above another (Margin-MSE), or only that it does.

Each is a mean over the pairs that count in a group, then over groups. Of groups of equal size and without ties that is the mean
over all pairs of a batch, which lightning-ir and sentence-transformers take.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import Grouped, Groups, differences, full, lay_out, mean_ranks, members
from rankdistil.models.bert import Trace


def margin_mse(student: Tensor, teacher: Tensor, groups: Grouped, labels: Tensor | None = None) -> Tensor:
    """Mean squared gap between the student's and the teacher's margin of two passages.

    Args:
        student: scores, float, (B,).
        teacher: the same shape; receives no gradient.
        groups: pairs of one group share a number, (B,).
        labels: 1 for a positive, 0 for a negative, (B,): each positive counts against each negative. None counts all pairs of
            passages once, those that the teacher scores alike among them.

    Returns:
        Scalar, in float32. A group without a pair that counts adds 0.

    Source: Hofstätter et al. 2020, arXiv:2010.02666 (one positive and one negative).
    """
    laid = lay_out(groups)
    gaps = differences(laid.of(full(student) - full(teacher.detach())))
    if labels is None:
        return laid.mean(gaps.square(), _once(laid))
    positive = laid.of(labels) > 0
    return laid.mean(gaps.square(), laid.pairs & positive[:, :, None] & ~positive[:, None, :])


def ranknet(student: Tensor, teacher: Tensor, groups: Grouped) -> Tensor:
    """Logistic loss of the student's margins over the teacher's order.

    Args:
        student: scores, float, (B,).
        teacher: scores of which only the order counts, (B,); receives no gradient.
        groups: pairs of one group share a number, (B,).

    Returns:
        Scalar, in float32 and in nats: log(1 + exp(s_j - s_i)) of the pairs that the teacher puts i above j. Passages that it
        scores alike are no pair; a group without a pair adds 0.

    Source: Burges et al. 2005; over a teacher's whole order Schlatt et al. 2025, arXiv:2405.07920.
    """
    laid = lay_out(groups)
    margins = differences(laid.of(full(student)))
    return laid.mean(F.softplus(-margins), laid.pairs & (differences(laid.of(full(teacher.detach()))) > 0))


def soft_ranknet(student: Tensor, teacher: Tensor, groups: Grouped) -> Tensor:
    """Cross-entropy between the teacher's and the student's probability that one passage is the better of two.

    Args:
        student: scores, float, (B,).
        teacher: the same shape; receives no gradient.
        groups: pairs of one group share a number, (B,).

    Returns:
        Scalar, in float32 and in nats, over all pairs of passages. Equal margins cost the teacher's entropy, not 0; a group of
        one adds 0.

    Source: Burges et al. 2005 (target probabilities between 0 and 1).
    """
    laid = lay_out(groups)
    margins, wanted = (differences(laid.of(full(side))) for side in (student, teacher.detach()))
    costs = F.binary_cross_entropy_with_logits(margins, wanted.sigmoid(), reduction="none")
    return laid.mean(costs, _once(laid))


def lambda_loss(student: Tensor, relevance: Tensor, groups: Grouped, mu: float = 10.0) -> Tensor:
    """RankNet's loss, each pair weighted by what it has to do with nDCG: NDCGLoss2++.

    With gains 2^relevance - 1 over the group's ideal DCG and D(r) = log2(1 + r), a pair's weight is the gap of its gains times
    |1/D(r_i) - 1/D(r_j)| + mu |1/D(|r_i - r_j|) - 1/D(|r_i - r_j| + 1)|, where r are ranks by the student's scores.

    Args:
        student: scores, float, (B,).
        relevance: the more relevant, the higher; below 0 it gains nothing, (B,); receives no gradient.
        groups: pairs of one group share a number, (B,).
        mu: weight of the tight bound beside LambdaRank's weight.

    Returns:
        Scalar, in float32, in bits as in the source: the mean over pairs of different relevance. Of passages that the student
        scores alike the less relevant stands first; a group without a pair adds 0.

    Source: Wang et al. 2018, The LambdaLoss Framework for Ranking Metric Optimization (CIKM).
    """
    laid = lay_out(groups)
    scores, relevance = laid.of(full(student)), laid.of(full(relevance.detach()))
    weights = _lambda_weights(scores.detach(), relevance, laid, mu)
    costs = F.softplus(-differences(scores)) / math.log(2)
    return laid.mean(weights * costs, laid.pairs & (differences(relevance) > 0))


def _lambda_weights(scores: Tensor, relevance: Tensor, laid: Groups, mu: float) -> Tensor:
    gains = torch.where(laid.real, 2 ** relevance.clamp(min=0) - 1, 0)
    places = torch.arange(1, gains.size(1) + 1, device=gains.device, dtype=gains.dtype)
    ideal = (gains.sort(1, descending=True).values / torch.log2(1 + places)).sum(1, keepdim=True)
    ranks = _worst_ranks(scores, relevance, laid.real)
    share, apart = 1 / torch.log2(1 + ranks), differences(ranks).abs().clamp(min=1)
    bound = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
    gaps = differences(gains / ideal.clamp(min=torch.finfo(gains.dtype).tiny)).abs()
    return gaps * (differences(share).abs() + mu * bound)


def _worst_ranks(scores: Tensor, relevance: Tensor, real: Tensor) -> Tensor:
    """Rank by scores, and of equal scores the less relevant first: else equal scores would be no error to mend."""
    order = mean_ranks(scores, real)
    alike = (scores[:, None, :] == scores[:, :, None]) & real[:, None, :]
    less = alike & (relevance[:, None, :] < relevance[:, :, None])
    more = alike & (relevance[:, None, :] > relevance[:, :, None])
    return order + (less.sum(2) - more.sum(2)) / 2


def _once(laid: Groups) -> Tensor:
    """Return which pairs count where two passages are one pair, (G, K, K)."""
    return laid.pairs & torch.ones_like(laid.pairs[0]).triu(1)


class MarginMSELoss(nn.Module):
    """Learn the teacher's margins.

    Args:
        over: ``positive`` compares each positive with each negative, as the judgments say; ``all`` all passages of a group.

    Raises:
        ValueError: for another value of ``over``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True

    def __init__(self, over: str = "positive") -> None:
        super().__init__()
        if over not in ("positive", "all"):
            raise ValueError(f"over is {over!r}; expected 'positive' or 'all'.")
        self.over = over

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        return margin_mse(student.logits, teacher.logits, members(batch), batch.labels if self.over == "positive" else None)


class RankNetLoss(nn.Module):
    """Learn the teacher's order, pair by pair.

    Args:
        order: ``hard`` learns which of two passages the teacher puts first, ``soft`` how probably, too.

    Raises:
        ValueError: for another value of ``order``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True

    def __init__(self, order: str = "hard") -> None:
        super().__init__()
        if order not in ("hard", "soft"):
            raise ValueError(f"order is {order!r}; expected 'hard' or 'soft'.")
        self.order = order

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        loss = ranknet if self.order == "hard" else soft_ranknet
        return loss(student.logits, teacher.logits, members(batch))


class LambdaLoss(nn.Module):
    """Learn the teacher's order, most of all at its top.

    Args:
        relevance: ``ranks`` takes 1 / rank by the teacher, whatever the scale of its scores; ``scores`` takes them as they are.
        mu: see ``lambda_loss``.

    Raises:
        ValueError: for another value of ``relevance``, or a negative ``mu``.
    """

    needs: frozenset[str] = frozenset()
    asks_teacher = True
    least_passages = 3

    def __init__(self, relevance: str = "ranks", mu: float = 10.0) -> None:
        super().__init__()
        if relevance not in ("ranks", "scores"):
            raise ValueError(f"relevance is {relevance!r}; expected 'ranks' or 'scores'.")
        if not 0 <= mu < math.inf:
            raise ValueError(f"mu is {mu}; expected a number of at least 0.")
        self.relevance, self.mu = relevance, mu

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch."""
        relevance = full(teacher.logits)
        if self.relevance == "ranks":
            laid = lay_out(members(batch))
            relevance = laid.back(1 / mean_ranks(laid.of(relevance), laid.real))
        return lambda_loss(student.logits, relevance, members(batch), self.mu)
