"""Group of ranks: what they tell one another outside of training, and the end of a run that one of them keeps waiting.

Rank 0 plans, locks and prepares, and announces each run that is ready; the others wait for it, and carry it out at the same
time. That goes through the group's key-value store: collectives need the process group, which Lightning makes only in a run.

The process group's own timeout ends it too, later, but knows only that something didn't come. Ranks put into the group's store
where they are; a rank that has waited for ``trainer.timeout`` looks who is behind it, or gives no sign of life.
"""

import atexit
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch.distributed import DistError, PrefixStore, Store, rendezvous

from rankdistil.config.schema import plain
from rankdistil.files import changed_settings, fingerprint, flattened
from rankdistil.processes import ranks
from rankdistil.processes.ranks import Rank, lost_peer

TIMEOUT_S = 1800.0  # where trainer.timeout isn't set
LOOK_S = 0.1  # between two looks into the store
BEAT_S = 10.0  # between two signs of life of rank 0, at most
SEEN_S = 60.0  # how long a shared file system may take to show what another machine wrote
LAST_WORDS_S = 10.0  # how long a failing rank waits for the others to take note


class GroupFailedError(RuntimeError):
    """Another rank failed; the message is its own."""


class Run(NamedTuple):
    """Attributes: folder: prepared by rank 0; config: fingerprint of the resolved config in it."""

    folder: Path
    config: str


class Announcements:
    """One rank's end of the store.

    Args:
        rank: this process.
        timeout: seconds after which a rank that gives no sign of life is given up.

    Attributes:
        store: the group's, with a prefix of its own.
    """

    def __init__(self, rank: Rank, timeout: float) -> None:
        self._rank, self._timeout, self._runs = rank, timeout, 0
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            _address_under_slurm()
        try:  # the store of torchrun's agent; elsewhere rank 0 opens one, which Lightning then uses too
            found, _, _ = next(rendezvous("env://", rank.number, rank.world, timeout=timedelta(seconds=timeout)))
        except DistError as error:
            raise RuntimeError(
                f"rank {rank.number} of {rank.world} ({socket.gethostname()}) found no store at {os.environ['MASTER_ADDR']}:"
                f"{os.environ['MASTER_PORT']} in {timeout:.0f} s (trainer.timeout), or not all ranks came: {error}"
            ) from None
        self.store = PrefixStore("rankdistil", found)

    def compare(self, cfg: DictConfig) -> None:
        """Compare the resolved configs of all ranks with rank 0's.

        Raises:
            ValueError: naming the settings that differ.
        """
        number = self._rank.number
        self.store.set(f"config/{number}", json.dumps(flattened(plain(cfg))))
        first = json.loads(self._wait("config/0", 0))
        for other in range(1, self._rank.world) if number == 0 else [number]:
            changed = changed_settings(first, json.loads(self._wait(f"config/{other}", other)))
            if changed:
                raise ValueError(
                    f"rank {other} was started with other settings than rank 0 (rank 0 -> rank {other}):\n  "
                    + "\n  ".join(changed)
                    + "\nStart all ranks with the same command line, and the same environment where settings refer to it."
                )

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Give signs of life while rank 0 plans, waits for locks and trains; at the end let the others go."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(min(BEAT_S, self._timeout / 4)):
                self.store.add("beat/0", 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.store.set(f"run/{self._runs}", json.dumps(None))
        self._leave()

    def announce(self, folder: Path, cfg: DictConfig) -> None:
        """Let the other ranks carry out a run, which is locked and prepared."""
        self.store.set(f"run/{self._runs}", json.dumps([str(folder), fingerprint(flattened(plain(cfg)))]))
        self._runs += 1

    def announced(self) -> Iterator[Run]:
        """Wait for runs, until rank 0 has no more.

        Raises:
            GroupFailedError: if a rank fails.
            RuntimeError: if rank 0 gives no sign of life.
        """
        while (told := json.loads(self._wait(f"run/{self._runs}", 0))) is not None:
            self._runs += 1
            yield Run(Path(told[0]), told[1])
        self._leave()

    def fail(self, message: str) -> None:
        """Print why this rank fails, once on each machine: what failed first, in the group."""
        me, lone = self._rank, self._rank.local == self._rank.world
        if lost_peer(message):
            self._soon("failure")  # torchrun's agent ends this process meanwhile, and says whose connection was lost
        first = self.store.compare_set("failure", "", message).decode()
        if self.store.add(f"failed on/{me.node}", 1) == 1:
            print(f"error: {first}", file=sys.stderr, flush=True)
            self.store.set(f"said on/{me.node}", "")
        self._soon(f"said on/{me.node}")  # the agent ends all once one has ended: not while another one is speaking
        if not (lone and "TORCHELASTIC_RUN_ID" in os.environ):  # else the store, or its agent, might end with this process
            self._leave()

    def _wait(self, key: str, of: int) -> Any:
        """Return a value that a rank sets, unless one fails or that one falls silent."""
        try:
            beats, heard = -1, time.monotonic()
            while not self.store.check([key]):
                if self.store.check(["failure"]):
                    raise GroupFailedError(self.store.get("failure").decode())
                if (now := self.store.add(f"beat/{of}", 0)) != beats:
                    beats, heard = now, time.monotonic()
                if time.monotonic() - heard > self._timeout:
                    raise RuntimeError(
                        f"rank {of} has given no sign of life for {self._timeout:.0f} s (trainer.timeout). See what it last "
                        "said, or allow it more time."
                    )
                time.sleep(LOOK_S)
            return self.store.get(key)
        except DistError as error:
            raise RuntimeError(f"rank 0, or the agent that started it, has ended. It has said why. ({error})") from None

    def _soon(self, key: str) -> None:
        """Wait for a key for a while."""
        until = time.monotonic() + LAST_WORDS_S
        while time.monotonic() < until and not self.store.check([key]):
            time.sleep(LOOK_S)

    def _leave(self) -> None:
        """Let rank 0, which may hold the store, leave last; give up soon if a rank doesn't come."""
        left, until = self.store.add("left", 1), time.monotonic() + LAST_WORDS_S
        while self._rank.number == 0 and left < self._rank.world and time.monotonic() < until:
            time.sleep(LOOK_S)
            left = self.store.add("left", 0)


_joined: list[Announcements] = []


def join(rank: Rank, timeout: float) -> Announcements:
    """Return this process's announcements, the same at each call.

    Raises:
        RuntimeError: if the ranks don't find one another in time.
    """
    if not _joined:
        _joined.append(Announcements(rank, timeout))
    return _joined[0]


def fail(rank: Rank, message: str) -> None:
    """Print why this rank fails: once for all ranks of a machine."""
    try:
        join(rank, LAST_WORDS_S).fail(message)
    except RuntimeError:  # the others can't be reached (any more)
        print(f"error: {message}", file=sys.stderr, flush=True)


def await_config(run: Run) -> None:
    """Wait until this machine sees the config that rank 0 prepared: shared file systems may be some seconds late.

    Raises:
        ValueError: if it doesn't.
    """
    file, until = run.folder / ".hydra" / "config.yaml", time.monotonic() + SEEN_S
    while not (file.is_file() and fingerprint(flattened(plain(OmegaConf.load(file)))) == run.config):
        if time.monotonic() > until:
            found = "holds another config" if file.is_file() else "isn't there"
            raise ValueError(
                f"{file.absolute()} {found} on {socket.gethostname()}, though rank 0 wrote it {SEEN_S:.0f} s ago. All ranks "
                "need the same runs: name a folder that every machine shares (paths.runs=...); start all ranks in one folder."
            )
        time.sleep(LOOK_S)


def _address_under_slurm() -> None:
    from lightning.fabric.plugins.environments import SLURMEnvironment

    environment = SLURMEnvironment()
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)


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
        store = join(rank, timeout).store
        _threads.append(threading.Thread(target=_watch, args=(rank, store, timeout), daemon=True))
        _threads[0].start()
        atexit.register(_end)


def _end() -> None:
    """End the thread before the interpreter, which would abort the process where one is inside of the store's own code."""
    _ended.set()
    for thread in _threads:
        thread.join(LAST_WORDS_S)  # it may wait for a store that is gone


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
                fail(
                    rank,
                    f"rank {rank.number} {words}, and has waited there for {now - since:.0f} s (trainer.timeout={timeout:g}): "
                    f"{'; '.join(filter(None, late))}. If it only needs longer, raise trainer.timeout; resume=true continues "
                    "the run.",
                )
                os._exit(1)
            if store.check(["failure"]):  # of a rank of another machine: nobody else may end this one
                time.sleep(LAST_WORDS_S)
                fail(rank, store.get("failure").decode())
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
