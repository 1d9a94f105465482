"""Frozen linear layers in bfloat16 whose weights a CPU keeps as its matrix kernels want them.

Otherwise oneDNN arranges them anew in every pass, in 5 to 10 % of the time that a product takes at widths from 768 to 3072. The
operators are those that torch's own compiler calls.
"""

import torch
from torch import Tensor, nn


class PrepackedLinear(nn.Module):
    """A linear layer that isn't trained, moved or saved any more.

    Args:
        layer: in bfloat16, on a CPU.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply bfloat16 rows, (N, in); returns (N, out)."""
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "none")


def prepack(network: nn.Module) -> None:
    """Replace a frozen network's linear layers in bfloat16, for good; nothing is done where torch or the processor can't."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return
    for part in list(network.modules()):
        for name, child in part.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16 and child.weight.device.type == "cpu":
                setattr(part, name, PrepackedLinear(child))
