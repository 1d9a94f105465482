"""The faults that a user's files can have, through the DataModule: each is answered, left out and counted, or does no harm."""

import gzip
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rankdistil.data.batches.datamodule import RankingDataModule
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_collection, open_passages
from rankdistil.data.encode import CHARACTERS, PairEncoder
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.files.folder import FolderSplit
from rankdistil.data.records import Pair
from rankdistil.data.settings import DataSettings
from rankdistil.data.stores.ragged import read_header
from rankdistil.metrics.ranking import means, per_query

SETTINGS = DataSettings(
    batch_size=4, eval_batch_size=32, max_length=27, train_on="docpairs", negatives_depth=10,
    relevance_level=1, depth=10, valid_depth=10, valid_queries=10,
)  # fmt: skip
SKIP = Tolerance(on_bad="skip")
TRIPLES = "1\ta\te\n1\ta\tb\n2\tb\tc\n3\tc\td\n"
COLUMNS = "(query_id<TAB>positive_id<TAB>negative_id)"


@pytest.fixture
def encoder(tokenizer) -> PairEncoder:
    return PairEncoder(tokenizer, SETTINGS.max_length)


@pytest.fixture
def build(encoder):
    """Open a DataModule whose three splits are one folder."""

    def build(split: FolderSplit, tolerance: Tolerance = SKIP, **settings: object) -> RankingDataModule:
        readers = [Reader(split, tolerance=tolerance) for _ in range(3)]
        data = RankingDataModule(*readers, encoder, replace(SETTINGS, **settings), 0)
        data.open()
        return data

    return build


def complaint(opening, *arguments: object, **settings: object) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        opening(*arguments, **settings)
    return str(caught.value)


BAD_LINES = {
    "triples": ("1\ta\n", f"2 columns, expected 3 {COLUMNS}: '1\\ta'"),
    "triples ": ("1\ta\tb\tc\n", f"4 columns, expected 3 {COLUMNS}: '1\\ta\\tb\\tc'"),
    "triples  ": ("1\t\tb\n", "empty positive_id: '1\\t\\tb'"),
    "queries": ("4\n", "1 columns, expected 2 (id<TAB>text): '4'"),
    "queries ": ("1\tanother text\n", "id '1' has another text than in line 1. Keep one of them."),
    "corpus": ("\tno id\n", "empty id: '\\tno id'"),
    "corpus ": ("a\tanother text\n", "id 'a' has another text than in line 1. Keep one of them."),
    "qrels": ("1 0 e\n", "3 columns, expected 4 (query_id 0 passage_id grade): '1 0 e'"),
    "qrels ": ("1 0 e 1.5\n", "grade is '1.5', expected a whole number."),
    "qrels  ": ("1 0 a 1\n", "query 1 judges passage a again, as 1; line 1 says 2. Keep one."),
    "run": ("1 Q0 b 1\n", "4 columns, expected 6 (query_id Q0 passage_id rank score tag): '1 Q0 b 1'"),
    "run ": ("1 Q0 b 1 inf tag\n", "score is 'inf', expected a finite number."),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.fault("B1")
def test_a_bad_line_stops_with_its_file_and_place(collection, build, kind):
    line, expected = BAD_LINES[kind]
    (file,) = collection_file(collection, kind)
    lines = file.read_text().count("\n")
    file.write_text(file.read_text() + line)
    assert complaint(build, split_of(file), Tolerance()) == f"{file}:{lines + 1}: {expected}"


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.fault("B1")
def test_one_bad_line_of_any_file_may_be_left_out_and_the_rest_is_the_same(collection, build, kind):
    line, expected = BAD_LINES[kind]
    (file,) = collection_file(collection, kind)
    clean = build(split_of(file))
    lines = file.read_text().count("\n")
    file.write_text(file.read_text() + line)
    data = build(split_of(file))
    first = f"{file}:{lines + 1}: {expected}"
    assert data.account()["bad_lines"] == {str(file): {"lines": lines + 1, "bad": 1, "first": first}}
    assert data.task("test") == clean.task("test")
    assert [batch.passage_ids for batch in data.first_batches(3)] == [batch.passage_ids for batch in clean.first_batches(3)]


def collection_file(collection, kind: str):
    """Write the collection; return the path of one of its files."""
    split = collection()
    return [path for path in split.files.values() if path.name.startswith(f"{kind.strip()}.")]


def split_of(file) -> FolderSplit:
    return FolderSplit(str(file.parent), "corpus.tsv", "queries.tsv", "qrels.txt", "triples.tsv", "run.txt")


@pytest.mark.parametrize(("bad", "stops"), [(3, False), (4, True)])
@pytest.mark.fault("B1")
def test_a_thousandth_of_a_file_rounded_up_may_be_left_out(collection, build, tmp_path, bad, stops):
    split = collection(triples="1\ta\te\n" * (2001 - bad) + "1\ta\n" * bad)
    if stops:
        assert complaint(build, split) == (
            f"{tmp_path}/triples.tsv: 4 of 2001 lines are bad; data.on_bad=skip leaves out at most 3 (0.1 %, at least 1). "
            f"The first: {tmp_path}/triples.tsv:1998: 2 columns, expected 3 {COLUMNS}: '1\\ta'"
        )
    else:
        assert build(split).account()["bad_lines"][f"{tmp_path}/triples.tsv"]["bad"] == 3


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.fault("B3")
def test_a_batch_is_never_shorter_for_a_triple_left_out(collection, build, tmp_path, store):
    settings = {"store": str(tmp_path / "store")} if store else {}
    data = build(collection(triples=f"{TRIPLES}1\ta\tzz\n"), **settings)
    (batch,) = data.first_batches(1)
    found = sorted(zip(batch.query_ids[::2], batch.passage_ids[::2], batch.passage_ids[1::2], strict=True))
    assert found == [("1", "a", "b"), ("1", "a", "e"), ("2", "b", "c"), ("3", "c", "d")]


@pytest.mark.parametrize("tolerance", [Tolerance(), SKIP], ids=["stop", "skip"])
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"caf\xe9", "byte 6 is not UTF-8. Convert the file to UTF-8."),
        (b"one\0two", "byte 6 is zero. The file is damaged, or not text in UTF-8."),
    ],
)
@pytest.mark.fault("B2")
def test_bytes_that_are_no_text_always_stop(collection, build, tmp_path, tolerance, raw, expected):
    split = collection()
    with (tmp_path / "corpus.tsv").open("ab") as file:
        file.write(b"f\t" + raw + b"\n")
    assert complaint(build, split, tolerance) == f"{tmp_path}/corpus.tsv:6: {expected}"


@pytest.mark.fault("B2")
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(collection, build, tmp_path):
    clean = build(collection())
    for path in collection().files.values():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    data = build(split_of(tmp_path / "corpus.tsv"), Tolerance())
    assert data.task("test") == clean.task("test")
    assert data.first_batches(1)[0].input_ids.tolist() == clean.first_batches(1)[0].input_ids.tolist()


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.fault("B4")
def test_a_repeated_passage_is_trained_on_once_and_one_with_another_text_is_a_bad_line(
    collection, build, encoder, tmp_path, store
):
    folder = tmp_path / "store" if store else None
    settings = {"store": folder and str(folder)}
    longer = "word " * 20  # the difference lies behind
    rows = f"a\t{longer}\nb\ttwo\na\t{longer}\nc\tthree\nd\tfour\ne\tfive\n"
    reader = Reader(collection(corpus=rows), store=folder)
    assert [key for key, _ in reader.passages()] == list("abcde")
    assert reader.bad.account() == {}
    build(collection(corpus=rows), Tolerance(), **settings)
    split = collection(corpus=rows.replace(f"{longer}\nc", f"{longer}else\nc"))
    message = f"{tmp_path}/corpus.tsv:3: id 'a' has another text than in line 1. Keep one of them."
    assert complaint(build, split, Tolerance(), **settings) == message
    data = build(split, SKIP, **settings)
    assert data.account()["bad_lines"] == {f"{tmp_path}/corpus.tsv": {"lines": 6, "bad": 1, "first": message}}
    left = Reader(split, tolerance=SKIP, store=folder)
    assert [left.texts(["a"])["a"], *(key for key, _ in left.passages())] == [longer, *"abcde"]
    if store:
        assert len(open_passages(left, encoder, folder)) == 5
        assert complaint(build, split, Tolerance(), **settings) == message  # though the stores are built


def test_bm25_of_a_store_ranks_a_repeated_passage_once(collection, tmp_path):
    corpus = "a\tapple pie\nb\tbees\na\tapple pie\nc\tcats\nd\tdogs\n"
    reader = Reader(replace(collection(corpus=corpus), candidates=None), store=tmp_path / "store")
    assert [hit.passage_id for hit in reader.candidates(10)["1"]] == ["a"]


EMPTY = {
    "corpus": "a\t\nb\t   \nc\tCats sleep.\nd\tDogs.\ne\tPears.\n",
    "queries": "1\t\n2\t  \n3\thow long do cats sleep\n",
    "triples": "1\ta\te\n1\ta\tc\n2\tb\tc\n3\tc\td\n",  # none whose passages are both empty
}


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.fault("B5")
def test_empty_texts_are_kept_and_encoded_as_no_token(collection, build, encoder, tmp_path, store):
    data = build(collection(**EMPTY), store=str(tmp_path / "store") if store else None)
    (batch,) = data.first_batches(1)
    assert len(batch.passage_ids) == 8
    cls, sep = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
    rows = {pair: row for row, pair in enumerate(zip(batch.query_ids, batch.passage_ids, strict=True))}
    row = rows["1", "a"]
    assert batch.input_ids[row, batch.attention_mask[row] == 1].tolist() == [cls, sep, sep]
    if store:
        (header,) = (read_header(path) for path in (tmp_path / "store").glob("*-passages"))
        assert (header["empty"], header["cut"]) == (2, 0)


def test_empty_texts_are_neither_found_by_bm25_nor_a_fault_of_it(collection):
    found = Reader(replace(collection(**EMPTY), candidates=None)).candidates(10)
    assert {query: [hit.passage_id for hit in row] for query, row in found.items()} == {"1": [], "2": [], "3": ["c"]}


class Listening:
    """A tokenizer that keeps the lengths of the texts that it is given."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer, self.lengths = tokenizer, []
        self.backend_tokenizer = self

    def encode_batch_fast(self, texts, **settings):
        self.lengths += map(len, texts)
        return self._tokenizer.backend_tokenizer.encode_batch_fast(texts, **settings)

    def __getattr__(self, name):
        return getattr(
            self._tokenizer if name.endswith(("_id", "_ids", "_side", "_names")) else self._tokenizer.backend_tokenizer, name
        )


@pytest.mark.fault("B6")
def test_a_passage_of_five_megabytes_reaches_the_tokenizer_cut(tokenizer):
    listening = Listening(tokenizer)
    encoder = PairEncoder(listening, SETTINGS.max_length)
    (row,) = encoder.segment(["word " * 1_000_000]).rows()
    assert max(listening.lengths) == CHARACTERS * (encoder.room + 1)
    assert row == tokenizer(" ".join(["word"] * encoder.room), add_special_tokens=False)["input_ids"]


@pytest.mark.fault("B6")
def test_characters_are_cut_where_no_token_is_lost(tokenizer):
    encoder = PairEncoder(tokenizer, SETTINGS.max_length)
    text = " ".join(["x" * (CHARACTERS - 1)] * 40)  # one token each at the most characters that a token can have
    (row,) = encoder.segment([text]).rows()
    assert row == tokenizer(text, add_special_tokens=False, truncation=True, max_length=encoder.room)["input_ids"]


@pytest.mark.fault("B7")
def test_a_query_that_is_too_long_leaves_half_the_room_to_the_passage(encoder):
    batch = encoder.batch([Pair("1", "a", "tree " * 900, "grow " * 900)])
    tokens = encoder.tokenizer.convert_ids_to_tokens(batch.input_ids[0].tolist())
    assert tokens == ["[CLS]", *["tree"] * 12, "[SEP]", *["grow"] * 12, "[SEP]"]


def test_allowed_unknown_passages_count_for_the_ideal_ranking(collection, build):
    split = collection(qrels="1 0 a 1\n1 0 elsewhere 1\n")
    task = build(split, Tolerance(allow_unknown=True)).task("test")
    value = means(per_query(task.candidates, task.qrels))["nDCG@10"]
    assert value == pytest.approx(1 / (1 + 1 / np.log2(3)))  # the relevant passage is first, the other one can't be ranked


def test_unknown_judgments_are_refused_where_they_are_tested_on(collection, build):
    message = complaint(build, collection(qrels="1 0 a 1\n1 0 elsewhere 1\n"), Tolerance())
    assert "qrels.txt: 1 judgments name passages that are not in corpus.tsv (line 2: elsewhere)." in message


@pytest.mark.fault("B9")
def test_a_judged_query_without_candidates_counts_as_zero_and_coverage_is_told(collection, build):
    data = build(collection(run="2 Q0 b 1 2.0 tag\n"), train_on="docpairs")
    task = data.task("test")
    assert means(per_query(task.candidates, task.qrels))["RR@10"] == pytest.approx(1 / 3)
    assert data.account()["test_queries"] == {"judged": 3, "with_candidates": 1}


@pytest.mark.fault("B9")
def test_training_queries_that_no_group_can_be_made_of_are_counted(collection, build):
    data = build(collection(qrels="1 0 a 2\n2 0 b 0\n"), train_on="sampled")
    assert data.account()["training_queries"] == {"left_out": 2, "groups": 1}  # 2 has no positive, 3 no judgment


@pytest.mark.parametrize("as_old", [False, True], ids=["later", "with the time of the old one"])
@pytest.mark.fault("B13")
def test_every_store_of_an_edited_file_is_built_anew(collection, encoder, tmp_path, as_old):
    split = collection()

    def read() -> tuple[dict[str, str], int]:
        reader = Reader(split, store=tmp_path / "store")
        texts = open_collection(reader, encoder, tmp_path / "store")
        return reader.texts(["a"]), int(texts.passages.lengths(texts.passages.rows(["a"]))[0])

    assert read() == ({"a": "Apples grow on trees."}, 5)
    path = tmp_path / "corpus.tsv"
    told = path.stat()
    path.write_text(path.read_text().replace("Apples grow on trees.", "Apples fall off trees"))  # as many bytes
    if as_old:
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert read() == ({"a": "Apples fall off trees"}, 4)


def test_other_columns_of_the_same_file_are_other_texts(collection, encoder, tmp_path):
    lengths = []
    split = collection(corpus="".join(f"{key}\tone\tone two\n" for key in "abcde"))
    for column in (2, 3):
        reader = Reader(replace(split, columns={"corpus": {"id": 1, "text": column}}))
        passages = open_collection(reader, encoder, tmp_path / "store").passages
        lengths.append(int(passages.lengths(passages.rows(["a"]))[0]))
    assert lengths == [1, 2]


@pytest.mark.parametrize("packed", ["gz", "zst"])
@pytest.mark.fault("B14")
def test_a_file_that_was_cut_off_is_named_and_no_store_is_left(collection, encoder, tmp_path, packed):
    rows = b"".join(b"p%d\tSome text that takes its place, number %d.\n" % (n, n * n) for n in range(3000))
    compress = gzip.compress if packed == "gz" else pytest.importorskip("zstandard").compress
    whole = compress(rows)
    path = tmp_path / f"corpus.tsv.{packed}"
    path.write_bytes(whole[: len(whole) // 2])
    reader = Reader(replace(collection(), corpus=path.name), store=tmp_path / "store")
    message = complaint(open_collection, reader, encoder, tmp_path / "store")
    assert re.fullmatch(rf"{path} is cut off or damaged \(.*\)\. Delete it and fetch it again\.", message)
    assert complaint(reader.texts, ["p1"]) == message
    assert not [name for name in (tmp_path / "store").rglob("*") if "passages" in name.name]


BUILDER = """
import pathlib, sys
from rankdistil.data.stores.ragged import ensure
folder = pathlib.Path(sys.argv[1])

def write(building):
    print("builds", flush=True)
    sys.stdin.readline()
    (building / "items.bin").write_text("all of it")
    return {"count": 1}

print("asks", flush=True)
print(ensure(folder, {"source": {"file": "corpus.tsv"}}, write, lambda built: (built / "items.bin").read_text()), flush=True)
"""


@pytest.mark.fault("B14")
def test_of_two_processes_one_builds_a_store_and_the_other_waits_for_it(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    line = [sys.executable, "-c", BUILDER, str(tmp_path / "stores/one")]
    with subprocess.Popen(line, **pipes) as first, subprocess.Popen(line, **pipes) as second:
        assert [first.stdout.readline(), second.stdout.readline()] == ["asks\n", "asks\n"]
        for process in (first, second):
            process.stdin.write("\n")
            process.stdin.flush()
        said = [line for process in (first, second) for line in process.stdout.read().splitlines()]
    assert sorted(said) == ["all of it", "all of it", "builds"]
    assert sorted(path.name for path in (tmp_path / "stores").iterdir()) == [".lock", "one"]


@pytest.mark.parametrize("file", ["items.bin", "starts.bin", "ids.bin", "order.bin"])
def test_a_store_that_lost_bytes_is_refused_with_sizes_and_what_to_do(collection, encoder, tmp_path, file):
    open_collection(Reader(collection()), encoder, tmp_path / "store")
    (folder,) = (tmp_path / "store").glob("*-passages")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    assert complaint(open_collection, Reader(split_of(tmp_path / "corpus.tsv")), encoder, tmp_path / "store") == (
        f"{folder / file}: {len(content) // 2} bytes, expected {len(content)}. Remove the folder {folder} to build it anew."
    )


def test_triples_that_lost_their_last_row_are_refused(collection, build, tmp_path):
    build(collection(), store=str(tmp_path / "store"))
    (folder,) = (tmp_path / "store").glob("*-triples")
    content = (folder / "rows.bin").read_bytes()
    (folder / "rows.bin").write_bytes(content[:-12])
    assert complaint(build, split_of(tmp_path / "corpus.tsv"), store=str(tmp_path / "store")) == (
        f"{folder / 'rows.bin'}: 36 bytes, expected 48. Remove the folder {folder} to build it anew."
    )


def test_a_store_of_another_length_is_refused_with_the_difference(collection, tokenizer, tmp_path):
    reader = Reader(collection())
    open_collection(reader, PairEncoder(tokenizer, 27), tmp_path / "store")
    message = complaint(open_collection, reader, PairEncoder(tokenizer, 28), tmp_path / "store")
    assert "was built with other settings (there -> asked for):\n  tokens: 24 -> 25\nName another folder" in message
