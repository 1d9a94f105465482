"""Writing in one step: a reader sees the old content or the new, never half of it. Telling changed files and settings."""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

ENDS = 1 << 16  # bytes at either end that tell contents apart
MARK = ".rankdistil-"  # in the name of what isn't whole yet
NAMED = re.compile("(?P<name>.+) sha256:(?P<hash>[0-9a-f]+)")  # as ``named`` says it
NEW_S = 60.0  # so long nobody takes it for left behind: its process locks it just behind making it


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """Give a file to write, beside the target; behind the block it is flushed to disk and renamed over the target."""
    with _beside(target, lambda place: os.close(os.open(place, os.O_CREAT | os.O_EXCL, 0o666))) as place:  # less the umask
        yield place
        with place.open("rb") as file:
            os.fsync(file.fileno())
        place.replace(target)


@contextmanager
def built(target: Path) -> Iterator[Path]:
    """Give a folder to fill, beside the target; behind the block it takes the place of the target, if there was one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target, Path.mkdir) as place:
        yield place
        if target.exists():
            shutil.rmtree(target)
        place.rename(target)


@contextmanager
def _beside(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
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
    finally:
        with suppress(OSError):  # not in place of the error that is under way
            _remove(place)


def is_unfinished(path: Path) -> bool:
    """Whether something was being written here that has another name once it is whole."""
    return path.name.startswith(".") and MARK in path.name


def _remove_left(place: Path) -> None:
    """Remove a place that no living process holds."""
    with suppress(OSError):  # it is held, or just gone
        if time.time() - place.stat().st_mtime > NEW_S:
            with _opened(place) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(place)


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    descriptor = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if place.is_dir():
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
    with source.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def share(folder: Path) -> None:
    """Give the files of a folder, those in its folders too, the permissions that the user's umask leaves.

    Libraries that write through a temporary file, as safetensors does, leave files that nobody but the user can read.
    """
    mask = os.umask(0o077)  # the system tells the old one only when it is set
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


def stamp(path: Path) -> dict[str, str | int]:
    """Tell a file from its later versions without reading it all: name, size, time, and a hash of its ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(ENDS))
        file.seek(max(size - ENDS, 0))
        digest.update(file.read(ENDS))
    return {"file": path.name, "size": size, "modified": path.stat().st_mtime_ns, "ends": digest.hexdigest()[:16]}


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
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: value by dotted key."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= flattened(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def fingerprint(settings: dict[str, Any]) -> str:
    """Short hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


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
