"""Inference time: what is measured, and how its numbers are summarised.

Rankers are interleaved on the same queries, so that a noisy machine disturbs all of them alike.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """Seconds of one query. Attributes: tokenise: strings to tensors; model: tensors to scores."""

    tokenise: float
    model: float


def measure(
    rankers: Mapping[str, Callable[[Sequence[str]], Sample]], queries: Sequence[Sequence[str]], rounds: int, warmup: int
) -> dict[str, list[Sample]]:
    """Time each ranker on each query.

    Args:
        rankers: by name; each scores the pairs of one query and returns the seconds it took.
        queries: what each call is given, one item per query.
        rounds: passes over all queries.
        warmup: calls of each ranker that aren't counted.

    Returns:
        One sample per query and round, by ranker.
    """
    for ranker in rankers.values():
        for query in [query for _ in range(warmup) for query in queries][:warmup]:
            ranker(query)
    samples: dict[str, list[Sample]] = {name: [] for name in rankers}
    for _ in range(rounds):
        for query in queries:
            for name, ranker in rankers.items():
                samples[name].append(ranker(query))
    return samples


def summary(samples: Sequence[Sample], passages: Sequence[int]) -> dict[str, float]:
    """Summarise samples.

    Args:
        samples: seconds per query.
        passages: passages scored in each sample.

    Returns:
        ``latency_ms_p50``, ``latency_ms_p95`` (end to end), ``tokenise_ms_p50``, ``model_ms_p50`` per query, and
        ``passages_per_second`` (all passages over all seconds, end to end).
    """
    tokenise, model = (np.array(values) for values in zip(*samples, strict=True))
    total = tokenise + model
    return {
        "latency_ms_p50": float(np.percentile(total, 50)) * 1e3,
        "latency_ms_p95": float(np.percentile(total, 95)) * 1e3,
        "tokenise_ms_p50": float(np.percentile(tokenise, 50)) * 1e3,
        "model_ms_p50": float(np.percentile(model, 50)) * 1e3,
        "passages_per_second": float(sum(passages) / total.sum()),
    }
