"""Small least-squares problems: which columns explain the others, and the affine maps that fit one set of rows to another.

Products of rows are computed in float32, block by block, and added in float64: over tens of thousands of rows float32 sums lose
too many digits, and float64 products are several times slower.
"""

import torch
from torch import Tensor

BLOCK = 4096  # rows
RIDGE = 1e-4  # times the mean variance of the inputs; keeps maps finite where inputs depend on each other


def choose_columns(covariance: Tensor, count: int) -> Tensor:
    """Choose the columns that explain most of all columns, one after the other.

    Args:
        covariance: symmetric, (D, D).
        count: how many to choose, at most D.

    Returns:
        Indices in ascending order, (count,).

    Source: greedy column subset selection; the choice that lowers the squared error of predicting all columns most.
    """
    left = covariance.double().clone()
    floor = 1e-12 * left.diagonal().max().clamp(min=1e-300)
    chosen: list[int] = []
    for _ in range(count):
        diagonal = left.diagonal()
        gain = torch.where(diagonal > floor, left.square().sum(0) / diagonal.clamp(min=floor), torch.zeros_like(diagonal))
        if chosen:
            gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        if diagonal[best] > floor:
            left -= torch.outer(left[:, best], left[best]) / diagonal[best]
    return torch.tensor(sorted(chosen))


def affine_fit(
    inputs: Tensor, targets: Tensor, row_weights: Tensor | None = None, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """Fit ``targets ≈ inputs @ weight.T + bias``.

    Args:
        inputs: (N, D).
        targets: (N, E).
        row_weights: how much each row counts, (N,); all alike by default.
        ridge: see ``RIDGE``.

    Returns:
        Weight (E, D) and bias (E,) in float32, as ``nn.Linear`` holds them.
    """
    w = torch.ones(len(inputs)) if row_weights is None else row_weights
    share = (w / w.sum())[:, None]
    mean_x, mean_y = (share * inputs).sum(0), (share * targets).sum(0)
    gram = torch.zeros(inputs.size(1), inputs.size(1), dtype=torch.float64)
    cross = torch.zeros(inputs.size(1), targets.size(1), dtype=torch.float64)
    for rows in torch.arange(len(inputs)).split(BLOCK):
        at = slice(int(rows[0]), int(rows[-1]) + 1)
        x, weighted = inputs[at] - mean_x, (inputs[at] - mean_x) * share[at]
        gram += weighted.T @ x
        cross += weighted.T @ (targets[at] - mean_y)
    gram.diagonal().add_(ridge * gram.diagonal().mean().clamp(min=1e-30))
    weight = torch.linalg.solve(gram, cross).T.float()
    return weight, mean_y - weight @ mean_x


def unit_fit(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit ``targets ≈ inputs * scale + shift``, every unit by itself.

    Args:
        inputs: (N, D).
        targets: (N, D).

    Returns:
        Scale (D,) and shift (D,) in float32, as ``nn.LayerNorm`` holds them.
    """
    x, y = inputs.double(), targets.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    scale = ((x - mean_x) * (y - mean_y)).sum(0) / (x - mean_x).square().sum(0).clamp(min=1e-12)
    return scale.float(), (mean_y - scale * mean_x).float()


def shared_basis(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Shrink two sets of vectors so that the products between them change least.

    Args:
        left: rows a, (N, K).
        right: rows b, (N', K).
        rank: width afterwards, at most K.

    Returns:
        Maps P and R, (K, rank) each: ``(a @ P) · (b @ R)`` is the closest to ``a · b`` in mean square over all pairs of rows.

    Source: Eckart & Young 1936, applied to the product of the two matrices through their second moments.
    """
    root_l, inverse_l = _root(left)
    root_r, inverse_r = _root(right)
    u, s, vh = torch.linalg.svd(root_l @ root_r)
    scale = s[:rank].sqrt()
    return (inverse_l @ u[:, :rank] * scale).float(), (inverse_r @ vh[:rank].T * scale).float()


def _root(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of the second moments of rows, and its (pseudo-)inverse."""
    x = rows.double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = values > values.max() * 1e-10
    roots = values.clamp(min=0).sqrt()
    inverse = torch.where(kept, 1 / roots.clamp(min=1e-150), torch.zeros_like(roots))
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T
