"""Which loss moves the weights: each one's share of the gradient."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from rankdistil.losses.weighted import LossValue


def gradient_shares(value: LossValue, weights: Mapping[str, float], parameters: Iterable[Tensor]) -> dict[str, float]:
    """Norm of each weighted loss's gradient, as a share of the sum of the norms.

    Args:
        value: losses of one batch, with their graph.
        weights: weight by name.
        parameters: what the norm is taken over; those that need no gradient are left out.

    Returns:
        Share by name; the shares add up to 1 (all are 0 where no loss has a gradient).
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    norms = {}
    for name, part in value.parts.items():
        gradients = torch.autograd.grad(weights[name] * part, trained, retain_graph=True, allow_unused=True)
        found = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = float(torch.stack(found).sum().sqrt()) if found else 0.0
    total = sum(norms.values())
    return {name: norm / total if total else 0.0 for name, norm in norms.items()}
