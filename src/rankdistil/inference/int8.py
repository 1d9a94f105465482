"""Linear layers in 8-bit integers, for CPUs.

torch's own dynamic quantisation is deprecated, and has one scale for all rows of a batch. Here each row has its own scale, and
its own middle between its lowest and highest value: what follows a GELU, or a LayerNorm with an outlier, isn't centred on 0. So
a pair's score doesn't depend on what else is in its batch, and rounding costs less of a ranking than without the middle.
"""

from functools import cache

import torch
from torch import Tensor, nn

LARGEST = 127  # of signed 8-bit integers, whose range is used symmetrically
ZERO = 128  # what stands for 0 in the unsigned activations: oneDNN multiplies signed ones by its slow reference code
PROBE = 64  # inputs and outputs of the layer that is tried out
SMALLEST = 1e-12  # a scale above zero for rows of zeros


class Int8Linear(nn.Module):
    """A linear layer with weights scaled per output and activations per row, multiplied in 8 bits and summed in 32.

    Args:
        weight: float, (out, in).
        bias: float, (out,).

    Raises:
        ValueError: if this build of torch has no 8-bit kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        require_int8()
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=SMALLEST) / LARGEST
        whole = (weight / scale[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(whole, None)
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int32)
        # The sum of the rounded weights, not of those given: what rounding them does to the middle is undone by the rest.
        self._bias, self._sum = bias.detach().float(), (whole.float() * scale[:, None]).sum(1)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply float32 rows, (N, in); returns (N, out)."""
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        middle = (low + high) / 2
        scale = (high - middle).clamp_(min=SMALLEST) / LARGEST
        whole = (rows - middle).mul_(scale.reciprocal()).round_().to(torch.int8)  # torch is ten times slower to uint8
        whole = whole.view(torch.uint8).bitwise_xor_(ZERO)  # the other sign bit: plus ZERO
        product = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, ZERO, self._weight, self._scale, self._zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        torch.addcmul(self._bias, product, scale, out=product)  # in place: no fresh memory for each
        return product.addcmul_(middle, self._sum)


def require_int8() -> None:
    """See that torch can multiply in 8 bits here.

    Raises:
        ValueError: if it can't, or sums in 16 bits, as CPUs without VNNI do: large products then come out too small.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        raise ValueError("dtype=int8 needs torch with oneDNN, which this build lacks. Use dtype=float32 or bfloat16.")
    if not _exact():
        raise ValueError("dtype=int8 isn't exact on this CPU, which lacks 8-bit dot products (VNNI). Use float32 or bfloat16.")


@cache
def _exact() -> bool:
    """Whether the largest products that there can be are summed as they are."""
    rows, weight = torch.full((1, PROBE), ZERO + LARGEST, dtype=torch.uint8), torch.full((PROBE, PROBE), LARGEST)
    packed = torch.ops.onednn.qlinear_prepack(weight.to(torch.int8), None)
    scale, zero = torch.ones(PROBE), torch.zeros(PROBE, dtype=torch.int32)
    product = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, ZERO, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return bool((product == PROBE * LARGEST**2).all())
