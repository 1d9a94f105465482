"""Writing files in one step: a reader sees the old content or the new, never half of it. And telling that one has changed."""

import hashlib
import json
import os
from pathlib import Path

ENDS = 1 << 16  # bytes at either end that tell contents apart


def write_text(path: Path, text: str) -> None:
    """Write beside the target, flush to disk, then rename over it."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON, indented; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
    """Tell a file from all others by what it holds, wherever it lies: the beginning of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
