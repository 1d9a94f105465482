"""Packed inference is the plain padded network."""

import numpy as np
import pytest
import torch

from rankdistil.data.assemble import Segment
from rankdistil.inference.packed import pack
from rankdistil.inference.packed_ranker import PackedRanker


def segment(rng, lengths):
    return Segment(rng.integers(5, 50, sum(lengths)), np.array(lengths, dtype=np.int64))


@pytest.mark.parametrize("lengths", [[0], [3, 3, 3], [0, 1, 1, 7, 7, 30]])
def test_float32_scores_equal_the_padded_forward(tiny_ranker, lengths):
    rng = np.random.default_rng(0)
    first, second = segment(rng, [2] * len(lengths)), segment(rng, lengths)
    with torch.no_grad():
        tiny_ranker.bert.classifier.weight *= 1000
        packed = PackedRanker(tiny_ranker)(pack(first, second, 1, 2))
        from rankdistil.data.assemble import assemble

        padded = tiny_ranker(*assemble(first, second, 1, 2, 0)).logits
    assert torch.allclose(packed, padded, atol=1e-5)
