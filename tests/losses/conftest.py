"""A batch that holds nothing but what losses read, and the same random tensors in every run."""

from collections.abc import Callable, Sequence

import pytest
import torch

from rankdistil.data.records import PairBatch


def _batch(mask: Sequence[Sequence[int]] = ((1,),), labels: Sequence[int] = (), groups: Sequence[int] = ()):
    real = torch.tensor(mask)
    return PairBatch(
        input_ids=torch.zeros_like(real),
        attention_mask=real,
        token_type_ids=torch.zeros_like(real),
        labels=torch.tensor(labels, dtype=torch.float32),
        groups=torch.tensor(groups, dtype=torch.int64),
        query_ids=(),
        passage_ids=(),
    )


@pytest.fixture
def batch_of() -> Callable[..., PairBatch]:
    """Build a batch from a mask (B, T), labels (B,) and groups (B,)."""
    return _batch


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(3)
