"""Pairs with an empty query or passage are scored and learnt from as any other: [SEP] stands for them."""

import pytest
import torch

from rankdistil.data.encode import PairLayout, Segment, assemble
from rankdistil.data.records import PairBatch
from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LabelLoss, LogitLoss
from rankdistil.models.bert import CrossEncoder
from tests.modules.test_stage_training import distill

LOSSES = {
    "embedding": EmbeddingLoss(),
    "hidden": HiddenLoss(),
    "attention": AttentionLoss(),
    "logits": LogitLoss(),
    "labels": LabelLoss(),
}
TEXTS = {"positive": [[7, 8], [], [9, 9, 9], [6]], "negative": [[7, 8], [5], [9, 9, 9], []], "both": [[], [], [], []]}

BERT = PairLayout((2,), (3,), (3,), 1)


def batch(passages: list[list[int]], queries: list[list[int]]) -> PairBatch:
    """Two triples, positive first."""
    encoded = assemble(Segment.of(queries), Segment.of(passages), BERT, pad=0)
    return PairBatch(*encoded, torch.tensor([1.0, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), ("q",) * 4, tuple("abcd"))


@pytest.mark.parametrize("queries", [[[], [], [5], [5]], [[5]] * 4], ids=["an empty query", "no empty query"])
@pytest.mark.parametrize("which", TEXTS)
@pytest.mark.fault("B5")
def test_losses_scores_and_gradients_stay_finite(tiny_ranker: CrossEncoder, which: str, queries: list[list[int]]) -> None:
    module = distill(tiny_ranker, LOSSES)
    pairs = batch(TEXTS[which], queries)
    value = module.loss(pairs)
    value.total.backward()
    assert value.parts.keys() == LOSSES.keys()
    assert all(torch.isfinite(part) for part in value.parts.values())
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters() if parameter.grad is not None)
    assert torch.isfinite(module.validation_step(pairs, 0).scores).all()


@pytest.mark.fault("B5")
def test_an_empty_pair_is_three_special_tokens() -> None:
    ids, mask, types = assemble(Segment.of([[]]), Segment.of([[]]), BERT, pad=0)
    assert (ids.tolist(), mask.tolist(), types.tolist()) == ([[2, 3, 3]], [[1, 1, 1]], [[0, 0, 1]])
