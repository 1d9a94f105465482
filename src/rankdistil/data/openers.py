"""Bytes of plain and compressed files, line by line."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rankdistil.data.extras import require

CHUNK = 1 << 16
COMPRESSED = (".gz", ".zst")
SAME = {".ndjson": ".jsonl", ".jsonlines": ".jsonl", ".json": ".jsonl", ".pq": ".parquet"}  # other endings of one kind


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends; ``.gz`` and ``.zst`` are unpacked on the way.

    Raises:
        FileNotFoundError: if the file isn't there.
        ValueError: if a compressed file is cut off or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there. Set its name under data.*, or put the file in place.")
    damaged: tuple[type[Exception], ...] = (EOFError,)
    packed = path.suffix.lower()
    if packed == ".gz":
        damaged += (zlib.error, gzip.BadGzipFile)
        rows = _unpacked_lines(path, gzip.open)
    elif packed == ".zst":
        zstandard = require("zstandard", str(path))
        damaged += (zstandard.ZstdError,)
        rows = _zstandard_lines(path, zstandard.ZstdDecompressor())
    else:
        rows = _unpacked_lines(path, open)
    try:
        yield from rows
    except damaged as error:
        raise ValueError(f"{path} is cut off or damaged ({error}). Delete it and fetch it again.") from None


def _unpacked_lines(path: Path, opener: Callable[[Path, str], IO[bytes]]) -> Iterator[bytes]:
    with opener(path, "rb") as file:
        yield from file


def _zstandard_lines(path: Path, decompressor: Any) -> Iterator[bytes]:
    """Unpack frame by frame: the package's own reader takes a frame that was cut off for a whole one."""
    frame, rest = None, b""
    with path.open("rb") as file:
        while packed := file.read(CHUNK):
            while packed:
                frame = frame or decompressor.decompressobj()
                *lines, rest = (rest + frame.decompress(packed)).split(b"\n")
                yield from (line + b"\n" for line in lines)
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the last frame has no end")
    if rest:
        yield rest


def kind_of(path: Path) -> str:
    """Return the kind of a file, that of its content where it is compressed: ``.tsv`` of ``corpus.tsv.gz``.

    Capitals don't count; ``.ndjson``, ``.jsonlines`` and ``.json`` are ``.jsonl``, ``.pq`` is ``.parquet``.
    """
    suffix = (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).suffix.lower()
    return SAME.get(suffix, suffix)
