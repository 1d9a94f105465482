"""A teacher's scores are written once, and train students without the teacher."""

import json
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import command

from rankdistil.data.teacher_scores.folder import read_header
from tests.data.conftest import FILES

FOLDER = {"queries": "queries.tsv", "qrels": "qrels.txt", "triples": "triples.tsv", "candidates": "run.txt"}

SMOKE = [  # a live teacher in bfloat16 would give other logits than its scores, which are in float32
    "scale=smoke", "trainer.precision=32-true", "student=2l",
    "data=files", "data.corpus=corpus.tsv", "data.holdout=1", "data.valid_queries=1",
    *(f"data.{split}.{kind}={file}" for split in ("train", "test") for kind, file in FOLDER.items()),
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five passages, three questions and their triples."""
    folder = tmp_path_factory.mktemp("collection")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def train(root: Path):
    """Run train.py on the collection."""

    def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command("train.py", *SMOKE, f"data.root={root}", *arguments, f"paths.runs={folder}", cwd=folder.parent)

    return train


@pytest.fixture(scope="module")
def runs(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs after the teacher was trained and its scores were written."""
    folder = tmp_path_factory.mktemp("scored") / "runs"
    done = train(folder, "+experiment=score_teacher")
    assert done.returncode == 0, done.stderr
    told = f"Train from them: teacher.scores={folder / 'score_teacher/minilm/seed0/scores'}"
    assert told in done.stdout
    assert "teacher minilm: scoring " in done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def scores(runs: Path) -> Path:
    return runs / "score_teacher/minilm/seed0/scores"


def test_every_pair_that_training_may_ask_for_is_scored_once(scores: Path) -> None:
    header = read_header(scores)
    pairs = [
        (row["query_id"], row["passage_id"]) for name in header["shards"] for row in pq.read_table(scores / name).to_pylist()
    ]
    assert len(pairs) == len(set(pairs)) == sum(header["shards"].values())
    record = json.loads((scores.parent / "run.json").read_text())
    assert (record["status"], record["pairs"]) == ("finished", len(pairs))


def test_a_second_call_scores_nothing_and_a_lost_shard_is_scored_again_alike(
    train, runs: Path, scores: Path, tmp_path: Path
) -> None:
    assert "nothing to do" in train(runs, "+experiment=score_teacher").stdout
    again = tmp_path / "runs"
    shutil.copytree(runs, again)
    lost = again / "score_teacher/minilm/seed0"
    before = pq.read_table(lost / "scores/part-00000.parquet")
    (lost / "scores/part-00000.parquet").unlink()
    (lost / "scores/scores.json").unlink()
    record = json.loads((lost / "run.json").read_text())
    (lost / "run.json").write_text(json.dumps(record | {"status": "running"}))
    refused = train(again, "+experiment=score_teacher")
    assert refused.returncode == 1
    assert "Add resume=true to continue it" in refused.stderr
    done = train(again, "+experiment=score_teacher", "resume=true")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(lost / "scores/part-00000.parquet").equals(before)


@pytest.mark.slow
def test_two_processes_write_what_one_does_and_go_on_with_fewer_shards_than_processes(
    train, runs: Path, scores: Path, tmp_path: Path
) -> None:
    (teacher,) = runs.glob("teacher/*/*/export")
    two = ["+experiment=score_teacher", f"teacher.export={teacher}", "trainer=ddp_cpu"]
    done = train(tmp_path / "runs", *two)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/score_teacher/minilm/seed0"
    expected = pq.read_table(scores / "part-00000.parquet")
    assert [file.name for file in (run / "scores").glob("*.parquet")] == ["part-00000.parquet"]
    assert pq.read_table(run / "scores/part-00000.parquet").equals(expected)
    (run / "scores/part-00000.parquet").unlink()
    (run / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | {"status": "running"}))
    done = train(tmp_path / "runs", *two, "resume=true")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(run / "scores/part-00000.parquet").equals(expected)


def test_a_student_learns_from_the_scores_without_a_teacher(train, runs: Path, scores: Path, tmp_path: Path) -> None:
    alone = tmp_path / "runs"
    logits = ["stage=logit_distill", "student.init_from=random", f"teacher.scores={scores}"]
    done = train(alone, *logits)
    assert done.returncode == 0, done.stderr
    assert not (alone / "teacher").exists(), "no teacher was trained"
    record = json.loads((alone / "logit_distill/2l/seed0/run.json").read_text())
    assert record["learnt_from"] == "score_teacher/minilm/seed0"
    assert record["parents"]["scores"]["source"] == str(scores)
    live = train(runs, "stage=logit_distill", "student.init_from=random")
    assert live.returncode == 0, live.stderr
    folders = [folder / "logit_distill/2l/seed0" for folder in (alone, runs)]
    one, other = (json.loads((folder / "metrics.json").read_text())["measures"] for folder in folders)
    assert one == pytest.approx(other, abs=1e-3)
    losses = [column(folder / "metrics.csv", "train/logits") for folder in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def column(file: Path, name: str) -> list[float]:
    header, *rows = [line.split(",") for line in file.read_text().splitlines()]
    return [float(row[header.index(name)]) for row in rows if row[header.index(name)]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["+experiment=ranker_distill_6l"], ["stage.losses.", "teacher.scores"]),
        (["stage=logit_distill", "student.init_from=random", "data.max_length=64"], ["max_length: 155 -> 64"]),
    ],
    ids=["layers need the live teacher", "other input"],
)
def test_what_scores_can_not_give_is_refused(train, scores: Path, tmp_path: Path, arguments: list, expected: list) -> None:
    done = train(tmp_path / "runs", *arguments, f"teacher.scores={scores}")
    assert done.returncode == 1
    assert all(part in done.stderr for part in expected), done.stderr
    assert not (tmp_path / "runs").exists()
