"""Latency and throughput benchmark: rankers timed beside each other on the same pairs, strings to scores.

The network hands its scores over as numbers on the host, so a GPU has finished when the clock is read.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.inference.engine import BACKENDS, Engine, open_network
from rankdistil.inference.machine import Meter, describe_machine, device_name, others_share
from rankdistil.inference.packed import PRECISIONS
from rankdistil.metrics.timing import Sample, measure, summary
from rankdistil.models.bert import parameter_count
from rankdistil.models.checkpoints import load_cross_encoder
from rankdistil.processes.progress import Now, clock_time

SECTION = "callbacks.inference_time"
CHOICES = {"dtypes": PRECISIONS, "backends": BACKENDS}
LIMITS = {"seconds": 86_400, "busy_share": 1}
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class TimingSettings:
    """Plain settings of ``callbacks.inference_time``.

    Attributes:
        queries: queries whose latency is timed, one a call.
        candidates: passages per query at most; several sizes are timed one after the other.
        throughput_pairs: pairs of many queries in one call, for the throughput; 0 leaves it out.
        rounds: passes over the calls at most.
        seconds: that the whole timing may take: no further round begins that wouldn't end in time, once there are
            ``LEAST_ROUNDS``.
        warmup: calls of each ranker, for each kind of call, before the clock counts.
        busy_share: of the machine's cores; where other processes use more meanwhile, times are marked as not comparable.
        dtypes: of weights or products, see ``PackedRanker``.
        backends: see ``rankdistil.inference.engine``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """

    queries: int
    candidates: tuple[int, ...]
    throughput_pairs: int
    rounds: int
    seconds: float
    warmup: int
    busy_share: float
    dtypes: tuple[str, ...]
    backends: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            value, name = getattr(self, field.name), field.name
            if name in CHOICES or name == "candidates":
                value = tuple(value) if isinstance(value, list | tuple) else (value,)
                object.__setattr__(self, name, value)
                _check_list(name, value)
            elif name in LIMITS:
                _check_limit(name, value, LIMITS[name])
            else:
                _check_number(name, value, 0 if name in ("warmup", "throughput_pairs") else 1)

    @property
    def variants(self) -> list[tuple[str, str]]:
        """Every backend with every dtype."""
        return [(backend, dtype) for backend in self.backends for dtype in self.dtypes]


def _check_number(name: str, value: Any, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{SECTION}.{name} is {value}; expected a whole number of at least {low}.")


def _check_limit(name: str, value: Any, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ValueError(f"{SECTION}.{name} is {value}; expected a number above 0 and at most {most}.")


def _check_list(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise ValueError(f"{SECTION}.{name} is empty; name at least one.")
    for value in values:
        if name == "candidates":
            _check_number(name, value, 1)
        elif value not in CHOICES[name]:
            raise ValueError(f"{SECTION}.{name} names {value!r}; expected some of {', '.join(CHOICES[name])}.")
        if values.count(value) > 1:
            raise ValueError(f"{SECTION}.{name} names {value} twice; name it once.")


ALL = "all"


class Timed(NamedTuple):
    """A ranker to time. Attributes: path: folder or hub id; encoder: of its tokens."""

    path: str
    encoder: PairEncoder


class Variant(NamedTuple):
    """What one row of numbers is of. Attributes: ranker: name; backend, dtype: what computed its scores."""

    ranker: str
    backend: str
    dtype: str


class Processes(NamedTuple):
    """The processes that time at once.

    Attributes:
        together: returns once all of them have called it.
        gather: returns a value from each, by rank.
    """

    together: Callable[[], None] = lambda: None
    gather: Callable[[Any], list[Any]] = lambda value: [value]


Calls = Sequence[list[Pair]]


def time_rankers(
    rankers: Mapping[str, Timed],
    device: torch.device,
    queries: Calls,
    settings: TimingSettings,
    processes: Processes,
    origin: dict[str, Any],
    meter: Callable[[], Meter] = Meter,
) -> dict[str, Any]:
    """Time rankers, interleaved, in every backend and dtype.

    What a backend or this machine can't compute is left out, with the reason.

    Args:
        rankers: by name.
        device: of this process.
        queries: the pairs of each query (see ``wanted_queries``); those without pairs are left out.
        settings: what is timed.
        processes: that time at once, each on its device, the same pairs; every one of them has to call this.
        origin: commit and versions of the code, which go into the set-up.
        meter: measures what other processes use meanwhile.

    Returns:
        The content of ``latency.json``: ``setup`` (machine, versions, settings, ``left_out``; ``others``, the share of the
        cores that other processes used meanwhile, and whether that makes the machine ``busy``, both None where it isn't known)
        and ``rows``, which have

        - ``ranker``, ``backend``, ``dtype``, ``parameters``, ``batch_tokens`` (None where the runtime chooses);
        - ``measured``: ``latency`` (calls with one query and at most ``candidates`` passages) or ``throughput`` (one call with
          the pairs of many queries); mean ``passages`` of a call, mean ``tokens_per_pair``;
        - ``rank``: ``all`` (the calls of all processes, their ``passages_per_second`` added up) and, if there are several
          processes, one row for each; ``rounds`` and ``calls``, and what ``summary`` makes of them.

    Raises:
        ValueError: if no query has a pair, or nothing can be timed.
    """
    queries = [pairs for pairs in queries if pairs]
    if not queries:
        raise ValueError("no test query has candidates: inference time can't be measured.")
    machine, rows = describe_machine(), []  # before anything is computed, for the load
    engines, left_out = _open(rankers, device, settings, processes)
    parameters = {name: parameter_count(load_cross_encoder(ranker.path)) for name, ranker in rankers.items()}
    others, say = meter(), Now()
    blocks, ends = _measured(queries, settings), time.monotonic() + settings.seconds
    for number, (about, calls) in enumerate(blocks):
        seconds = (ends - time.monotonic()) / (len(blocks) - number)
        another, pace = Budget(seconds, processes.gather), Pace(about, len(calls) * len(engines), settings, seconds, ends, say)
        timed = {variant: pace.counted(_timed(engine)) for variant, engine in engines.items()}
        samples = measure(timed, calls, settings.rounds, settings.warmup, processes.together, another)
        for variant, own in samples.items():
            rounds, everywhere = len(own) // len(calls), processes.gather(own)
            common = variant._asdict() | {"parameters": parameters[variant.ranker]} | about | {"rounds": rounds}
            common |= _amount(engines[variant], calls)
            rows += [common | each for each in summarise(everywhere, [len(pairs) for pairs in calls] * rounds)]
    devices, share = processes.gather(device_name(device)), others_share(processes.gather(others.usage()))
    setup = {"device": ", ".join(dict.fromkeys(devices)), "processes": len(devices)} | machine
    setup |= {"versions": origin["versions"] | machine["versions"], "commit": origin["commit"], "includes_tokenisation": True}
    setup |= asdict(settings) | {"queries": min(settings.queries, len(queries)), "left_out": left_out}
    busy = None if share is None else share > settings.busy_share
    return {"setup": setup | {"others": share, "busy": busy}, "rows": rows}


class Budget:
    """Says whether one more round ends in time, alike in all processes; the time counts from now on, warm-up included.

    Args:
        seconds: that all rounds may take together; ``LEAST_ROUNDS`` are made in any case.
        gather: returns a value from each process.
        clock: tells seconds.
    """

    def __init__(self, seconds: float, gather: Callable[[Any], list[Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._gather, self._clock = gather, clock
        self._ends, self._began = clock() + seconds, 0.0

    def __call__(self, done: int) -> bool:
        """Return whether to make another round after so many."""
        now = self._clock()
        if done == 0:
            self._began = now
        if done < LEAST_ROUNDS:
            return True
        return all(self._gather(now + (now - self._began) / done <= self._ends))


class Pace:
    """Says how long the calls that are left will take, at the pace of those made.

    Args:
        about: what is measured, see ``time_rankers``.
        calls: of one round, of all rankers.
        settings: what is timed.
        seconds: that this measurement may take.
        ends: when all of them are to end.
        say: prints a line now and then.
        clock: tells seconds.
    """

    def __init__(
        self, about: Mapping[str, Any], calls: int, settings: TimingSettings, seconds: float, ends: float,
        say: Callable[[Callable[[], str]], None], clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        size = about["candidates"]
        self._what = "many queries in one call" if size is None else f"single queries of {size} passages"
        self._calls, self._rounds, self._say, self._clock = calls, settings.rounds, say, clock
        self._began, self._done = clock(), 0
        self._ends = self._began + seconds
        self._later = max(ends - self._ends, 0.0)

    def counted(self, call: Callable[[list[Pair]], Sample]) -> Callable[[list[Pair]], Sample]:
        """Count the calls of a ranker, outside of what is measured."""

        def made(pairs: list[Pair]) -> Sample:
            sample = call(pairs)
            self._done += 1
            self._say(lambda: f"timing {self._what}: {self._done} calls made, about {clock_time(self.left())} left")
            return sample

        return made

    def left(self) -> float:
        """Seconds until all is measured: ``LEAST_ROUNDS`` in any case, then what the time allows."""
        now = self._clock()
        each = (now - self._began) / max(self._done, 1)
        least = (min(LEAST_ROUNDS, self._rounds) * self._calls - self._done) * each
        most = min((self._rounds * self._calls - self._done) * each, self._ends - now)
        return max(least, most, 0.0) + self._later


def wanted_queries(settings: TimingSettings) -> tuple[int, int]:
    """Return how many queries are needed, and how many passages of each."""
    depth = max(settings.candidates)
    return max(settings.queries, -(-settings.throughput_pairs // depth)), depth


def summarise(everywhere: Sequence[list[Sample]], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Summarise one variant's samples of all processes.

    Args:
        everywhere: the samples of each process, by rank.
        sizes: passages of each call.

    Returns:
        ``rank``, ``calls`` and numbers: of all processes and, if there are several, of each.
    """
    single = [summary(samples, sizes) for samples in everywhere]
    pooled = summary([sample for samples in everywhere for sample in samples], [*sizes] * len(everywhere))
    pooled["passages_per_second"] = sum(numbers["passages_per_second"] for numbers in single)
    rows = [{"rank": ALL, "calls": len(sizes) * len(everywhere)} | pooled]
    if len(everywhere) > 1:
        rows += [{"rank": rank, "calls": len(sizes)} | numbers for rank, numbers in enumerate(single)]
    return rows


def _open(
    rankers: Mapping[str, Timed], device: torch.device, settings: TimingSettings, processes: Processes
) -> tuple[dict[Variant, Engine], list[dict[str, str]]]:
    """Load every ranker in every backend and dtype that all processes can compute; say what was left out."""
    engines, refused = {}, {}
    wanted = [Variant(name, *how) for how in settings.variants for name in rankers]
    for variant in wanted:
        path, encoder = rankers[variant.ranker]
        try:
            network = open_network(variant.backend, path, encoder, device, variant.dtype)
        except (ValueError, FileNotFoundError) as error:
            refused[variant] = str(error)
        else:
            engines[variant] = Engine(network, encoder)
    refused = {variant: reason for each in processes.gather(refused) for variant, reason in each.items()}
    if len(refused) == len(wanted):
        raise ValueError(f"callbacks.inference_time: nothing can be timed on this machine: {refused[wanted[0]]}")
    left_out = [variant._asdict() | {"reason": refused[variant]} for variant in wanted if variant in refused]
    return {variant: engine for variant, engine in engines.items() if variant not in refused}, left_out


def _measured(queries: Calls, settings: TimingSettings) -> list[tuple[dict[str, Any], Calls]]:
    """List what is measured, and the calls that it takes."""
    single = [
        ({"measured": "latency", "candidates": size}, [pairs[:size] for pairs in queries[: settings.queries]])
        for size in settings.candidates
    ]
    if not settings.throughput_pairs:
        return single
    many = [pair for pairs in queries for pair in pairs][: settings.throughput_pairs]
    return [*single, ({"measured": "throughput", "candidates": None}, [many])]


def _timed(engine: Engine) -> Callable[[list[Pair]], Sample]:
    return lambda pairs: engine.score(pairs)[1]


def _amount(engine: Engine, calls: Calls) -> dict[str, Any]:
    """Say how much a ranker was given."""
    pairs = [pair for call in calls for pair in call]
    return {
        "batch_tokens": getattr(engine.network, "budget", None),
        "passages": len(pairs) / len(calls),
        "tokens_per_pair": int(engine.tokens(pairs).lengths(engine.encoder.layout.special).sum()) / len(pairs),
    }
