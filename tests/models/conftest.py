"""What the tests of starts and of subclones share."""

import pytest
import torch

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import CrossEncoder


@pytest.fixture
def lively_ranker(tiny_ranker: CrossEncoder) -> CrossEncoder:
    """Return the tiny ranker with weights so large that layers, attention and head all change what passes through them.

    A fresh BERT hardly does anything: every token attends to all others alike, and every layer is nearly the identity.
    """
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in tiny_ranker.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif "embeddings" in name and "LayerNorm" not in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(0.2 * noise)
    return tiny_ranker


@pytest.fixture
def texts() -> list[PairBatch]:
    """Sixteen batches of eight pairs of 6 to 24 random tokens."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(16):
        ids = torch.randint(5, 50, (8, 24), generator=generator)
        length = torch.randint(6, 25, (8, 1), generator=generator)
        mask = (torch.arange(24) < length).long()
        types = (torch.arange(24) >= 4).long() * mask
        found.append(PairBatch(ids * mask, mask, types, torch.zeros(8), torch.arange(8), ("q",) * 8, ("p",) * 8))
    return found
