"""Padded batches: as many pairs as the budget holds, each as it would be alone."""

import numpy as np
import pytest
import torch
from support import MINILM

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.inference.onnx import PaddedRanker, padded_batches
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer


def test_every_pair_stands_in_one_batch() -> None:
    encoder = PairEncoder(load_tokenizer(MINILM), 38)
    first, second = Segment.of([[7], [7], [8, 9]]), Segment.of([[10], [11, 12], [13, 14, 15]])
    batches = list(padded_batches(first, second, encoder, 14))
    assert [batch["input_ids"].shape for batch in batches] == [(2, 6), (1, 8)]
    cls, sep, pad = 101, 102, 0
    assert batches[0]["input_ids"].tolist() == [[cls, 7, sep, 10, sep, pad], [cls, 7, sep, 11, 12, sep]]
    assert batches[0]["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1] * 6]
    assert batches[1]["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_few_lengths_occur_where_they_are_rounded_up() -> None:
    encoder = PairEncoder(load_tokenizer(MINILM), 38)
    first, second = Segment.of([[7]] * 5), Segment.of([[10] * size for size in (1, 2, 4, 5, 25)])
    batches = list(padded_batches(first, second, encoder, 10_000, 8))
    assert [batch["input_ids"].shape for batch in batches] == [(5, 32)]
    batches = list(padded_batches(first, second, encoder, 32, 8))
    assert [batch["input_ids"].shape for batch in batches] == [(3, 8), (1, 16), (1, 32)]
    assert batches[0]["attention_mask"].sum(1).tolist() == [5, 6, 8]
    assert batches[0]["input_ids"][0].tolist() == [101, 7, 102, 10, 102, 0, 0, 0]
    full = PairEncoder(encoder.tokenizer, 29)
    (batch,) = padded_batches(first.take(np.array([4])), second.take(np.array([4])), full, 32, 8)
    assert batch["input_ids"].shape == (1, 29), "not beyond what the network may have positions for"


@pytest.mark.parametrize("rows", [1, 4])
@torch.inference_mode()
def test_the_graph_computes_what_transformers_computes(tiny_ranker: CrossEncoder, rows: int) -> None:
    for name, value in tiny_ranker.named_parameters():
        if "LayerNorm" not in name:
            value.normal_(std=0.3)
    ids, mask = torch.randint(5, 50, (rows, 12)), (torch.arange(12) < torch.tensor([12, 1, 5, 11])[:rows, None]).long()
    types = torch.arange(12).expand(rows, 12).gt(3).long()
    expected = tiny_ranker.bert(ids, attention_mask=mask, token_type_ids=types).logits
    found = PaddedRanker(tiny_ranker)(ids, mask, types)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert rows == 1 or expected.std() > 0.1
