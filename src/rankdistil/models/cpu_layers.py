"""Layers that cost less on a CPU: dropout that draws its random numbers together, and frozen linear layers in bfloat16.

Drawing the numbers one by one takes a fifth of a training step. A mask is drawn 16 bits per unit at once. So the probability is
a multiple of 2**-16, and what is kept is scaled by just that one: the expectation is exactly the input. The draw is seeded from
torch's own generator; a step that is seeded repeats itself.

Linear layers in bfloat16 keep their weights as a CPU's matrix kernels want them. Otherwise oneDNN arranges them anew in every
pass, in 5 to 10 % of the time that a product takes at widths from 768 to 3072. The operators are those that torch's own
compiler calls.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16
ONE = {torch.bfloat16: (np.uint16, 0x3F80), torch.float32: (np.uint32, 0x3F800000)}  # the bits of 1.0, as a whole number


class _Masked(torch.autograd.Function):
    """``x * mask * scale``, rounded once; saves the mask alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None, None


def drop(x: Tensor, p: float) -> Tensor:
    """Set units to 0 with probability ``p`` and scale the others up; on a CPU ``p`` is rounded to a multiple of 2**-16.

    Args:
        x: any shape.
        p: probability, from 0 to 1.

    Returns:
        The same shape and type.
    """
    threshold = round(p * 2**BITS)
    if threshold in (0, 2**BITS) or x.device.type != "cpu" or x.dtype not in ONE or torch.compiler.is_compiling():
        return F.dropout(x, p)
    whole, one = ONE[x.dtype]
    seed = int(torch.empty((), dtype=torch.int64).random_())
    bits = np.random.SFC64(seed).random_raw(-(-x.numel() * BITS // 64)).view(np.uint16)[: x.numel()]
    kept = np.multiply(bits >= threshold, whole(one), dtype=whole)
    mask = torch.from_numpy(kept).view(x.dtype).view(x.shape)
    return _Masked.apply(x, mask, 1 / (1 - threshold / 2**BITS))


class Dropout(nn.Dropout):
    """``drop`` while training."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop units while training."""
        return drop(input, self.p) if self.training else input


def set_dropout(network: nn.Module, p: float) -> None:
    """Give every dropout of a network another probability, from 0 to 1; its config stays."""
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = p


def use_dropout(network: nn.Module) -> None:
    """Replace every ``nn.Dropout`` of a network by ``Dropout``; weights and their names stay."""
    for part in list(network.modules()):
        for name, child in part.named_children():
            if type(child) is nn.Dropout:
                setattr(part, name, Dropout(child.p).train(child.training))


class PrepackedLinear(nn.Module):
    """A linear layer that isn't trained, moved or saved any more.

    Args:
        weight: in bfloat16, on a CPU, (out, in).
        bias: as the weight, (out,); None for none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._bias = None if bias is None else bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply bfloat16 rows, (N, in); returns (N, out)."""
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "none")


def prepacks() -> bool:
    """Whether torch and the processor have kernels for ``PrepackedLinear``."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def prepack(network: nn.Module) -> None:
    """Replace a frozen network's linear layers in bfloat16, for good; nothing is done where torch or the processor can't."""
    if not prepacks():
        return
    for part in list(network.modules()):
        for name, child in part.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16 and child.weight.device.type == "cpu":
                setattr(part, name, PrepackedLinear(child.weight, child.bias))
