"""Latency statistics: what is measured, and how its numbers are summarised.

Rankers are interleaved on the same pairs, so that a noisy machine disturbs all of them alike, and numbers are medians, which a
single disturbed call doesn't move.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple, TypeVar

import numpy as np

PERCENTILES = (95, 99)
BEYOND = 10
"""Calls that lie above a percentile that is told: the 95th of twelve calls is but another name for the slowest one."""
Name = TypeVar("Name", bound=Hashable)
Call = TypeVar("Call")


class Sample(NamedTuple):
    """One call. Attributes: tokenise: seconds, strings to token ids; model: seconds, token ids to scores."""

    tokenise: float
    model: float


def measure(
    rankers: Mapping[Name, Callable[[Call], Sample]],
    calls: Sequence[Call],
    rounds: int,
    warmup: int,
    together: Callable[[], None] = lambda: None,
    another: Callable[[int], bool] = lambda done: True,
) -> dict[Name, list[Sample]]:
    """Time each ranker on each call.

    Args:
        rankers: by name; each scores the pairs of a call and returns the time it took.
        calls: what each ranker is given, one item per call.
        rounds: passes over all calls, at most.
        warmup: calls of each ranker that aren't counted, as runtimes prepare themselves. Passes over all calls would cost as
            much as a round, and the median doesn't mind the first of three.
        together: waits before each call until every process is about to make it; by default there is one process.
        another: is asked before each round, with the number of those made, whether to make it.

    Returns:
        One sample per call and round, by ranker; every ranker has made equally many rounds.
    """
    for ranker in rankers.values():
        for call in islice(cycle(calls), warmup):
            ranker(call)
    samples: dict[Name, list[Sample]] = {name: [] for name in rankers}
    names = list(rankers)
    for turn in range(rounds):
        if not another(turn):
            break
        first = turn % len(names)
        for call in calls:
            for name in names[first:] + names[:first]:  # each leads in turn: none always finds its caches as another left them
                together()
                samples[name].append(rankers[name](call))
    return samples


def summary(samples: Sequence[Sample], passages: Sequence[int]) -> dict[str, float]:
    """Summarise samples.

    Args:
        samples: of each call.
        passages: scored in each call.

    Returns:
        ``<part>_ms_p50`` for the parts ``latency`` (end to end), ``tokenise`` and ``model``, and ``_p95`` and ``_p99`` where at
        least ``BEYOND`` calls lie above them; ``latency_ms_min`` and ``latency_ms_max``; ``passages_per_second``, the median of
        the calls' rates end to end.
    """
    tokenise, model = (np.array([sample[part] for sample in samples]) for part in (0, 1))
    parts = {"latency": tokenise + model, "tokenise": tokenise, "model": model}
    told = [50, *(percentile for percentile in PERCENTILES if len(samples) * (100 - percentile) >= 100 * BEYOND)]
    numbers = {
        f"{name}_ms_p{percentile}": float(np.percentile(seconds, percentile)) * 1e3
        for name, seconds in parts.items()
        for percentile in told
    }
    numbers |= {f"latency_ms_{name}": float(end(parts["latency"])) * 1e3 for name, end in (("min", np.min), ("max", np.max))}
    numbers["passages_per_second"] = float(np.median(np.array(passages) / parts["latency"]))
    return numbers
