"""One folder, one process at a time."""

import fcntl
import json
import os
import shutil
import stat
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
            _flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB, file)
        except BlockingIOError:
            told = json.loads(lock.read().decode() or "{}")
            return f"pid {told.get('pid', 'unknown')} since {told.get('since', 'unknown')}"
    return None


@contextmanager
def locked(folder: Path, wait: bool, choice: str = "run_name", ours: bool = False) -> Iterator[int]:
    """Hold the folder against other processes.

    Folders that this makes go again if nothing was written into them, and no others: an empty one may be a user's, or the place
    where a disk is mounted.

    Args:
        folder: made if it isn't there.
        wait: wait for another holder instead of refusing.
        choice: the key that chooses the folder, for the message.
        ours: no user's, whoever made it.

    Yields:
        The descriptor of the lock, for a child process to inherit: the lock then lives as long as either of them.

    Raises:
        RuntimeError: if another process holds it.
        PermissionError: if the folder can't be written.
        OSError: if its file system has no locks.
    """
    made, file = [folder] if ours else [], folder / LOCK
    try:
        descriptor = _acquire(folder, wait, choice, made)
        try:
            os.ftruncate(descriptor, 0)
            told = json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
            os.pwrite(descriptor, told.encode(), 0)
            yield descriptor
        finally:
            with suppress(OSError):  # not in place of the error that is under way; the folder may be gone
                if [path.name for path in folder.iterdir()] == [LOCK]:
                    file.unlink()
            os.close(descriptor)
    finally:
        _remove_empty(made)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Make a folder for what the block writes. Should that fail, all goes again that this made, with what is in the folder."""
    made: list[Path] = []
    try:
        _make(folder, made)
        yield
    except BaseException:
        if folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _remove_empty(made)


def _acquire(folder: Path, wait: bool, choice: str, made: list[Path]) -> int:
    file, asked = folder / LOCK, 0
    while True:
        _make(folder, made)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)  # less the user's umask
        except FileNotFoundError:  # a holder that left nothing removed the folder just now
            continue
        try:
            _flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, file)
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


def _flock(descriptor: int, how: int, file: Path) -> None:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise
    except OSError as error:
        raise OSError(
            f"{file} can't be locked ({error.strerror}): its file system has no locks, which keep two processes out of one "
            "folder. Choose one on another disk (paths.runs)."
        ) from None


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it; add those that weren't there to ``made``, the outermost first."""
    while not folder.is_dir():
        try:
            folder.mkdir()
            made.append(folder)
        except FileNotFoundError:  # there is no folder above it, or no longer: another process removes what it made
            _make(folder.parent, made)
        except FileExistsError:
            with suppress(FileNotFoundError):  # another process made it, and has removed it again
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    raise


def _remove_empty(made: list[Path]) -> None:
    for folder in reversed(made):
        with suppress(OSError):  # it holds something, or another process removed it
            folder.rmdir()
