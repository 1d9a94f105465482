"""Is a difference between two rankers more than chance?"""

from collections.abc import Mapping
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


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p values so that the chance of even one false finding among them stays below the level they are read at.

    Args:
        p_values: of one family of tests, by name.

    Returns:
        Adjusted values by name, in the order given: the smallest times the number of tests, the next one times one less, and
        so on; never below a smaller one's, at most 1.

    Raises:
        ValueError: for a value outside of 0 to 1, naming it.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value} is no p value; it must lie between 0 and 1.")
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}
