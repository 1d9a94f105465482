"""Ends a run in several processes when one keeps the others waiting for too long, and says which.

The process group's own timeout ends it too, later, but knows only that something didn't come. Ranks put into the group's store
where they are; a rank that has waited for ``trainer.timeout`` looks who is behind it, or gives no sign of life.
"""

import atexit
import json
import os
import sys
import threading
import time
from typing import Any

from torch.distributed import DistError, Store

from rankdistil import announcements, ranks

LATER_S = 30.0  # behind trainer.timeout the process group gives up by itself, where all ranks stand in one place
BEATS = 60  # in the timeout, at least one in LONGEST_BEAT_S
LONGEST_BEAT_S = 10.0
SILENT = 0.9  # of the timeout without a beat: no sign of life. A library that doesn't let threads run may take as long as that


class _Place:
    """Attributes: at: phase of the run and place in it; words: the same for people; since: when it came there."""

    at, words, since = (0, 0), "is starting", 0.0


_here = _Place()
_threads: list[threading.Thread] = []
_ended = threading.Event()


def watch(timeout: float) -> None:
    """Begin to tell the other ranks where this one is, and to look after them; nothing to do for a lone process.

    Args:
        timeout: seconds that this rank waits for another one.
    """
    rank = ranks.current()
    _here.since = time.monotonic()
    if rank is not None and rank.world > 1 and not _threads:
        store = announcements.join(rank, timeout).store
        _threads.append(threading.Thread(target=_watch, args=(rank, store, timeout), daemon=True))
        _threads[0].start()
        atexit.register(_end)


def _end() -> None:
    """End the thread before the interpreter, which would abort the process where one is inside of the store's own code."""
    _ended.set()
    for thread in _threads:
        thread.join(announcements.LAST_WORDS_S)  # it may wait for a store that is gone


def begin(words: str) -> None:
    """Say that this rank begins the next phase of the run: all go through the same ones, and wait for each other in between."""
    _move((_here.at[0] + 1, 0), words)


def reach(place: int, words: str) -> None:
    """Say how far this rank has come in a phase."""
    _move((_here.at[0], place), words)


def _move(at: tuple[int, int], words: str) -> None:
    _here.at, _here.words, _here.since = at, words, time.monotonic()


def _watch(rank: ranks.Rank, store: Store, timeout: float) -> None:
    beat, others = 0, [other for other in range(rank.world) if other != rank.number]
    heard: dict[int, tuple[Any, float]] = {}
    try:
        while not _ended.is_set():
            beat += 1
            at, words, since = _here.at, _here.words, _here.since
            store.set(f"place/{rank.number}", json.dumps([at, words, beat]))
            now = time.monotonic()
            for other in others:
                told = json.loads(store.get(f"place/{other}")) if store.check([f"place/{other}"]) else None
                if other not in heard or heard[other][0] != told:
                    heard[other] = told, now
            late = [_late(other, *heard[other], at, now, timeout) for other in others]
            if now - since >= timeout and any(late):
                announcements.fail(
                    rank,
                    f"rank {rank.number} {words}, and has waited there for {now - since:.0f} s (trainer.timeout={timeout:g}): "
                    f"{'; '.join(filter(None, late))}. If it only needs longer, raise trainer.timeout; resume=true continues "
                    "the run.",
                )
                os._exit(1)
            if store.check(["failure"]):  # of a rank of another machine: nobody else may end this one
                time.sleep(announcements.LAST_WORDS_S)
                announcements.fail(rank, store.get("failure").decode())
                os._exit(1)
            _ended.wait(min(timeout / BEATS, LONGEST_BEAT_S))
    except DistError:  # the store is gone, and with it the group: this process has ended soon, or waits for nobody
        if _ended.wait(LATER_S):
            return
        print(f"error: rank {rank.number}: rank 0, or the agent that started it, has ended. It has said why.", file=sys.stderr)
        os._exit(1)


def _late(other: int, told: Any, heard: float, at: tuple[int, int], now: float, timeout: float) -> str | None:
    if told is None:
        return f"rank {other} hasn't come"
    if now - heard >= SILENT * timeout:
        return f"rank {other}, which {told[1]}, gives no sign of life (it is halted, or its machine is gone)"
    return f"rank {other} is behind: it {told[1]}" if tuple(told[0]) < at else None
