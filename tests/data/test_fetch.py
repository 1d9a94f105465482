"""What ir_datasets has to take from the network: known before, fetched once, refused at once where nothing answers."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ir_datasets
import pytest
from ir_datasets.formats import BaseDocs, TrecQrels, TsvDocs, TsvQueries
from ir_datasets.util import Cache, TarExtractAll
from ir_datasets.util.download import Download, LocalDownload, RequestsDownload

from rankdistil.data import fetch
from rankdistil.data.collections import almanac
from rankdistil.data.fetch import KINDS, Missing

DOCS = b"a\tapples\nb\tbees\n"
QUERIES = b"1\twhat is red\n"
CLOSED = "http://127.0.0.1:9"  # the discard port: nothing listens


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server with the files of a collection, and the paths it was asked for."""
    folder, asked = tmp_path / "published", []
    folder.mkdir()
    (folder / "docs.tsv").write_bytes(DOCS)
    (folder / "queries.tsv").write_bytes(QUERIES)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(f"{self.command} {self.path}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of ir_datasets."""
    monkeypatch.setattr(fetch, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    monkeypatch.setenv("IR_DATASETS_DL_DISABLE_PBAR", "true")
    return tmp_path / "home"


def dataset(home: Path, address: str, md5: str | None = None) -> ir_datasets.Dataset:
    """A collection whose files are published at an address; passages are unpacked into another file."""
    docs = Download([RequestsDownload(f"{address}/docs.tsv")], home / "raw.tsv", hashlib.md5(DOCS).hexdigest(), size_hint=16)
    queries = Download([RequestsDownload(f"{address}/queries.tsv")], home / "queries.tsv", md5)
    return ir_datasets.Dataset(TsvDocs(Cache(docs, home / "docs.tsv")), TsvQueries(queries))


def test_what_is_missing_is_known_without_asking_anyone(home):
    found = fetch.missing(dataset(home, CLOSED), KINDS)
    assert found == [Missing((f"{CLOSED}/docs.tsv",), 16, False), Missing((f"{CLOSED}/queries.tsv",), None, False)]
    assert list(map(str, found)) == [f"{CLOSED}/docs.tsv (0.00 MB)", f"{CLOSED}/queries.tsv"]
    assert fetch.missing(dataset(home, CLOSED), ("queries",)) == found[1:]


def test_files_are_fetched_once_and_read_from_then_on(home, published):
    address, asked = published
    made = dataset(home, address)
    for _ in range(2):
        fetch.fetch({"toy": (made, KINDS)})
    assert fetch.missing(made, KINDS) == []
    assert sorted(line for line in asked if line.startswith("GET")) == ["GET /docs.tsv", "GET /queries.tsv"]
    assert [doc.text for doc in made.docs_iter()] == ["apples", "bees"]


def test_a_download_that_is_there_is_unpacked_without_a_network(home):
    home.mkdir()
    (home / "raw.tsv").write_bytes(DOCS)
    made = dataset(home, CLOSED)
    fetch.fetch({"toy": (made, ("docs",))})
    assert (home / "docs.tsv").read_bytes() == DOCS


@pytest.mark.fault("C13")
def test_without_a_network_one_message_says_what_is_missing_and_how_to_get_it(home):
    with pytest.raises(ConnectionError) as caught:
        fetch.fetch({"toy/train": (dataset(home, CLOSED), KINDS), "toy/test": (dataset(home, CLOSED), ("docs",))})
    assert str(caught.value) == (
        "toy/train, toy/test: 2 files are not on this machine, and can't be fetched (127.0.0.1:9: ConnectionError):\n"
        f"  {CLOSED}/docs.tsv (0.00 MB)\n  {CLOSED}/queries.tsv\n"
        f"They go to {home} (IR_DATASETS_HOME names another folder). Where there is a network, run\n"
        "  python -m rankdistil.data.fetch toy/train toy/test\nand copy that folder here; or read files you have (data=files)."
    )
    assert not home.exists()


@pytest.mark.fault("B14")
def test_a_file_that_is_not_the_one_published_is_refused_and_not_kept(home, published):
    made = dataset(home, published[0], md5="0" * 32)
    with pytest.raises(ValueError, match=r"^toy: a file isn't the one that was published "):
        fetch.fetch({"toy": (made, ("queries",))})
    assert not home.exists()


def test_local_files_and_embedded_collections_need_nothing(tmp_path):
    (tmp_path / "qrels").write_text("1 0 a 1\n")
    local = ir_datasets.Dataset(TrecQrels(LocalDownload(tmp_path / "qrels"), {}))
    assert fetch.missing(local, KINDS) == []
    almanac.register()
    assert fetch.missing(ir_datasets.load(almanac.IDS[0]), KINDS) == []


def test_ms_marco_s_files_are_found(monkeypatch):
    files = fetch.missing(ir_datasets.load("msmarco-passage/train/triples-v2"), ("docs", "queries", "docpairs"))
    names = [file.urls[0].rpartition("/")[2] for file in files]
    assert set(names) <= {"collectionandqueries.tar.gz", "queries.tar.gz", "qidpidtriples.train.full.2.tsv.gz"}  # or on disk


@pytest.mark.fault("B14")
def test_a_download_that_breaks_off_is_told_and_not_kept(home, published, monkeypatch):
    def half(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(QUERIES)))
        handler.end_headers()
        handler.wfile.write(QUERIES[:5])

    monkeypatch.setattr(SimpleHTTPRequestHandler, "do_GET", half)
    with pytest.raises(ConnectionError, match=r"^toy: 1 files are not on this machine, and fetching stopped \("):
        fetch.fetch({"toy": (dataset(home, published[0]), ("queries",))})
    assert not [path for path in home.rglob("*") if path.is_file()]


def archive(kind: str) -> bytes:
    """Pack a file that would land outside of the folder that it is unpacked into."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo({"above": "../outside", "absolute": "/outside", "link": "inside"}[kind])
        member.size = 0 if kind == "link" else 4
        member.type, member.linkname = (tarfile.SYMTYPE, "../../outside") if kind == "link" else (tarfile.REGTYPE, "")
        tar.addfile(member, io.BytesIO(b"evil"))
    return packed.getvalue()


class Folder(BaseDocs):
    """Passages in an archive that is unpacked as a whole."""

    def __init__(self, files: TarExtractAll) -> None:
        self._files = files


Folder.__module__ = "ir_datasets.datasets.toy"  # where such handlers stand


@pytest.mark.parametrize("kind", ["above", "absolute", "link"])
@pytest.mark.fault("G8")
def test_a_member_of_an_archive_that_lies_outside_of_it_is_refused_by_name(home, tmp_path, kind):
    (tmp_path / "packed.tar.gz").write_bytes(archive(kind))
    files = TarExtractAll(Download([LocalDownload(tmp_path / "packed.tar.gz")]), home / "deep/unpacked")
    before = sorted(tmp_path.rglob("*"))
    if kind == "absolute":  # the leading slash goes, as tar itself does it
        files.path()
        assert [path.name for path in (home / "deep").rglob("*")] == ["unpacked", "outside"]
        return
    with pytest.raises(
        ValueError, match=r"^toy: an archive isn't unpacked: '?\S*(outside|inside)'? .+ Nothing of it was kept\.$"
    ):
        fetch.fetch({"toy": (ir_datasets.Dataset(Folder(files)), ("docs",))})
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path not in before] == []
