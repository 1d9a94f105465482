"""Progress of long work outside of training: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rankdistil.processes import ranks

LINE_EVERY_S = 10.0
Item = TypeVar("Item")


def counted(items: Iterable[Item], label: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Pass items on, showing how many there were, their rate and the time left.

    Args:
        items: what is worked on.
        label: what is done.
        unit: what an item is, in the plural.
        total: how many there will be, if known.
    """
    console, started, done = Console(stderr=True, highlight=False, quiet=ranks.mute()), time.monotonic(), 0
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn()
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
            yield from bar.track(items, description=label, total=total)
        return
    said = started
    for item in items:
        yield item
        done, now = done + 1, time.monotonic()
        if now - said >= LINE_EVERY_S:
            said, rate = now, done / (now - started)
            left = f", {clock_time((total - done) / rate)} left" if total else ""
            console.print(f"{label}: {done}{f'/{total}' if total else ''} {unit}, {rate:.0f}/s{left}")
    if (now := time.monotonic()) - started >= LINE_EVERY_S:
        console.print(f"{label}: {done} {unit} in {clock_time(now - started)}, {done / (now - started):.0f}/s")


class Now:
    """Says something on the terminal now and then, at most every ``LINE_EVERY_S``; one process speaks for all.

    Args:
        clock: tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = Console(stderr=True, highlight=False, quiet=ranks.mute()), clock
        self._said = clock()

    def __call__(self, line: Callable[[], str]) -> None:
        """Print a line if the last one is long enough ago."""
        if (now := self._clock()) - self._said >= LINE_EVERY_S:
            self._said = now
            self._console.print(line(), markup=False, soft_wrap=True)


def clock_time(seconds: float) -> str:
    """Show seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
