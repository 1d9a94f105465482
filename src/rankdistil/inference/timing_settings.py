"""What is timed, and how often."""

from dataclasses import dataclass, fields
from typing import Any

from rankdistil.inference.backend import BACKENDS
from rankdistil.inference.packed_ranker import PRECISIONS

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
        backends: see ``rankdistil.inference.backend``.

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
