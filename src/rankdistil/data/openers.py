"""Bytes of plain and compressed files, line by line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from rankdistil.data.extras import require

COMPRESSED = (".gz", ".zst")


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends; ``.gz`` and ``.zst`` are unpacked on the way.

    Raises:
        FileNotFoundError: if the file isn't there.
        ValueError: if a compressed file is cut off or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there. Set its name under data.*, or put the file in place.")
    if path.suffix == ".gz":
        damaged: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
        file = gzip.open(path, "rb")  # noqa: SIM115 - closed below, as the others
    elif path.suffix == ".zst":
        zstandard = require("zstandard", str(path))
        damaged = (zstandard.ZstdError, EOFError)
        file = zstandard.open(path, "rb")
    else:
        damaged, file = (), path.open("rb")
    with file:
        try:
            yield from file
        except damaged as error:
            raise ValueError(f"{path} is cut off or damaged ({error}). Delete it and fetch it again.") from None


def kind_of(path: Path) -> str:
    """Return a file's suffix, that of its content where it is compressed: ``.tsv`` of ``corpus.tsv.gz``."""
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix
