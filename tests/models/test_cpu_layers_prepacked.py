"""Frozen layers in bfloat16 with weights laid out for the processor."""

import pytest
import torch
from torch import nn

from rankdistil.models.cpu_layers import PrepackedLinear, prepack

able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.skipif(not able, reason="this processor or torch has no bfloat16 kernels of oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_a_prepacked_layer_multiplies_as_the_layer_that_it_replaces(bias: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 40, bias), nn.Linear(40, 8, bias)).requires_grad_(False).to(torch.bfloat16)
    rows = [torch.randn(count, 24).to(torch.bfloat16) for count in (1, 7, 300)]
    expected = [network(each) for each in rows]
    prepack(network)
    assert all(isinstance(part, PrepackedLinear) for part in network)
    for each, own in zip(rows, expected, strict=True):
        torch.testing.assert_close(network(each), own, rtol=2**-7, atol=2**-7)


def test_layers_in_float32_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Linear(3, 5))
    layer = network[0]
    prepack(network)
    assert network[0] is layer
