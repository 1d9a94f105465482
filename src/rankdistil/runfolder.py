"""A run's folder: who may write into it, and what state it is in."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rankdistil.lineage import differences, read_run


class State(NamedTuple):
    """Attributes: name: ``finished``, ``running`` (another process), ``to resume`` or ``to run``; reason: why, in words."""

    name: str
    reason: str


def state(folder: Path, settings: dict[str, Any]) -> State:
    """Say what has to be done for a run.

    Args:
        folder: the run's folder.
        settings: what the run is asked to be made with.

    Raises:
        ValueError: if the folder holds a run made with other settings, naming each difference.
    """
    record = read_run(folder)
    if record is None:
        return State("to run", f"no run at {folder}")
    changed = differences(record["settings"], settings)
    if changed:
        shown = "\n  ".join(changed[:12]) + (f"\n  and {len(changed) - 12} more" if len(changed) > 12 else "")
        fix = (
            "Ways out: take back the override; name another folder for the new run (run_name=..., for a teacher "
            "teacher.run=teacher/<name>/<name>, for the run that a student starts from student.init_run=<name>; "
            "paths.runs=runs/<name> keeps all runs on other data apart); or use this one as it is: "
            f"teacher.export={folder / 'export'}, or student.init_from=export:{folder / 'export'}."
        )
        raise ValueError(f"{folder} holds a run made with other settings (there -> asked for):\n  {shown}\n{fix}")
    if record["status"] == "finished":
        if not (folder / "export" / "config.json").is_file():
            raise ValueError(f"{folder} is a finished run without its export. Remove the folder to run it again.")
        return State("finished", f"finished {record['finished']}, same settings")
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        return State("to resume", f"stopped before its end; {last} is there")
    return State("to run", "stopped before its first checkpoint")


def holder(folder: Path) -> str | None:
    """Say which process holds a folder; None if none does."""
    file = folder / ".lock"
    if not file.is_file():
        return None
    with file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            told = json.loads(lock.read().decode() or "{}")
            return f"pid {told.get('pid', 'unknown')} since {told.get('since', 'unknown')}"
    return None


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[int]:
    """Hold the folder against other processes.

    Args:
        folder: made if it isn't there; removed again if nothing was written into it.
        wait: wait for another holder instead of refusing.

    Yields:
        The descriptor of the lock, for a child process to inherit: the lock then lives as long as either of them.

    Raises:
        RuntimeError: if another process holds it.
        PermissionError: if the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".lock"
    descriptor, held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644), False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{folder} is in use by {holder(folder)}. Wait for it, or choose another run_name.") from None
        held = True
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode(), 0)
        yield descriptor
    finally:
        if held and [path.name for path in folder.iterdir()] == [file.name]:
            file.unlink()
        os.close(descriptor)
        remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing (and its parents that then hold nothing), as a refused run leaves behind."""
    folder = folder.resolve()
    while folder.is_dir() and folder != Path.cwd() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
