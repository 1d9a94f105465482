"""Times rankers beside each other on the same pairs, strings to scores."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rankdistil.data.records import Pair
from rankdistil.inference.engine import Engine
from rankdistil.metrics.timing import measure, summary


@dataclass(frozen=True)
class TimingSettings:
    """Plain settings of ``callbacks.inference_time``.

    Attributes:
        queries: queries timed.
        candidates: passages per query at most.
        rounds: passes over the queries.
        warmup: calls of each ranker before the clock counts.
    """

    queries: int
    candidates: int
    rounds: int
    warmup: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            low = 0 if name == "warmup" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"callbacks.inference_time.{name} is {value}; expected at least {low}.")


def time_rankers(
    engines: Mapping[str, Engine], queries: Sequence[list[Pair]], settings: TimingSettings
) -> tuple[dict[str, object], dict[str, dict[str, float]]]:
    """Time rankers, interleaved.

    Args:
        engines: by name; all on one device.
        queries: the pairs of each query; queries without pairs are left out.
        settings: rounds and warm-up.

    Returns:
        The set-up (device, dtype, threads, queries, candidates, rounds, warm-up, batch, mean tokens), and for each ranker
        ``latency_ms_p50``, ``latency_ms_p95``, ``tokenise_ms_p50``, ``model_ms_p50`` per query, ``passages_per_second`` and
        ``parameters``.

    Raises:
        ValueError: if no query has a pair.
    """
    queries = [pairs for pairs in queries if pairs]
    if not queries:
        raise ValueError("no test query has candidates: inference time can't be measured.")
    timed = {name: (lambda pairs, engine=engine: engine.score(pairs)[1]) for name, engine in engines.items()}
    samples = measure(timed, queries, settings.rounds, settings.warmup)
    sizes = [len(pairs) for pairs in queries] * settings.rounds
    rows = {name: summary(samples[name], sizes) | {"parameters": engine.network.parameters} for name, engine in engines.items()}
    return _setup(next(iter(engines.values())), queries, settings), rows


def _setup(engine: Engine, queries: Sequence[list[Pair]], settings: TimingSettings) -> dict[str, object]:
    tokens = [int(engine.encoder.batch(pairs).attention_mask.sum()) / len(pairs) for pairs in queries]
    device = engine.network.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "dtype": engine.network.precision,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "queries": len(queries),
        "candidates_per_query": sum(map(len, queries)) / len(queries),
        "tokens_per_pair": sum(tokens) / len(tokens),
        "rounds": settings.rounds,
        "warmup": settings.warmup,
        "batch_tokens": engine.network.budget,
        "includes_tokenisation": True,
    }
