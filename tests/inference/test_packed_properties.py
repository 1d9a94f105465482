"""A pair's score is its own: in any batch and layout the same, padded, packed, side by side, alone."""

from typing import Any

import numpy as np
import pytest
import torch
from families import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdistil.data.encode import PairLayout, Segment, assemble
from rankdistil.inference.packed import PackedRanker, pack, pack_padded
from rankdistil.models.bert import CrossEncoder

LAYOUT, PAD = PairLayout((2,), (3,), (3,), 1), 0
PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 24)), min_size=1, max_size=10)


@pytest.fixture(scope="module")
def ranker() -> CrossEncoder:
    return tiny("bert")


@settings(max_examples=25)
@given(PAIRS, st.integers(0, 2**16), st.data())
@torch.inference_mode()
def test_every_layout_gives_a_pair_one_score(ranker: CrossEncoder, sizes: list[tuple[int, int]], seed: int, data: Any) -> None:
    random = np.random.default_rng(seed)
    first, second = (Segment.of([random.integers(5, 400, size).tolist() for size in each]) for each in zip(*sizes, strict=True))
    inputs = assemble(first, second, LAYOUT, PAD)
    expected = ranker.bert(**dict(zip(("input_ids", "attention_mask", "token_type_ids"), inputs, strict=True))).logits[:, 0]
    ends = inputs[1].sum(1).tolist()
    alone = [ranker(*(part[row : row + 1, :end] for part in inputs)).logits.view(()) for row, end in enumerate(ends)]
    wider = [torch.nn.functional.pad(part, (0, 7)) for part in inputs]
    order = torch.tensor(data.draw(st.permutations(range(len(sizes))), "order in the batch"))
    packed_ranker = PackedRanker(ranker)
    ascending = np.argsort(first.lengths + second.lengths, kind="stable")
    packed = pack(first.take(ascending), second.take(ascending), LAYOUT)
    loose, kept = pack_padded(*inputs)
    fused, in_order = pack_padded(*inputs, fused=True)
    found = {
        "padded": ranker(*inputs).logits,
        "padded, rows without padding": ranker(*inputs, padding=False).logits,
        "alone": torch.stack(alone),
        "wider": ranker(*wider).logits,
        "in another order": ranker(*(part[order] for part in inputs)).logits[order.argsort()],
        "packed": packed_ranker(packed)[torch.from_numpy(ascending).argsort()],
        "packed, rounded up": packed_ranker(packed.rounded())[torch.from_numpy(ascending).argsort()],
        "packed out of padding": packed_ranker(loose)[kept.argsort()],
        "side by side": packed_ranker(packed.side_by_side())[torch.from_numpy(ascending).argsort()],
        "fused": packed_ranker(fused)[in_order.argsort()],
    }
    for name, scores in found.items():
        torch.testing.assert_close(scores, expected, atol=2e-5, rtol=2e-5, msg=lambda told, name=name: f"{name}: {told}")
