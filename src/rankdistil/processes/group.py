"""Group of ranks: its process group, what ranks tell one another outside of training, one message where one fails or is late.

Rank 0 plans, locks and prepares, and announces each run that is ready; the others wait for it, and carry it out at the same
time. A collective that waits for ``trainer.timeout`` fails, and so does one that lost a rank; who is missing is asked in the
group's store then, as a process group is of no more use. Why a rank failed goes through the store, too, where a thread looks
for it: no collective reaches a rank that waits inside of NCCL, or is busy with something else.
"""

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from rankdistil.config.schema import plain
from rankdistil.files import changed_settings, fingerprint, flattened
from rankdistil.processes import ranks
from rankdistil.processes.ranks import Rank, lost_peer

TIMEOUT_S = 1800.0  # where trainer.timeout isn't set
LOOK_S = 0.1  # between two looks into the store
FAILED_S = 1.0  # between two looks for another rank's failure
BEAT_S = 10.0  # between two signs of life of rank 0, at most
SEEN_S = 60.0  # how long a shared file system may take to show what another machine wrote
LAST_WORDS_S = 10.0  # how long a failing rank waits for the others to take note


class Run(NamedTuple):
    """Attributes: folder: prepared by rank 0; config: fingerprint of the resolved config in it."""

    folder: Path
    config: str


class Group:
    """This process as one of several, with torch's process group: gloo on processors, NCCL on GPUs.

    Args:
        rank: this process.
        timeout: seconds that it waits for the others, here and in each collective.

    Raises:
        RuntimeError: if the ranks don't find one another in time.
    """

    def __init__(self, rank: Rank, timeout: float) -> None:
        self.timeout, self._rank, self._free = timeout, rank, threading.Lock()
        store = _store(rank, timeout)
        _watch(rank, store)
        if late := _late(rank, store, "came", timeout):  # asked in Python, where signals are heard
            raise RuntimeError(f"rank {late} of {rank.world} hasn't come in {timeout:.0f} s (trainer.timeout).")
        # Where time is out, NCCL's watchdog ends the process. TORCH_NCCL_BLOCKING_WAIT would raise instead, but has every step
        # wait until the gradients have come.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        place = {"store": dist.PrefixStore("group", store), "rank": rank.number, "world_size": rank.world}
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout), **place)
        if backend != "gloo":
            atexit.register(dist.destroy_process_group)  # NCCL warns without it

    def compare(self, cfg: DictConfig) -> None:
        """Compare the resolved configs of all ranks with rank 0's.

        Raises:
            ValueError: naming the settings that differ.
        """
        found: list[Any] = [None] * self._rank.world
        dist.all_gather_object(found, flattened(plain(cfg)))
        for other, settings in enumerate(found):
            if changed := changed_settings(found[0], settings):
                raise ValueError(
                    f"rank {other} was started with other settings than rank 0 (rank 0 -> rank {other}):\n  "
                    + "\n  ".join(changed)
                    + "\nStart all ranks with the same command line, and the same environment where settings refer to it."
                )

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Give signs of life while rank 0 plans, fetches and waits for locks; at the end let the others go."""
        ended = threading.Event()

        def beat() -> None:
            with suppress(RuntimeError):  # the others are gone: whoever tells them something next hears of it
                while not ended.wait(min(BEAT_S, self.timeout / 4)):
                    with self._free:
                        if not ended.is_set():
                            self._tell("wait")

        thread = _started(beat, ended)
        try:
            yield
        finally:
            ended.set()
        thread.join()
        self._tell(None)

    @contextmanager
    def announced(self, folder: Path, cfg: DictConfig) -> Iterator[None]:
        """Let the other ranks carry out a run, which is locked and prepared, while rank 0 does in the block."""
        with self._free:
            self._tell(Run(folder, fingerprint(flattened(plain(cfg)))))
            yield

    def announcements(self) -> Iterator[Run]:
        """Wait for runs, until rank 0 has no more."""
        while (told := self._tell()) is not None:
            if told != "wait":
                yield told

    def _tell(self, what: Any = None) -> Any:
        """Return what rank 0 tells all."""
        box = [what]
        dist.broadcast_object_list(box, 0)
        return box[0]


_groups: list[Group] = []
_stores: list[dist.Store] = []


def join(timeout: float) -> Group | None:
    """Return this process's group, the same at each call; None if it is alone.

    Args:
        timeout: seconds that ranks wait for one another.

    Raises:
        RuntimeError: if the ranks don't find one another in time.
    """
    rank = ranks.current()
    if rank is None or rank.world == 1:
        return None
    if not _groups:
        _groups.append(Group(rank, timeout))
    return _groups[0]


def reduced(value: int, how: str) -> int:
    """Return the largest (``MAX``) or the smallest (``MIN``) of all ranks' numbers."""
    if not _groups:
        return value
    found = torch.tensor(value)
    dist.all_reduce(found, getattr(dist.ReduceOp, how))
    return int(found)


def fail(rank: Rank, message: str) -> None:
    """Print why this rank fails, once on each machine: what failed first, in the group."""
    atexit.unregister(dist.destroy_process_group)  # it would wait for the others
    try:
        store = _store(rank, LAST_WORDS_S)
        waits = bool(_groups) and lost_peer(message)
        if waits and (late := _late(rank, store, "waits", LAST_WORDS_S)):  # torchrun ends this one meanwhile
            message = (
                f"rank {rank.number} waits in vain for rank {late}, which has ended, is halted, or takes longer than "
                f"trainer.timeout={_groups[0].timeout:g} seconds. See what it last said; if it only needs longer, raise "
                f"trainer.timeout; resume=true continues the run. ({message})"
            )
        first = store.compare_set("failure", "", message).decode()
        speaks = store.add(f"failed on {rank.node}", 1) == 1
    except dist.DistError:  # the others can't be reached (any more)
        print(f"error: {message}", file=sys.stderr, flush=True)
        return
    if speaks:
        print(f"error: {first}", file=sys.stderr, flush=True)
    with suppress(dist.DistError):
        _leave(rank, store, speaks)


def _leave(rank: Rank, store: dist.Store, spoke: bool) -> None:
    """Wait for those that fail, too: for the one that speaks on this machine; rank 0, which may hold the store, for all."""
    until, said = time.monotonic() + LAST_WORDS_S, f"said on {rank.node}"
    if spoke:
        store.set(said, "")
    while not store.check([said]) and time.monotonic() < until:  # all are ended once one has
        time.sleep(LOOK_S)
    left = store.add("left", 1)
    holds = rank.number == 0 and "TORCHELASTIC_RUN_ID" not in os.environ
    while holds and left < rank.world and time.monotonic() < until:
        time.sleep(LOOK_S)
        left = store.add("left", 0)


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


def _store(rank: Rank, timeout: float) -> dist.Store:
    """Find the group's store: torchrun's, elsewhere one that rank 0 opens."""
    if not _stores:
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            from lightning.fabric.plugins.environments import SLURMEnvironment

            slurm = SLURMEnvironment()
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
        try:
            found, _, _ = next(dist.rendezvous("env://", rank.number, rank.world, timeout=timedelta(seconds=timeout)))
        except dist.DistError as error:
            raise dist.DistError(
                f"rank {rank.number} of {rank.world} ({socket.gethostname()}) found no store at {os.environ['MASTER_ADDR']}:"
                f"{os.environ['MASTER_PORT']} in {timeout:.0f} s (trainer.timeout), or not all ranks came: {error}"
            ) from None
        _stores.append(dist.PrefixStore("rankdistil", found))
    return _stores[0]


def _late(rank: Rank, store: dist.Store, place: str, seconds: float) -> str:
    """Tell the others that this rank has come to a place; name those that don't in time, or before one fails."""
    store.set(f"{place} {rank.number}", "")
    until, places = time.monotonic() + seconds, [f"{place} {number}" for number in range(rank.world)]
    while not store.check(places) and time.monotonic() < until and not store.check(["failure"]):
        time.sleep(LOOK_S)
    return ", ".join(str(number) for number, one in enumerate(places) if not store.check([one]))


def _watch(rank: Rank, store: dist.Store) -> None:
    """End this process soon after another rank has failed, whatever it waits for."""
    ended = threading.Event()

    def look() -> None:
        with suppress(dist.DistError):  # the store is gone, and with it the group
            while not ended.wait(FAILED_S):
                if store.check(["failure"]):
                    message = store.get("failure").decode()
                    if not ended.wait(LAST_WORDS_S / 2):
                        fail(rank, message)
                        os._exit(1)

    _started(look, ended)


def _started(act: Callable[[], None], ended: threading.Event) -> threading.Thread:
    """Start a thread that a process ends before it ends itself, however that comes.

    The interpreter's end would abort a process one of whose threads is inside of the store's code, or of a collective's.
    """

    def end() -> None:
        ended.set()
        thread.join(LAST_WORDS_S)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    atexit.register(end)
    return thread
