"""Rows on disk are read by slices."""

import os
import pickle

import numpy as np
import pytest

from rankdistil.data.stores.ragged import StoredRows

NUMBERS = np.arange(21, dtype=np.int32).reshape(7, 3)


@pytest.fixture
def rows(tmp_path) -> StoredRows:
    NUMBERS.tofile(tmp_path / "rows.bin")
    return StoredRows(tmp_path / "rows.bin", 3)


@pytest.mark.parametrize("some", [slice(0, 7), slice(2, 5), slice(5, 9), slice(8, 12), slice(3, 3)], ids=str)
def test_a_slice_is_that_of_an_array(rows, some):
    assert len(rows) == 7
    assert np.array_equal(rows[some], NUMBERS[some])
    assert np.array_equal(pickle.loads(pickle.dumps(rows))[some], NUMBERS[some])


def test_no_rows_are_none(tmp_path):
    (tmp_path / "rows.bin").touch()
    none = StoredRows(tmp_path / "rows.bin", 3)
    assert (len(none), none[0:4].shape) == (0, (0, 3))


def test_the_file_is_closed_when_nobody_reads_it_any_more(rows):
    open_files = len(os.listdir("/proc/self/fd"))
    again = pickle.loads(pickle.dumps(rows))
    assert len(os.listdir("/proc/self/fd")) == open_files + 1
    del again
    assert len(os.listdir("/proc/self/fd")) == open_files
