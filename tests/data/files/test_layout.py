"""Files that nobody names: this project's own names, or those of a BEIR folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import composed

from rankdistil.data.collections.reader import Reader
from rankdistil.data.files.layout import file_name, validation_files
from rankdistil.stages import data as run_data

QUERIES = "".join(
    f'{{"_id": "{key}", "text": "question {key}", "metadata": {{}}}}\n' for key in ("t1", "t2", "v1", "e1", "none")
)
HEADER = "query-id\tcorpus-id\tscore\n"
FILES = {
    "corpus.jsonl": '{"_id": "a", "title": "Bees", "text": "live."}\n{"_id": "b", "title": "", "text": "Cats sleep."}\n',
    "queries.jsonl": QUERIES,
    "qrels/train.tsv": f"{HEADER}t1\ta\t1\nt2\tb\t2\n",
    "qrels/dev.tsv": f"{HEADER}v1\ta\t1\n",
    "qrels/test.tsv": f"{HEADER}e1\tb\t1\n",
}


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def opened(beir: Path) -> Callable[..., Reader]:
    def opened(split: str, *words: str) -> Reader:
        cfg = composed("+experiment=smoke", "data=files", f"data.root={beir}", "data.holdout=1", *words)
        return run_data.open_reader(cfg.data, split)

    return opened


def test_a_beir_folder_is_read_as_it_is(opened, beir) -> None:
    readers = {split: opened(split) for split in ("train", "valid", "test")}
    assert {split: reader.qrels for split, reader in readers.items()} == {
        "train": {"t1": {"a": 1}, "t2": {"b": 2}}, "valid": {"v1": {"a": 1}}, "test": {"e1": {"b": 1}},
    }  # fmt: skip
    assert dict(readers["test"].passages()) == {"a": "Bees live.", "b": "Cats sleep."}
    assert [reader.label for reader in readers.values()] == [
        f"{beir.name}/qrels/{name}.tsv" for name in ("train", "dev", "test")
    ]


def test_queries_of_a_shared_file_are_those_of_the_split_that_its_judgments_name(opened) -> None:
    assert [list(opened(split).queries) for split in ("train", "valid", "test")] == [["t1", "t2"], ["v1"], ["e1"]]
    assert len(opened("train").all_queries) == 5


def test_without_validation_files_or_where_none_are_wanted_training_queries_are_held_out(opened, beir) -> None:
    assert list(opened("valid", "data.valid=null").queries) in (["t1"], ["t2"])
    (beir / "qrels/dev.tsv").unlink()
    assert sorted([*opened("train").queries, *opened("valid").queries]) == ["t1", "t2"]


def test_names_that_are_given_win(opened) -> None:
    reader = opened("test", "data.test.qrels=qrels/dev.tsv", "data.corpus=other.jsonl")
    assert (reader.source.corpus, reader.source.qrels) == ("other.jsonl", "qrels/dev.tsv")


def test_packed_files_of_a_beir_folder_are_found(beir) -> None:
    (beir / "corpus.jsonl").rename(beir / "corpus.jsonl.gz")
    assert file_name(str(beir), "corpus") == "corpus.jsonl.gz"
    assert file_name(str(beir), "qrels", "nowhere") == "qrels/nowhere.tsv"


def test_any_other_folder_has_this_project_s_names(tmp_path) -> None:
    for root in (None, "/no/such", str(tmp_path)):
        assert [file_name(root, kind, "train") for kind in ("corpus", "queries", "qrels")] == [
            "corpus.tsv", "queries.train.tsv", "qrels.train.txt",
        ]  # fmt: skip
        assert validation_files(root) is None
    (tmp_path / "corpus.tsv").touch()
    (tmp_path / "qrels").mkdir()
    assert file_name(str(tmp_path), "corpus") == "corpus.tsv"
