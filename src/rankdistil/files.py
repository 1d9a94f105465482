"""Writing files in one step: a reader sees the old content or the new, never half of it."""

import json
import os
from pathlib import Path


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
