"""Groups of a batch, laid out side by side: what losses over the passages of one query share.

Groups may differ in size, and their passages may stand anywhere in a batch. A loss is first a mean over what counts in a group,
then over groups: every query weighs as much as any other, and it makes no difference which groups share a batch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdistil.data.records import PairBatch


def full(values: Tensor) -> Tensor:
    """Return values in float32 at least: losses aren't computed in half precision, whatever autocast does around them."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Members(NamedTuple):
    """Which group each pair is of, with what is known of all: a GPU that is asked for it is waited for.

    Attributes:
        numbers: pairs of one group share one of 0..G-1, int64, (B,).
        count: groups, G.
        largest: pairs of the largest, K.
    """

    numbers: Tensor
    count: int
    largest: int


Grouped = Tensor | Members
"""Which group each pair of a batch is of: numbers alone, int64, (B,), whose device is asked what is known of them, or both."""


def members(batch: PairBatch) -> Grouped:
    """Return the groups of a batch, with what it says of them."""
    return batch.groups if batch.sizes is None else Members(batch.groups, *batch.sizes)


def _known(groups: Grouped) -> Members:
    if isinstance(groups, Members):
        return groups
    sizes = groups.unique(return_counts=True)[1]
    return Members(groups, len(sizes), int(sizes.max()))


class Groups(NamedTuple):
    """Groups as rows of one length.

    Attributes:
        places: place of each passage in the batch, in the batch's order, (G, K); any where a group is shorter.
        real: whether there is a passage, (G, K).
        cells: where each pair of the batch is laid out, 0..G·K-1, (B,).
    """

    places: Tensor
    real: Tensor
    cells: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Lay out a value of each pair, (B,); returns (G, K), 0 where there is no passage."""
        return values[self.places].masked_fill(~self.real, 0)

    def back(self, values: Tensor) -> Tensor:
        """Give each pair of the batch its value, (G, K); returns (B,)."""
        return values.flatten()[self.cells]

    @property
    def pairs(self) -> Tensor:
        """Whether there are two passages, those of a pair in both orders and each with itself, (G, K, K)."""
        return self.real[:, :, None] & self.real[:, None, :]

    def mean(self, costs: Tensor, counted: Tensor) -> Tensor:
        """Take the mean over what counts in each group, then over groups; a group in which nothing counts adds 0.

        Args:
            costs: of passages, (G, K), or pairs of them, (G, K, K); finite.
            counted: which count, the same shape.
        """
        inner = tuple(range(1, costs.dim()))
        number = counted.sum(inner).clamp(min=1)
        return (costs.masked_fill(~counted, 0).sum(inner) / number).mean()


def lay_out(groups: Grouped) -> Groups:
    """Lay groups out.

    Args:
        groups: pairs of one group share a number, B at least 1.
    """
    numbers, count, largest = _known(groups)
    order = numbers.argsort(stable=True)
    sorted_numbers, steps = numbers[order], torch.arange(len(order), device=order.device)
    begins = F.pad(sorted_numbers[1:] != sorted_numbers[:-1], (1, 0), value=True)
    rows, starts = begins.cumsum(0) - 1, (steps * begins).cummax(0).values
    cells = rows * largest + steps - starts
    places = order.new_zeros(count * largest).index_copy(0, cells, order)
    real = torch.zeros_like(places, dtype=torch.bool).index_fill(0, cells, True)
    own = torch.empty_like(cells).index_copy(0, order, cells)
    return Groups(places.view(count, largest), real.view(count, largest), own)


def differences(values: Tensor) -> Tensor:
    """Return of values, (G, K), the first less the second of each pair, (G, K, K)."""
    return values[:, :, None] - values[:, None, :]


def mean_ranks(values: Tensor, real: Tensor) -> Tensor:
    """Rank the passages of each group by their values, highest first, from 1; equal ones share the mean of their ranks.

    Args:
        values: (G, K).
        real: see ``Groups``.

    Returns:
        (G, K), of the values' type; anything where there is no passage.
    """
    above = (values[:, None, :] > values[:, :, None]) & real[:, None, :]
    alike = (values[:, None, :] == values[:, :, None]) & real[:, None, :]
    return above.sum(2) + (alike.sum(2).to(values.dtype) + 1) / 2


def group_log_softmax(logits: Tensor, groups: Grouped) -> Tensor:
    """Logarithm of the softmax within each group, in float32 at least.

    Args:
        logits: float, (B,).
        groups: pairs of one group share a number 0..G-1, (B,); groups may differ in size.

    Returns:
        (B,); that of a group of one is 0.
    """
    logits = full(logits)
    groups, count = (groups.numbers, groups.count) if isinstance(groups, Members) else (groups, int(groups.max()) + 1)
    peak = logits.new_full((count,), -torch.inf).scatter_reduce(0, groups, logits.detach(), "amax")
    total = logits.new_zeros(count).scatter_add(0, groups, (logits - peak[groups]).exp())
    return logits - peak[groups] - total.log()[groups]


def group_number(groups: Grouped) -> int:
    """Count the groups of a batch."""
    return _known(groups).count
