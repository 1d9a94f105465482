"""What stores are called, and what they are told from: no two sources share one, and no old content is taken for the new."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ir_datasets
import pytest
from ir_datasets.formats import GenericDoc, GenericDocPair, GenericQrel, GenericQuery, GenericScoredDoc

from rankdistil.data.collections.origin import with_ids
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import numbered, open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import BadLines
from rankdistil.data.teacher_scores.folder import texts_scored
from tests.data.conftest import FILES
from tests.flow.registered import register


@pytest.fixture
def registered(tmp_path: Path):
    """A collection of a user's own, registered with ir_datasets; and its folder."""
    for name, text in (("docs.tsv", FILES["corpus.tsv"]), ("train.queries.tsv", FILES["queries.tsv"])):
        (tmp_path / name).write_text(text)
    name = f"mine-{tmp_path.name}"
    register(name, tmp_path)
    yield f"{name}/train", tmp_path
    for known in (name, f"{name}/train", f"{name}/test"):
        ir_datasets.registry._registered.pop(known)


def test_files_of_one_name_in_folders_of_one_name_have_stores_of_their_own(collection, tmp_path, tokenizer):
    store, found = tmp_path / "store", {}
    for parent, text in (("one", "Apples."), ("two", "Pears.")):
        folder = tmp_path / parent / "msmarco"
        folder.mkdir(parents=True)
        for name, content in FILES.items():
            (folder / name).write_text(f"a\t{text}\n" if name == "corpus.tsv" else content)
        reader = Reader(replace(collection(), root=str(folder)), store=store)
        open_collection(reader, PairEncoder(tokenizer, 27), store)
        found[parent] = reader
    assert [reader.texts(["a"])["a"] for reader in found.values()] == ["Apples.", "Pears."]
    assert len(list(store.glob("msmarco-corpus.tsv-*-passages"))) == len(list(store.glob("msmarco-queries.tsv-*-queries"))) == 2


def test_other_columns_have_a_store_of_their_own_and_an_edit_has_not(collection, tmp_path):
    corpus = "".join(f"{key}\tone\ttwo\n" for key in "abcde")
    split = collection(corpus=corpus)
    readers = [
        Reader(replace(split, columns={"corpus": {"id": 1, "text": column}}), store=tmp_path / "store") for column in (2, 3)
    ]
    assert [reader.texts(["a"]) for reader in readers] == [{"a": "one"}, {"a": "two"}]
    before, other = (reader.origin("passages") for reader in readers)
    (tmp_path / "corpus.tsv").write_text(corpus.replace("one", "uno"))
    after = readers[0].origin("passages")
    folders = [origin.folder(tmp_path, "texts") for origin in (before, after, other)]
    assert folders[0] == folders[1] != folders[2]
    assert after.source != before.source


def test_a_link_to_a_folder_finds_the_stores_of_the_folder(collection, tmp_path):
    split = collection()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    origins = [Reader(replace(split, root=root)).origin("passages") for root in (split.root, f"{split.root}/link")]
    assert origins[0][:3] == origins[1][:3]


@pytest.mark.fault("B13")
def test_a_registered_file_that_changed_is_read_again(registered):
    name, folder = registered
    assert Reader(name, store=folder / "store").texts(["a"]) == {"a": "Apples grow on trees."}
    scored = texts_scored(Reader(name))
    text = (folder / "docs.tsv").read_text()
    (folder / "docs.tsv").write_text(text.replace("Apples grow on trees.", "Apples fall off trees"))  # as many bytes
    assert Reader(name, store=folder / "store").texts(["a"]) == {"a": "Apples fall off trees"}
    now = texts_scored(Reader(name))
    assert (now["queries"] == scored["queries"], now["passages"] == scored["passages"]) == (True, False)


def test_the_embedded_collection_is_told_by_its_files():
    reader = Reader("rankdistil/almanac/train")
    files = {kind: [path.name for path in reader.origin(kind).files] for kind in ("queries", "passages", "docpairs")}
    train = ["passages.tsv", "queries.train.tsv"]
    assert files == {"queries": train[1:], "passages": train, "docpairs": [train[0], "qrels.train.txt", train[1]]}
    assert [row["file"] for row in reader.origin("passages").source["files"]] == train


def test_a_published_dataset_is_told_by_its_count_and_nothing_is_fetched():
    reader = Reader("msmarco-passage/train")
    assert reader.origin("passages").source == {
        "dataset": "msmarco-passage", "ir_datasets": ir_datasets.__version__, "count": 8841823,
    }  # fmt: skip
    assert texts_scored(reader) == {"queries": "msmarco-passage/train", "passages": "msmarco-passage"}


BAD = {
    "docs": GenericDoc("a b", "text"),
    "queries": GenericQuery("1\xa0", "text"),
    "qrels": GenericQrel("1", "\ufeffa", 1),
    "scoreddocs": GenericScoredDoc("1\u2028", "a", 1.0),
    "docpairs": GenericDocPair("1", "a", "b\u3000"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_record_is_refused_by_its_number_or_left_out(kind: str) -> None:
    good = type(BAD[kind])(*(value.split()[0].strip("\ufeff") if isinstance(value, str) else value for value in BAD[kind]))
    with pytest.raises(ValueError, match=rf"^beir/x {kind}:2: \w+_id\w* is .*, with U\+.* in it: an id has neither white"):
        list(with_ids([good, BAD[kind]], kind, BadLines().of(f"beir/x {kind}")))
    left = BadLines("skip").of("beir/x")
    assert list(with_ids([good, BAD[kind], good], kind, left)) == [(1, good), (3, good)]
    assert left.told()["bad"] == 1


def test_a_reader_looks_at_each_kind_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {f"{kind}_iter": lambda kind=kind: iter([BAD[kind]]) for kind in BAD}
    parts = {f"has_{kind}": lambda: True for kind in BAD} | {f"{kind}_handler": lambda: SimpleNamespace(**rows) for kind in BAD}
    reader = Reader("beir/x")
    monkeypatch.setitem(vars(reader), "dataset", SimpleNamespace(**rows, **parts))
    reads = {
        "docs": reader.passages,
        "queries": lambda: reader.all_queries,
        "docpairs": lambda: numbered(reader, "docpairs")[1],
    }
    for kind, read in reads.items():
        with pytest.raises(ValueError, match=f"^beir/x {kind}:1: "):
            list(read())
    monkeypatch.setitem(vars(reader), "queries", {"1": "text"})
    with pytest.raises(ValueError, match=r"^beir/x qrels:1: "):
        _ = reader.qrels
    with pytest.raises(ValueError, match=r"^beir/x scoreddocs:1: "):
        reader.candidates(10)


@pytest.mark.parametrize("inside", ["", "vaswani"])
@pytest.mark.fault("G10")
def test_texts_that_somebody_else_could_exchange_for_code_are_not_read(tmp_path: Path, monkeypatch, inside: str) -> None:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / inside
    place.mkdir(parents=True)
    Reader("vaswani").check()
    place.chmod(0o777)
    with pytest.raises(ValueError) as caught:
        Reader("vaswani").check()
    assert str(caught.value) == (
        f"{place} can be written into by every user, and ir_datasets keeps texts there as pickles, which run any code that is "
        f"put into them. Run chmod -R o-w {tmp_path}/home, or let IR_DATASETS_HOME name a folder of yours: a copy of this one, "
        "if you trust it."
    )
    Reader("rankdistil/almanac/train").check()  # which has none there
    place.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(place, 1234, -1)
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    Reader("vaswani").check()  # IR_DATASETS_HOME names it
    monkeypatch.delenv("IR_DATASETS_HOME")
    monkeypatch.setattr(ir_datasets.util, "home_path", lambda: tmp_path / "home")
    with pytest.raises(ValueError, match="belongs to another user") as caught:
        Reader("vaswani").check()
    assert f"Set IR_DATASETS_HOME={tmp_path}/home if you trust who can write there" in str(caught.value)
