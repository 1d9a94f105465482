"""Building a store: in one pass over the data, and in one step for whoever looks at it."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rankdistil.data.assemble import Segment
from rankdistil.data.badlines import Tally
from rankdistil.data.store.ragged import FORMAT, HEADER, LONG_IDS, WHOLE, read_header, table_keys
from rankdistil.files import write_json
from rankdistil.locks import locked

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
        building = folder.with_name(f".{folder.name}.building")
        shutil.rmtree(building, ignore_errors=True)  # of a process that was killed: the lock says that none is at work
        building.mkdir()
        try:
            written = write(building)
            bad = tally.told() if tally is not None else None
            write_json(building / HEADER, {"format": FORMAT, "made_of": made_of, "bad": bad} | written)
            shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
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
