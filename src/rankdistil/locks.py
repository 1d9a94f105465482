"""One folder, one process at a time."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
LOOKS = 10  # tries to get a lock without waiting


def holder(folder: Path) -> str | None:
    """Say which process holds a folder; None if none does."""
    file = folder / LOCK
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
def locked(folder: Path, wait: bool, choice: str = "run_name") -> Iterator[int]:
    """Hold the folder against other processes.

    Args:
        folder: made if it isn't there; removed again if nothing was written into it.
        wait: wait for another holder instead of refusing.
        choice: the key that chooses the folder, for the message.

    Yields:
        The descriptor of the lock, for a child process to inherit: the lock then lives as long as either of them.

    Raises:
        RuntimeError: if another process holds it.
        PermissionError: if the folder can't be written.
    """
    descriptor, file = _acquire(folder, wait, choice), folder / LOCK
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode(), 0)
        yield descriptor
    finally:
        if [path.name for path in folder.iterdir()] == [LOCK]:
            file.unlink()
        os.close(descriptor)
        remove_if_empty(folder)


def _acquire(folder: Path, wait: bool, choice: str) -> int:
    file, asked = folder / LOCK, 0
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)  # less the user's umask
        except FileNotFoundError:  # a holder that left nothing removed the folder just now
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(descriptor, file):
                return descriptor
            os.close(descriptor)  # a holder that left nothing removed the file: who holds it now holds nothing
        except BlockingIOError:
            os.close(descriptor)
            asked += 1
            if asked == LOOKS:
                by = holder(folder)
                raise RuntimeError(f"{folder} is in use by {by}. Wait for it, or choose another {choice}.") from None
            time.sleep(0.02)  # it may only have been looked at, by ``holder``
        except BaseException:
            os.close(descriptor)
            raise


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing (and its parents that then hold nothing), as a refused run leaves behind."""
    folder = folder.resolve()
    with suppress(FileNotFoundError):  # another rank, or another job, does the same
        while folder.is_dir() and folder != Path.cwd() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
