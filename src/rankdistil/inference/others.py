"""How much of the machine other processes used while something was timed.

Times that were measured beside others' work say as much about that work. The load average can't tell: it counts the timed
process too, over the last minute.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

COUNTERS = Path("/proc/stat")


class Usage(NamedTuple):
    """What was used of a machine in a while.

    Attributes:
        node: name of the machine.
        cores: it has.
        wall: seconds that passed.
        own: CPU seconds of this process and of those that it started and that have ended.
        all: CPU seconds of all processes, and what a host of this machine gave to its others; None where it isn't told.
    """

    node: str
    cores: int
    wall: float
    own: float
    all: float | None


def counters() -> tuple[float, int] | None:
    """Return the CPU seconds that all processes have used so far, and the cores; None where the system doesn't count them."""
    if not COUNTERS.is_file():
        return None
    lines = [line.split() for line in COUNTERS.read_text(encoding="ascii").splitlines() if line.startswith("cpu")]
    user, nice, system, _, _, interrupt, soft, stolen, *_ = map(int, lines[0][1:])
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK"), len(lines) - 1


class Meter:
    """Measures what is used from now on.

    Args:
        read: gives the counters of all processes, see ``counters``.
    """

    def __init__(self, read: Callable[[], tuple[float, int] | None] = counters) -> None:
        self._read = read
        self._start = self._now()

    def usage(self) -> Usage:
        """Return what has been used since the start."""
        (total, cores, own, wall), (total0, _, own0, wall0) = self._now(), self._start
        every = None if total is None or total0 is None else total - total0
        return Usage(platform.node(), cores, wall - wall0, own - own0, every)

    def share(self) -> float | None:
        """Return the share of the cores that others have used since the start, see ``others_share``."""
        return others_share([self.usage()])

    def _now(self) -> tuple[float | None, int, float, float]:
        total, cores = self._read() or (None, os.cpu_count() or 1)
        return total, cores, sum(os.times()[:4]), time.monotonic()


def others_share(usages: Sequence[Usage]) -> float | None:
    """Return the largest share of a machine's cores that others used.

    Args:
        usages: of the processes that worked together, over the same while; those of one machine aren't others to each other.

    Returns:
        From 0 (nothing else ran) to 1 (all cores); None where it isn't known: a system without counters, or one whose counters
        miss the process's own work, as those of some sandboxes do.
    """
    nodes: dict[str, list[Usage]] = {}
    for usage in usages:
        nodes.setdefault(usage.node, []).append(usage)
    shares = [_share(usages) for usages in nodes.values()]
    return None if None in shares else max(shares)


def shown_share(share: float | None) -> str:
    """Write a share for a reader."""
    return "an unknown share" if share is None else f"{share:.0%}"


def _share(usages: Sequence[Usage]) -> float | None:
    own, first = sum(usage.own for usage in usages), usages[0]
    if first.all is None or first.all < own / 2 or first.wall <= 0:
        return None
    return max(0.0, first.all - own) / (first.wall * first.cores)
