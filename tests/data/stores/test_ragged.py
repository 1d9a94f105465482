"""Sequences and rows on disk: found by id, fetched by row, whether their file is mapped or read."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from rankdistil.data.encode import Segment
from rankdistil.data.stores import ragged
from rankdistil.data.stores.ragged import RaggedStore, StoredRows, ensure, write_ragged
from rankdistil.files import holder

ROWS = [[7, 8, 9], [], [1], [2, 3], [40_000] * 5]
IDS = ["10", "9", "a-long-one", "b", "11"]


def built(folder: Path, chunks: list[tuple[list[str], Segment]], source: int = 1) -> RaggedStore:
    made_of = {"source": source}
    return ensure(folder, made_of, lambda to: write_ragged(to, iter(chunks), np.dtype(np.uint16)), RaggedStore)


@pytest.fixture(params=["mapped", "read"])
def store(request, tmp_path, monkeypatch) -> RaggedStore:
    """The five rows, from a file that is mapped and from one that is too large for it."""
    if request.param == "read":
        monkeypatch.setattr(ragged, "MAPPED", 0)
    chunks = [(IDS[:3], Segment.of(ROWS[:3])), (IDS[3:], Segment.of(ROWS[3:]))]
    return built(tmp_path / "store", chunks)


def fetched(store: RaggedStore, rows: list[int]) -> list[list[int]]:
    return list(store.gather(np.array(rows, dtype=np.int64)).rows()) if rows else []


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 4, 0], [1], [3, 1, 2]])
def test_rows_come_as_they_were_written_in_the_order_asked_for(store, rows):
    assert fetched(store, rows) == [ROWS[row] for row in rows]


def test_no_rows_have_no_tokens(store):
    segment = store.gather(np.zeros(0, np.int64))
    assert (segment.tokens.tolist(), segment.lengths.tolist()) == ([], [])


def test_ids_are_found_in_any_order_and_unknown_ones_have_no_row(store):
    asked = ["11", "nowhere", "9", "10", "1", "b", "a-long-one", "9", ""]
    assert store.rows(asked).tolist() == [4, -1, 1, 0, -1, 3, 2, 1, -1]
    assert store.names(np.array([4, 1, 2])) == ("11", "9", "a-long-one")


def test_a_long_id_is_found_and_named_and_does_not_widen_the_table(tmp_path):
    ids = ["x" * 5000, "short", "x" * 4999, "é" * 65]
    store = built(tmp_path / "long", [(ids[:2], Segment.of(ROWS[:2])), (ids[2:], Segment.of(ROWS[2:4]))])
    assert store.rows([*ids[::-1], "x" * 4998, "short"]).tolist() == [3, 2, 1, 0, -1, 1]
    assert store.names(np.array([0, 3, 2, 1])) == (ids[0], ids[3], ids[2], ids[1])
    assert (tmp_path / "long" / "ids.bin").stat().st_size <= 4 * ragged.WIDEST
    with pytest.raises(ValueError, match=f"^id '{ids[0]}' occurs twice in the collection"):
        built(tmp_path / "twice", [([ids[0]] * 2, Segment.of(ROWS[:2]))])


def test_only_a_file_within_the_bound_is_mapped(store):
    fetched(store, [0, 4])
    mapped = f"{store.folder}/items.bin" in Path("/proc/self/maps").read_text()
    assert mapped == (ragged.MAPPED > 0)


def test_a_store_that_was_pickled_gives_the_same_rows(store):
    assert fetched(pickle.loads(pickle.dumps(store)), [3, 0]) == [[2, 3], [7, 8, 9]]


def test_loader_processes_read_one_file_at_the_same_time(store):
    loader = DataLoader([[row] for row in (0, 2, 3, 4) * 20], num_workers=2, batch_size=None, collate_fn=_Fetch(store))
    assert list(loader) == [[ROWS[row]] for row in (0, 2, 3, 4) * 20]


def test_a_store_built_anew_is_read_by_new_users_only(store):
    pickled = pickle.dumps(store)
    assert fetched(built(store.folder, [(["z"], Segment.of([[5]]))], source=2), [0]) == [[5]]
    assert fetched(store, [3, 0]) == [[2, 3], [7, 8, 9]]  # its files live on while they are open
    with pytest.raises(ValueError, match="built anew") as caught:
        pickle.loads(pickled)
    assert str(caught.value) == (f"{store.folder} was built anew from other data while a run read it. Start that run again.")


def test_a_store_that_is_exchanged_while_a_worker_opens_it_is_refused(store, monkeypatch):
    pickled = pickle.dumps(store)
    real = ragged._map

    def exchanged(path: Path, dtype: np.dtype) -> np.ndarray:
        if path.name == "starts.bin":
            monkeypatch.setattr(ragged, "_map", real)
            built(store.folder, [(IDS, Segment.of(ROWS[::-1]))], source=2)  # files of the same sizes
        return real(path, dtype)

    monkeypatch.setattr(ragged, "_map", exchanged)
    with pytest.raises(ValueError, match="was built anew from other data while a run read it"):
        pickle.loads(pickled)


def test_a_store_is_opened_before_another_process_can_exchange_it(tmp_path):
    held = []

    def opened(folder: Path) -> None:
        held.append(holder(folder.parent))

    for _ in range(2):  # built, then found
        ensure(tmp_path / "stores" / "one", {"source": 1}, lambda folder: {}, opened)
    assert [who and who.split(" since")[0] for who in held] == [f"pid {os.getpid()}"] * 2


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ('{"format": 1}', "no made_of"),
        ('{"format": 1, "made_of": {}, "items": 3, "dtype": "uint16", "id_bytes": 1}', "no count"),
        ('{"format": 1, "made_of": {}, "count": "5"}', "count is '5'"),
        ("[]", "it doesn't say its format"),
        ('{"form', "Unterminated string starting at: line 1 column 2 (char 1)"),
    ],
)
def test_a_damaged_header_is_named_with_what_to_do(store, header, fault):
    (store.folder / "header.json").write_text(header)
    with pytest.raises(ValueError, match="is damaged") as caught:
        RaggedStore(store.folder)
    assert str(caught.value) == (
        f"{store.folder}/header.json is damaged ({fault}). Remove the folder {store.folder} to build it anew."
    )


class _Fetch:
    def __init__(self, store: RaggedStore) -> None:
        self._store = store

    def __call__(self, rows: list[int]) -> list[list[int]]:
        return fetched(self._store, rows)


@pytest.fixture
def read(tmp_path, monkeypatch) -> RaggedStore:
    """Two rows, in a file that is too large to be mapped."""
    monkeypatch.setattr(ragged, "MAPPED", 0)
    chunk = ["a", "b"], Segment.of([[1, 2], [3, 4]])
    return built(tmp_path / "store", [chunk])


def test_a_file_is_closed_with_its_store(read):
    open_files = len(os.listdir("/proc/self/fd"))
    again = RaggedStore(read.folder)
    assert len(os.listdir("/proc/self/fd")) > open_files
    del again
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_file_that_was_cut_off_after_it_was_opened_is_named(read):
    with (read.folder / "items.bin").open("r+b") as file:
        file.truncate(6)
    with pytest.raises(ValueError, match="cut off") as caught:
        read.gather(np.array([0, 1]))
    assert str(caught.value) == (
        f"{read.folder}/items.bin was cut off while it was read. Remove the folder {read.folder} to build it anew."
    )


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
