"""Progress of long work: a bar on a terminal, a line now and then elsewhere, both with rate and time left."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rankdistil.processes import ranks

LINE_EVERY_S, BAR_EVERY_S = 10.0, 0.1
Item = TypeVar("Item")


def screen() -> Console:
    """Return the console that progress is shown on; one process speaks for all."""
    return Console(stderr=True, highlight=False, quiet=ranks.mute())


class Work:
    """Shows how far a piece of work is.

    Args:
        label: what is done.
        total: how much there will be, if known.
        unit: what is counted, in the plural, where the label says nothing of it.
        rated: what the rate counts, where that is something else.
        begun: how much was done before.
        console: see ``screen``.
    """

    def __init__(
        self, label: str, total: int | None, unit: str = "", rated: str = "", begun: int = 0, console: Console | None = None
    ) -> None:
        self._console, self._label, self._total, self._begun = console or screen(), label, total, begun
        self._unit, self._per_second = f" {unit}".rstrip(), f" {rated}/s" if rated else "/s"
        self._started = self._shown = time.monotonic()
        self._counted, self._bar = 0, None
        if self._console.is_terminal:
            counts = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)
            times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
            self._bar = Progress(*counts, *times, console=self._console)
            self._task = self._bar.add_task(label, total=total, completed=begun, note="")
            self._bar.start()

    def advance(self, done: int, counted: int = 1, note: str = "", due: bool = False) -> None:
        """Show how much is done, unless that was shown just now.

        Args:
            done: how much is done in all.
            counted: what the rate counts, since the last call.
            note: what else to say.
            due: show it in any case.
        """
        self._counted += counted
        now = time.monotonic()
        if now - self._shown < (LINE_EVERY_S if self._bar is None else BAR_EVERY_S) and not due:
            return
        self._shown, seconds = now, max(now - self._started, 1e-9)
        rate = f"{self._counted / seconds:.0f}{self._per_second}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=f"{rate} {note}")
            return
        of = left = ""
        if self._total:
            of = f"/{self._total}"
            left = f", {clock_time((self._total - done) * seconds / max(done - self._begun, 1))} left"
        say(self._console, f"{self._label} {done}{of}{self._unit}, {rate}{left} {note}".rstrip())

    def close(self, done: int | None = None) -> None:
        """Give the terminal back; elsewhere say how long it took to do all, if it was long."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
            self._bar.stop()
            self._bar = None
        elif done is not None and (seconds := time.monotonic() - self._started) >= LINE_EVERY_S:
            rate = f"{self._counted / seconds:.0f}{self._per_second}"
            say(self._console, f"{self._label} {done}{self._unit} in {clock_time(seconds)}, {rate}")


def counted(items: Iterable[Item], label: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Pass items on, showing how many there were.

    Args:
        items: what is worked on.
        label: what is done.
        unit: what an item is, in the plural.
        total: how many there will be, if known.
    """
    work, done = Work(f"{label}:", total, unit), 0
    try:
        for done, item in enumerate(items, 1):
            yield item
            work.advance(done)
    except BaseException:
        work.close()
        raise
    work.close(done)


class Now:
    """Says something now and then, at most every ``LINE_EVERY_S``."""

    def __init__(self) -> None:
        self._console, self._said = screen(), time.monotonic()

    def __call__(self, line: Callable[[], str]) -> None:
        """Print a line if the last one is long enough ago."""
        if (now := time.monotonic()) - self._said >= LINE_EVERY_S:
            self._said = now
            say(self._console, line())


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def clock_time(seconds: float) -> str:
    """Show seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
