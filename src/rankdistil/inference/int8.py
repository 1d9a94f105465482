"""Linear layers in 8-bit integers, for CPUs.

torch's own dynamic quantisation is deprecated, and has one scale for all rows of a batch. Here each row has its own scale, and
its own middle between its lowest and highest value: what follows a GELU, or a LayerNorm with an outlier, isn't centred on 0. So
a pair's score doesn't depend on what else is in its batch, and rounding costs less of a ranking than without the middle.

Without 8-bit dot products a processor sums pairs of products in 16 bits. Weights of 7 bits keep these sums in range, so the
result is exact there, too; activations keep their 8 bits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.inference.processor import LEVELS, ZERO, multiply_int8, pack_int8, require_weight_bits

LARGEST = 127  # of rounded activations, whose range is used symmetrically
SMALLEST = 1e-12  # a scale above zero for rows of zeros


class Int8Linear(nn.Module):
    """A linear layer with weights scaled per output and activations per row, multiplied in 8 bits and summed in 32.

    Args:
        weight: float, (out, in).
        bias: float, (out,).
        bits: of a weight, 7 or 8; by default as many as this processor computes exactly. More than that are emulated, slowly:
            the same rounded operands, multiplied in float32.

    Raises:
        ValueError: if this build of torch has no 8-bit kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor, bits: int | None = None) -> None:
        super().__init__()
        own = require_weight_bits()
        self.bits = bits or own
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=SMALLEST) / LEVELS[self.bits]
        whole = (weight / scale[:, None]).round()
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int32)
        # The sum of the rounded weights, not of those given: what rounding them does to the middle is undone by the rest.
        self._bias, self._sum = bias.detach().float(), (whole * scale[:, None]).sum(1)
        self._emulated = self.bits > own
        self._weight = whole * scale[:, None] if self._emulated else pack_int8(whole)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply float32 rows, (N, in); returns (N, out)."""
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        middle = (low + high) / 2
        scale = (high - middle).clamp_(min=SMALLEST) / LARGEST
        whole = (rows - middle).mul_(scale.reciprocal()).round_()
        if self._emulated:
            product = F.linear(whole, self._weight)
        else:
            signed = whole.to(torch.int8)  # torch is ten times slower to uint8
            unsigned = signed.view(torch.uint8).bitwise_xor_(ZERO)  # the other sign bit: plus ZERO
            product = multiply_int8(unsigned, self._weight, self._scale, self._zero)
        torch.addcmul(self._bias, product, scale, out=product)  # in place: no fresh memory for each
        return product.addcmul_(middle, self._sum)
