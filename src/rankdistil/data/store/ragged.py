"""Many sequences of unequal length on disk: written once, gathered for ever after with flat memory."""

import json
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment

FORMAT = 1
HEADER = "header.json"
ITEMS = "items.bin"
MAPPED = 1 << 27  # bytes that are mapped; of a larger file rows are read, as a kernel maps far more than is touched


class RaggedStore:
    """Sequences of numbers, each with an id. Pickles as its folder, so loader processes open it anew.

    Args:
        folder: a finished store.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged: a file's size isn't what the header says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = read_header(folder)
        count, items, dtype = self.header["count"], self.header["items"], np.dtype(self.header["dtype"])
        sizes = {ITEMS: items * dtype.itemsize, "starts.bin": (count + 1) * 8, "order.bin": count * 4}
        for name, size in {**sizes, "ids.bin": count * self.header["id_bytes"]}.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found != size:
                raise ValueError(f"{folder / name}: {found} bytes, expected {size}. {_rebuild(folder)}")
        self._read = _reader(folder / ITEMS)
        self._dtype = dtype
        self._starts = np.asarray(_map(folder / "starts.bin", np.dtype(np.int64)))
        self._ids = np.asarray(_map(folder / "ids.bin", np.dtype(f"S{self.header['id_bytes']}")))
        self._order = np.asarray(_map(folder / "order.bin", np.dtype(np.uint32)))

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return self.header["count"]

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Find rows by id: int64, (N,), -1 for an id that isn't there."""
        wanted = np.array([key.encode() for key in ids], dtype=np.bytes_)
        if not len(self) or not len(wanted):
            return np.full(len(wanted), -1)
        ascending = wanted.argsort()  # those that are near to each other are then sought in the same pages: three times as fast
        place = np.searchsorted(self._ids, wanted[ascending], sorter=self._order).clip(max=len(self) - 1)
        found = np.empty(len(wanted), np.int64)
        found[ascending] = self._order[place]
        return np.where(self._ids[found] == wanted, found, -1)

    def names(self, rows: NDArray[np.integer]) -> tuple[str, ...]:
        """Return the ids of rows, (N,)."""
        return tuple(map(bytes.decode, self._ids[rows].tolist()))

    def lengths(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the length of each row, the same shape."""
        return self._starts[rows + 1] - self._starts[rows]

    def gather(self, rows: NDArray[np.integer]) -> Segment:
        """Fetch rows, (N,).

        Raises:
            ValueError: if the file has become shorter.
        """
        size = self._dtype.itemsize
        starts, ends = self._starts[rows] * size, self._starts[rows + 1] * size
        raw, sizes = b"".join(self._read(starts, ends)), ends - starts
        if len(raw) != sizes.sum():
            raise ValueError(f"{self.folder / ITEMS} was cut off while it was read. {_rebuild(self.folder)}")
        return Segment(np.frombuffer(raw, self._dtype), sizes // size)


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header of a store.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of another format.
    """
    path = folder / HEADER
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no store (no {HEADER}).")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        found = header["format"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}). {_rebuild(folder)}") from None
    if found != FORMAT:
        raise ValueError(f"{path} has format {found}, expected {FORMAT}. {_rebuild(folder)}")
    return header


def _reader(path: Path) -> Callable[[NDArray[np.int64], NDArray[np.int64]], Iterable[bytes | memoryview]]:
    """Return what reads the bytes of a file from each start to its end."""
    if path.stat().st_size > MAPPED:
        return _Reads(path)
    mapped = memoryview(_map(path, np.dtype(np.uint8)))
    return lambda starts, ends: [mapped[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


class _Reads:
    """Reads a file without moving its position: forked processes may share it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __call__(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterable[bytes]:
        return map(os.pread, repeat(self._file), (ends - starts).tolist(), starts.tolist())


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)  # an empty file can't be mapped


def _rebuild(folder: Path) -> str:
    return f"Remove the folder {folder} to build it anew."
