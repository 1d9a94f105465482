"""A fault inside of a run that is started as users start it: Python imports this file where PYTHONPATH names its folder.

The environment's FAULT holds JSON: ``rank``, ``at`` (module:class.method), ``call`` (which one, from 1), ``do``, and ``behind``
if it happens as the method has ended; ``mark`` is a file that is touched when it happens.
"""

import errno
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

LONG_S = 120.0
LITTLE_BYTES = 16_000_000  # less than an optimiser's state
SMALL_BYTES = 1_000_000  # less than a checkpoint, more than anything else


def ask_twice(signum: int) -> None:
    """Get a signal twice, busy with something else all the time."""
    os.kill(os.getpid(), signum)
    time.sleep(1)
    os.kill(os.getpid(), signum)
    time.sleep(LONG_S)


def kill_rank(number: str) -> None:
    """Kill another rank of this process's group."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status, environment = (process / "status").read_text(), (process / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's, or it has just ended
            continue
        if f"\nPPid:\t{os.getppid()}\n" in status and f"RANK={number}".encode() in environment:
            os.kill(int(process.name), signal.SIGKILL)


def act(do: str) -> None:
    """Do what is asked."""
    kind, _, what = do.partition(" ")
    if kind == "raise":
        raise ValueError(f"a fault in rank {os.environ.get('RANK', '0')}")
    if kind == "eio":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    if kind == "clock":
        jump(float(what))
    if kind == "memory":  # from now on, hardly more
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + LITTLE_BYTES, taken + LITTLE_BYTES))
    if kind == "exit":
        os._exit(int(what))
    if kind == "sleep":
        time.sleep(LONG_S)
    if kind == "signal":
        os.kill(os.getpid(), getattr(signal, what))
    if kind == "full":  # from now on, and asked to stop as well, if a signal is named
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, SMALL_BYTES))
        if what:
            os.kill(os.getpid(), getattr(signal, what))
    if kind == "lose":
        kill_rank(what)
    if kind == "twice":
        ask_twice(getattr(signal, what))


def poisoned(value: object) -> object:
    """Make a stage's loss NaN."""
    return value._replace(total=value.total * float("nan"))


def jump(seconds: float) -> None:
    """Set the clock, as Python tells it, by so many seconds."""
    plain, plain_ns = time.time, time.time_ns
    time.time, time.time_ns = lambda: plain() + seconds, lambda: plain_ns() + int(seconds * 1e9)


def patch(at: str, call: int, do: str, mark: str, behind: bool = False) -> None:
    """Wait until the module is imported, and wrap the method; the module's last line is behind its class."""
    module, _, name = at.partition(":")
    owner, _, method = name.rpartition(".")
    while not hasattr(sys.modules.get(module), owner.partition(".")[0] or method):
        time.sleep(0.01)
    holder = sys.modules[module] if not owner else getattr(importlib.import_module(module), owner)
    plain, calls = getattr(holder, method), []

    def wrapped(*arguments: object, **named: object) -> object:
        calls.append(None)
        now = len(calls) == call
        returned = plain(*arguments, **named) if behind else None
        if now:
            Path(mark).touch()
            act(do)
            if do == "poison":
                return poisoned(plain(*arguments, **named))
        return returned if behind else plain(*arguments, **named)

    setattr(holder, method, wrapped)


if "FAULT" in os.environ:
    asked = json.loads(os.environ["FAULT"])
    if os.environ.get("RANK", "0") == str(asked.pop("rank", 0)):
        threading.Thread(target=patch, kwargs=asked, daemon=True).start()
