"""Atomic writes, file locks and content hashes; settings told from others; how commands are typed."""

import ctypes
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

HASH = 16  # hexadecimal digits
ENDS = 1 << 16  # bytes at either end that tell contents apart
MARK = ".rankdistil-"  # in the name of what isn't whole yet
ASIDE = ".old"  # ends the name of what is about to be replaced, where that takes two steps
HERE, EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE (linux/fs.h)
NAMED = re.compile("(?P<name>.+) sha256:(?P<hash>[0-9a-f]+)")  # as ``named`` says it
NEW_S = 60.0  # so long nobody takes it for left behind: its process locks it just behind making it


@contextmanager
def written(target: Path, size: int = 0) -> Iterator[Path]:
    """Give a file to write beside the target, of ``size`` bytes; then it is flushed to disk and renamed over the target."""
    with _beside(target, lambda place: os.close(os.open(place, os.O_CREAT | os.O_EXCL, 0o666)), size) as place:
        yield place  # with what the user's umask leaves
        move(place, target)


@contextmanager
def built(target: Path) -> Iterator[Path]:
    """Give a folder to fill, beside the target; behind the block it is on disk, and takes the place of the target.

    Its files get the permissions that the user's umask leaves: libraries that write through a temporary file, as safetensors
    does, leave files that nobody but the user can read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target, Path.mkdir) as place:
        yield place
        allowed = 0o666 & place.stat().st_mode  # asking for the umask would change it for other threads
        for path in (*place.rglob("*"), place):
            if path.is_file():
                path.chmod(allowed)
            _flush(path)
        if target.exists():
            _replace(target, place)
        else:
            place.rename(target)
        _flush(target.parent)


def _replace(target: Path, place: Path) -> None:
    """Give two folders each other's name, in one step where the system can: whoever looks finds the old one or the new one.

    Python has no call for it. Where a disk can't exchange names, a process that is killed between two steps leaves none; the
    next that writes beside it gives the old one its name again.
    """
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    if exchange is None or exchange(HERE, os.fsencode(place), HERE, os.fsencode(target), EXCHANGE):
        aside = place.with_name(f"{place.name}{ASIDE}")
        target.rename(aside)
        place.rename(target)
        aside.rename(place)


def _flush(path: Path) -> None:
    """Bring to disk what a file holds or, as far as its file system can, the names that a folder holds."""
    with _opened(path) as descriptor, suppress(OSError) if path.is_dir() else nullcontext():
        os.fsync(descriptor)


@contextmanager
def _beside(target: Path, make: Callable[[Path], None], size: int = 0) -> Iterator[Path]:
    """Make a place under a name that nobody has, not even a process of the same number in another container.

    It is locked while this process lives. What a killed one has left is removed by the next that writes in the folder.
    """
    for left in filter(is_unfinished, target.parent.iterdir()):
        _remove_left(left)
    place = target.with_name(f".{target.name}{MARK}{secrets.token_hex(4)}")
    make(place)
    try:
        with _opened(place) as descriptor:
            with suppress(OSError):  # no file of this disk can be locked: nobody then removes another's
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield place
    except Exception as error:
        with suppress(OSError):  # a library may just be removing its own files
            size = max(size, _size(place), _size(target))
        error.writing = target, size  # for who says that a disk is full
        raise
    finally:
        with suppress(OSError):  # not in place of the error that is under way
            _remove(place)


def _size(top: Path) -> int:
    return sum(path.stat().st_size for path in (top, *top.rglob("*")) if path.is_file())


def is_unfinished(path: Path) -> bool:
    """Whether something was being written here that has another name once it is whole."""
    return path.name.startswith(".") and MARK in path.name


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that this process holds (see ``locked``), at any depth."""
    for left in [*folder.rglob(f".*{MARK}*")]:
        _remove_left(left, 0)


def _remove_left(place: Path, age: float = NEW_S) -> None:
    """Remove a place that no living process holds; what was put aside gets its name back where no other has it."""
    with suppress(OSError):  # it is held, or just gone
        if time.time() - place.stat().st_mtime >= age:
            with _opened(place) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                old = place.with_name(place.name.partition(MARK)[0].removeprefix("."))
                _remove(place) if old.exists() or not place.name.endswith(ASIDE) else place.rename(old)


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    descriptor = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write in one step."""
    with written(path) as place:
        place.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON, indented; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the file.
        fix: what to do if it is damaged, for the message.

    Raises:
        ValueError: naming the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). {fix}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged (it holds no object). {fix}")
    return found


def move(source: Path, target: Path) -> None:
    """Flush a finished file to disk, then rename it into its place on the same disk, in a folder that may be new."""
    _flush(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _flush(target.parent)


def stamp(path: Path) -> dict[str, str | int]:
    """Tell a file from its later versions without reading it all: name, size, time, and a hash of its ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(ENDS))
        file.seek(max(size - ENDS, 0))
        digest.update(file.read(ENDS))
    return {"file": path.name, "size": size, "modified": path.stat().st_mtime_ns, "ends": digest.hexdigest()[:HASH]}


def content(path: Path) -> str:
    """Tell a file from all others by what it holds, wherever it lies: the beginning of its SHA-256.

    All of it is read, once for as long as it doesn't change: 10 GB take 5 to 30 s, as disk and processor are, beside hours of
    training on them. Hashing the ends alone would miss a text that was mended in the middle.
    """
    told = path.stat()
    return _content(path.resolve(), told.st_size, told.st_mtime_ns, told.st_ctime_ns)


def named(path: Path) -> str:
    """Say what a file holds without saying where it lies: its name and the hash of its content."""
    return f"{path.name} sha256:{content(path)}"


@cache
def _content(path: Path, size: int, modified: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH]


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: value by dotted key."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= flattened(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def short_hash(text: str) -> str:
    """Tell a text from all others: the beginning of its SHA-256, 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH]


def fingerprint(settings: dict[str, Any]) -> str:
    """Tell settings, in whatever order, from others: a short hash."""
    return short_hash(json.dumps(settings, sort_keys=True))


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the settings that differ, as ``key: old -> new``; of a file whose content alone differs, that it has changed."""
    missing = "(absent)"
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key, missing) != new.get(key, missing))
    return [_changed(key, old.get(key, missing), new.get(key, missing)) for key in keys]


def _changed(key: str, old: Any, new: Any) -> str:
    files = [NAMED.fullmatch(str(value)) for value in (old, new)]
    if all(files) and files[0]["name"] == files[1]["name"]:
        return f"{key}: {files[0]['name']} has changed since (sha256 {files[0]['hash']} -> {files[1]['hash']})"
    return f"{key}: {old} -> {new}"


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


@contextmanager
def workshop(folder: Path, choice: str) -> Iterator[None]:
    """Hold a folder of ours (see ``locked``), emptied before and behind the block: what a killed process left there goes."""
    with locked(folder, wait=False, choice=choice, ours=True):
        try:
            _empty(folder)
            yield
        finally:
            _empty(folder)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            _remove(path)


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
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.stat()):
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


PACKAGE = Path(__file__).parent
CHECKOUT = (PACKAGE.parents[1] / "pyproject.toml").is_file()  # else the package was installed from a wheel


def called(command: str) -> str:
    """Say how a command is typed here: a script of the checkout, or the program that a wheel brings."""
    return f"python {command}.py" if CHECKOUT else f"rankdistil {command}"
