"""Is a difference between two rankers more than chance?"""

from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    """Attributes: difference: mean of a - b; p_value: two-sided; queries: number of pairs."""

    difference: float
    p_value: float
    queries: int


def randomisation_test(a: dict[str, float], b: dict[str, float], samples: int = 10_000, seed: int = 0) -> Comparison:
    """Paired randomisation test of the mean difference (random signs).

    Args:
        a: value by query id.
        b: value of the same queries.
        samples: random sign assignments; the smallest p value is 1 / (samples + 1).
        seed: seed of the signs.

    Raises:
        ValueError: if the queries differ or there is none.

    Source: Smucker, Allan & Carterette 2007, "A comparison of statistical significance tests for IR evaluation".
    """
    if a.keys() != b.keys() or not a:
        raise ValueError(f"a paired test needs the same queries on both sides; {len(a.keys() ^ b.keys())} of them differ.")
    gaps = np.array([a[query] - b[query] for query in sorted(a)])
    random = np.random.default_rng(seed)
    observed = abs(gaps.mean())
    extreme = 0
    for start in range(0, samples, 1000):  # in blocks: memory stays flat for many queries
        signs = random.choice((-1.0, 1.0), size=(min(1000, samples - start), len(gaps)))
        extreme += int((np.abs((signs * gaps).mean(axis=1)) >= observed - 1e-12).sum())
    return Comparison(float(gaps.mean()), (extreme + 1) / (samples + 1), len(gaps))
