"""Frozen teacher: evaluation mode, no gradient, whatever the trainer does around it.

Linear layers in bfloat16 keep their weights as a CPU's matrix kernels want them. Otherwise oneDNN arranges them anew in every
pass, in 5 to 10 % of the time that a product takes at widths from 768 to 3072. The operators are those that torch's own
compiler calls.
"""

import torch
from torch import Tensor, nn

from rankdistil.models.bert import CrossEncoder, Trace


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


class FrozenTeacher(CrossEncoder):
    """A ranker that can't be trained: ``train()`` leaves it in evaluation mode, so its dropout stays off.

    The first pass under autocast converts its weights, its head aside, to autocast's type for good: nothing updates them, so
    they need neither a float32 copy nor to be cast again at every step.
    """

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__(ranker.bert)
        self.requires_grad_(False)
        self.eval()
        self._converted = False

    def _convert(self, dtype: torch.dtype) -> None:
        """Convert all weights but the head's; buffers keep their precision: angles of positions need it."""
        head = {part for each in (self.encoder.pooler, self.encoder.pool_norm, self.encoder.head) for part in each.modules()}
        for part in self.bert.modules():
            for parameter in () if part in head else part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode: a teacher with dropout gives other answers at every step."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, input_ids: Tensor, *inputs: object, **settings: object) -> Trace:
        """Score a batch of pairs; see ``CrossEncoder``."""
        device = input_ids.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(input_ids, *inputs, **settings)
        if not self._converted:
            self._converted = True
            self._convert(torch.get_autocast_dtype(device))
            prepack(self.bert)
        with torch.autocast(device, enabled=False):
            return super().forward(input_ids, *inputs, **settings)
