"""Lines of plain and compressed files are the same lines, and a file that was cut off is never taken for a whole one."""

import gzip
from pathlib import Path

import pytest

from rankdistil.data.files.lines import kind_of, raw_lines

LINES = [
    b"one\n",
    b"\n",
    b"t" * 200_000 + b"\r\n",
    *(b"line %d of many\n" % (n * n) for n in range(20_000)),
    b"last, without an end",
]


def pack(kind: str, content: bytes) -> bytes:
    if kind == ".zst":
        return pytest.importorskip("zstandard").compress(content)
    return gzip.compress(content) if kind == ".gz" else content


@pytest.fixture(params=["", ".gz", ".zst"])
def kind(request) -> str:
    return request.param


def test_lines_come_with_their_ends_however_the_file_is_packed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"some.tsv{kind}"
    path.write_bytes(pack(kind, b"".join(LINES)))
    assert list(raw_lines(path)) == LINES
    assert kind_of(path) == ".tsv"


def test_files_packed_one_behind_the_other_are_one_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"some.tsv{kind}"
    path.write_bytes(pack(kind, b"one\ntwo, ") + pack(kind, b"in two parts\n"))
    assert list(raw_lines(path)) == [b"one\n", b"two, in two parts\n"]


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9999])
def test_a_file_that_was_cut_off_is_named_with_what_to_do(tmp_path: Path, packed: str, share: float) -> None:
    path, whole = tmp_path / f"some.tsv{packed}", pack(packed, b"".join(LINES))
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError) as caught:
        list(raw_lines(path))
    assert str(caught.value).startswith(f"{path} is cut off or damaged (")
    assert str(caught.value).endswith("). Delete it and fetch it again.")


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_file_that_is_not_packed_as_it_is_called_is_named(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"some.tsv{packed}"
    path.write_bytes(b"plain text\n")
    pack(packed, b"")
    with pytest.raises(ValueError, match=r"some\.tsv\.(gz|zst) is cut off or damaged \("):
        list(raw_lines(path))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.TSV", ".tsv"), ("a.JSONL.Gz", ".jsonl"), ("a.ndjson.zst", ".jsonl"), ("a.PARQUET", ".parquet"), ("run.bm25", ".bm25")],
)
def test_the_kind_of_a_file_does_not_depend_on_capitals(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "some.tsv").touch()
    assert list(raw_lines(tmp_path / "some.tsv")) == []
