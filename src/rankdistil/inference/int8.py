"""Linear layers in 8-bit integers, for CPUs."""

import torch
from torch import Tensor, nn

LARGEST = 127  # of a signed 8-bit integer, whose range is used symmetrically
ZERO = 128  # of the unsigned integers that oneDNN is fast with


class Int8Linear(nn.Module):
    """A linear layer in 8 bits: weights per output, activations per row, sums in 32 bits."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype=torch.float32) -> None:
        super().__init__()
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=1e-12) / LARGEST
        self.packed = torch.ops.onednn.qlinear_prepack((weight / scale[:, None]).round().to(torch.int8), None)
        self.scale, self.bias, self.dtype = scale, bias.detach().float(), dtype
        self.zero = torch.zeros(len(scale), dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        scale = x.abs().amax(1, keepdim=True).clamp_(min=1e-12) / LARGEST
        rows = (x * scale.reciprocal()).add_(ZERO + 0.5).to(torch.uint8)
        out = torch.ops.onednn.qlinear_pointwise(rows, 1.0, ZERO, self.packed, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], "")
        return torch.addcmul(self.bias, out, scale).to(self.dtype)
