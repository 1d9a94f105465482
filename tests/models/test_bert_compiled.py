"""Compiled layers compute what they did before."""

import pytest
import torch
from families import tiny
from torch._dynamo.utils import counters

from rankdistil.models.bert import compile_layers


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("name", ["bert", "modernbert"])  # norms behind a sum, and before it with a gate
def test_compiled_layers_give_the_same_logits_and_gradients_at_any_shape(name: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    plain, fast = tiny(name), tiny(name)
    compile_layers(fast)
    for texts, length in ((3, 17), (5, 23), (2, 31)):
        ids = torch.randint(5, 50, (texts, length))
        inputs = ids, torch.ones_like(ids), torch.zeros_like(ids)
        for ranker in (plain, fast):
            ranker.zero_grad()
            ranker(*inputs).logits.square().sum().backward()
        assert torch.allclose(fast(*inputs).logits, plain(*inputs).logits, rtol=1e-4, atol=1e-5)
        for (name, one), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
            assert (one.grad - other.grad).abs().max() < 1e-5 * max(1.0, float(one.grad.abs().max())), name
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert 0 < counters["stats"]["unique_graphs"] <= 12  # layers share graphs, shapes too
