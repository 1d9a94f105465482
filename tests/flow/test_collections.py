"""Real collections train and test the same through data=files and through data=ir_dataset."""

import json
import shutil
from pathlib import Path

import pytest
from commands import command

from rankdistil.data.files import lines as file_lines

TINY = ["+experiment=finetune_6l", "scale=smoke", "student=2l", "stage.steps=3", "data.holdout=20", "data.valid_queries=5"]
MS_MARCO = {
    "corpus": "corpus.tsv", "train.queries": "queries.train.tsv", "train.qrels": "qrels.train.txt",
    "train.triples": "triples.train.ids.tsv", "train.candidates": "run.bm25.train.txt",
    "test.queries": "queries.dl19.tsv", "test.qrels": "qrels.dl19.full.txt", "test.candidates": "run.bm25.dl19.txt",
}  # fmt: skip
ONE_SET = {
    "corpus": "corpus.jsonl", "train.queries": "queries.tsv", "train.qrels": "qrels.txt", "train.triples": None,
    "test.queries": "queries.tsv", "test.qrels": "qrels.txt",
}  # fmt: skip
COLLECTIONS = {"msmarco-small": MS_MARCO, "cranfield": ONE_SET, "vaswani": ONE_SET, "cacm": ONE_SET}
LAYOUT = {"queries": "queries.tsv", "qrels": "qrels.txt", "triples": "triples.tsv", "candidates": "run.txt"}


def train(*line: str) -> None:
    done = command(*line, *TINY)
    assert done.returncode == 0, done.stderr


def convert(source: Path, files: dict[str, str | None], target: Path) -> None:
    """Write a collection in ir_datasets' layout."""
    target.mkdir()
    rows = file_lines.texts(source / files["corpus"])
    (target / "docs.tsv").write_text("".join(f"{key}\t{' '.join(text.split())}\n" for key, text in rows))
    for kind, file in files.items():
        if "." in kind and file is not None:
            split, _, what = kind.partition(".")
            shutil.copy(source / file, target / f"{split}.{LAYOUT[what]}")


@pytest.mark.parametrize("name", COLLECTIONS)
def test_files_and_a_registered_dataset_give_the_same_numbers(name: str, shared: Path, tmp_path: Path) -> None:
    source, files = shared / "data" / name, COLLECTIONS[name]
    given = [f"data.{key}={'null' if file is None else file}" for key, file in files.items()]
    level = ["data.test_relevance_level=2", "data.allow_unknown=true"] if name == "msmarco-small" else []
    train("train.py", "data=files", f"data.root={source}", *given, *level, f"paths.runs={tmp_path / 'files'}")
    convert(source, files, tmp_path / "layout")
    split = [f"data.{part}=real/{name}/{part}" for part in ("train", "test")]
    launcher = [str(Path(__file__).parent / "registered.py"), f"real/{name}", str(tmp_path / "layout")]
    train(*launcher, "data=ir_dataset", *split, *level, f"paths.runs={tmp_path / 'ids'}")
    one, other = (tmp_path / side / "finetune/2l/seed0" for side in ("files", "ids"))
    for file in ("per_query.jsonl", "test.run"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    left, right = (json.loads((folder / "metrics.json").read_text()) for folder in (one, other))
    assert left["measures"] == right["measures"]
    assert (left["queries"], left["pairs"]) == (right["queries"], right["pairs"])
    losses = [loss_column(folder / "metrics.csv") for folder in (one, other)]
    assert losses[0] == losses[1]
    assert len(losses[0]) >= 1


def loss_column(file: Path) -> list[str]:
    header, *rows = [line.split(",") for line in file.read_text().splitlines()]
    place = header.index("train/loss")
    return [row[place] for row in rows if row[place]]
