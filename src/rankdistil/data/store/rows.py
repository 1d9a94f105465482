"""Rows of numbers on disk: read a slice at a time, so that memory holds none of them."""

import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


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
