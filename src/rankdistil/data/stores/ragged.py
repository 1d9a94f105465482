"""Ragged store: many sequences of unequal length on disk, written once, gathered with flat memory."""

import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.encode import Segment
from rankdistil.data.files.bad_lines import Tally
from rankdistil.files import built, locked, write_json

FORMAT = 1
HEADER = "header.json"
ITEMS = "items.bin"
WHOLE = "whole.bin"  # of sequences that were cut: how long they were
SAID = {"count": int, "items": int, "dtype": str, "id_bytes": int}  # by the header, of the files
LONG_IDS = "long_ids.json"
WIDEST = 128  # bytes that each id takes at most: the table of ids is as wide as its longest one
MAPPED = 1 << 27  # bytes that are mapped; of a larger file rows are read, as a kernel maps far more than is touched


class RaggedStore:
    """Sequences of numbers, each with an id. Pickles as its folder, so loader processes open it anew.

    Args:
        folder: a finished store.
        header: that it must have: it was open before; None takes any.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged: a file's size isn't what the header says; if it was built anew since it was open.
    """

    def __init__(self, folder: Path, header: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.header = read_header(folder, **SAID)
        if header is not None:
            _require_same(folder, header)
        count, items, dtype = self.header["count"], self.header["items"], np.dtype(self.header["dtype"])
        sizes = {ITEMS: items * dtype.itemsize, "starts.bin": (count + 1) * 8, "order.bin": count * 4}
        if self.header.get("whole"):
            sizes[WHOLE] = count * 4
        for name, size in {**sizes, "ids.bin": count * self.header["id_bytes"]}.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found != size:
                raise ValueError(f"{folder / name}: {found} bytes, expected {size}. {_rebuild(folder)}")
        self._read = _reader(folder / ITEMS)
        self._dtype = dtype
        self._starts = np.asarray(_map(folder / "starts.bin", np.dtype(np.int64)))
        self._ids = np.asarray(_map(folder / "ids.bin", np.dtype(f"S{self.header['id_bytes']}")))
        self._whole = np.asarray(_map(folder / WHOLE, np.dtype(np.uint32))) if WHOLE in sizes else None
        self._order = np.asarray(_map(folder / "order.bin", np.dtype(np.uint32)))
        if header is not None:
            _require_same(folder, header)  # still: the files were opened without the lock

    def __reduce__(self) -> tuple[type, tuple[Path, dict[str, Any]]]:
        return type(self), (self.folder, self.header)

    def __len__(self) -> int:
        return self.header["count"]

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Find rows by id: int64, (N,), -1 for an id that isn't there."""
        wanted = np.array(table_keys(ids), dtype=np.bytes_)
        if not len(self) or not len(wanted):
            return np.full(len(wanted), -1)
        ascending = wanted.argsort()  # those that are near to each other are then sought in the same pages: three times as fast
        place = np.searchsorted(self._ids, wanted[ascending], sorter=self._order).clip(max=len(self) - 1)
        found = np.empty(len(wanted), np.int64)
        found[ascending] = self._order[place]
        return np.where(self._ids[found] == wanted, found, -1)

    def names(self, rows: NDArray[np.integer]) -> tuple[str, ...]:
        """Return the ids of rows, (N,)."""
        found = map(bytes.decode, self._ids[rows].tolist())
        return tuple(self._long.get(key, key) for key in found) if self._long else tuple(found)

    @cached_property
    def _long(self) -> dict[str, str]:
        file = self.folder / LONG_IDS
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def lengths(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the length of each row, the same shape."""
        return self._starts[rows + 1] - self._starts[rows]

    tokens = lengths  # of a token store

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
        whole = None if self._whole is None else self._whole[rows].astype(np.int64)
        return Segment(np.frombuffer(raw, self._dtype), sizes // size, whole)


def table_keys(ids: Sequence[str]) -> list[bytes]:
    """Return what stands in the table for each id: itself in UTF-8, or a hash of a long one, behind a byte that no id holds."""
    keys = [key.encode() for key in ids]
    if max(map(len, keys), default=0) <= WIDEST:
        return keys
    return [key if len(key) <= WIDEST else b"\1" + sha256(key).hexdigest().encode() for key in keys]


def read_header(folder: Path, **said: type) -> dict[str, Any]:
    """Read the header of a store.

    Args:
        folder: of the store.
        **said: what it must say beside what the store is made of, and of which type that is.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of another format.
    """
    path = folder / HEADER
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no store (no {HEADER}).")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{path} is damaged ({error}). {_rebuild(folder)}") from None
    if not isinstance(header, dict) or "format" not in header:
        raise ValueError(f"{path} is damaged (it doesn't say its format). {_rebuild(folder)}")
    if header["format"] != FORMAT:
        raise ValueError(f"{path} has format {header['format']}, expected {FORMAT}. {_rebuild(folder)}")
    for key, kind in {"made_of": dict, **said}.items():
        if not isinstance(header.get(key), kind):
            found = f"{key} is {header[key]!r}" if key in header else f"no {key}"
            raise ValueError(f"{path} is damaged ({found}). {_rebuild(folder)}")
    return header


def _require_same(folder: Path, header: dict[str, Any]) -> None:
    if read_header(folder) != header:
        raise ValueError(f"{folder} was built anew from other data while a run read it. Start that run again.")


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


class StoredRows:
    """Rows of int32 in a file. Pickles as its path, so loader processes open it anew.

    Args:
        path: the file.
        columns: numbers in a row.
        written: when the file was written, in nanoseconds, if it has to be that file still.

    Raises:
        ValueError: if the file is another one.
    """

    def __init__(self, path: Path, columns: int, written: int | None = None) -> None:
        self._path, self._columns, self._width = path, columns, 4 * columns
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        status = os.fstat(self._file)
        self._count, self._written = status.st_size // self._width, status.st_mtime_ns
        if written not in (None, self._written):
            raise ValueError(f"{path} was built anew while a run reads it. Start the run again.")

    def __reduce__(self) -> tuple[type, tuple[Path, int, int]]:
        return type(self), (self._path, self._columns, self._written)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, some: slice) -> NDArray[np.int32]:
        """Read some rows, one behind the other: (N, columns).

        Raises:
            ValueError: if the file has become shorter.
        """
        start, stop, _ = some.indices(self._count)
        raw = os.pread(self._file, (stop - start) * self._width, start * self._width)  # forked processes may share the file
        if len(raw) != (stop - start) * self._width:
            raise ValueError(
                f"{self._path} was cut off while it was read. Remove the folder {self._path.parent} to build it anew."
            )
        return np.frombuffer(raw, np.int32).reshape(-1, self._columns)


SOURCE = "source"  # the part of what a store is made of that names the data: a store follows its data, and refuses all else

Chunks = Iterator[tuple[Sequence[str], Segment]]
"""Ids, and what belongs to them."""

Opened = TypeVar("Opened")


def ensure(
    folder: Path, made_of: dict[str, Any], write: Callable[[Path], dict[str, Any]], opened: Callable[[Path], Opened],
    tally: Tally | None = None,
) -> Opened:  # fmt: skip
    """Open a store, built first where it isn't there or its data have changed. A second process waits for the first.

    Files are opened while no other process can exchange them. What is open lives on when the folder is built anew.

    Args:
        folder: where it is or goes; its parent is what is locked.
        made_of: what decides its content; ``source`` tells the data from others.
        write: writes the files into a folder, and returns what the header should say about them.
        opened: opens all files of the folder.
        tally: of the file that it is built from: the header keeps what it tells, for those who find the store built.

    Returns:
        What ``opened`` returns.

    Raises:
        ValueError: if it was built with other settings.
    """
    with locked(folder.parent, wait=True, choice="data.store"):
        if (folder / HEADER).is_file():
            header = read_header(folder)
            there = header["made_of"]
            differing = [key for key in made_of if key != SOURCE and there.get(key) != made_of[key]]
            if differing:
                rows = "\n  ".join(f"{key}: {there.get(key)} -> {made_of[key]}" for key in differing)
                raise ValueError(
                    f"{folder} was built with other settings (there -> asked for):\n  {rows}\n"
                    "Name another folder (data.store=<folder>), or remove this one to build it anew."
                )
            if there.get(SOURCE) == made_of[SOURCE]:
                if tally is not None:
                    tally.recall(header.get("bad"))
                return opened(folder)
        with built(folder) as place:
            written = write(place)
            bad = tally.told() if tally is not None else None
            write_json(place / HEADER, {"format": FORMAT, "made_of": made_of, "bad": bad} | written)
        return opened(folder)


def write_ragged(folder: Path, chunks: Chunks, dtype: np.dtype) -> dict[str, Any]:
    """Write the files of a ``RaggedStore``; memory holds ids and lengths only.

    Returns:
        What its header says.

    Raises:
        ValueError: if an id occurs twice.
    """
    lengths: list[np.ndarray] = []
    ids: list[np.ndarray] = []
    whole: list[np.ndarray] = []
    long: dict[str, str] = {}
    with (folder / "items.bin").open("wb") as file:
        for keys, segment in chunks:
            file.write(segment.tokens.astype(dtype).tobytes())
            lengths.append(segment.lengths)
            whole += [] if segment.whole is None else [segment.whole]
            known = table_keys(keys)
            long |= {name.decode(): key for name, key in zip(known, keys, strict=True) if name[:1] == b"\1"}
            ids.append(np.array(known, dtype=np.bytes_))
        file.flush()
        os.fsync(file.fileno())
    names = np.concatenate(ids) if ids else np.zeros(0, "S1")
    order = names.argsort(kind="stable")
    same = np.flatnonzero(names[order[1:]] == names[order[:-1]])
    if len(same):
        twice = names[order[same[0]]].decode()
        raise ValueError(f"id {long.get(twice, twice)!r} occurs twice in the collection. Keep one of the two.")
    if long:
        write_json(folder / LONG_IDS, long)
    starts = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
    starts.tofile(folder / "starts.bin")
    names.tofile(folder / "ids.bin")
    if whole:
        np.concatenate(whole).astype(np.uint32).tofile(folder / WHOLE)
    order.astype(np.uint32).tofile(folder / "order.bin")
    said = {"count": len(names), "items": int(starts[-1]), "dtype": dtype.name, "id_bytes": names.dtype.itemsize}
    return said | {"whole": bool(whole)}


def in_chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of up to ``size`` rows."""
    chunk: list[Any] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
