"""Negatives are mined by one command and trained on by another; what a run of them decides, and what is wrong with one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_teachers
from commands import training

from rankdistil.metrics.ranking import read_run
from tests.data.conftest import FILES

SPLITS = "queries: queries.tsv, qrels: qrels.txt, candidates: run.txt"
SMOKE = [
    "scale=smoke",
    "data=files",
    "data.corpus=corpus.tsv",
    *(f"data.{one}={{{SPLITS}}}" for one in ("train", "valid", "test")),
]
MINE = "+experiment=mine_negatives"
LEARN = [
    "+experiment=infonce_6l",
    "student=2l",
    "student.init_from=random",
    "stage.negatives=2",
    "callbacks.inference_time=null",
]
Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teachers.collection(tmp_path_factory.mktemp("collection"), ["bi_encoder"])


@pytest.fixture(scope="module")
def train(root: Path) -> Train:
    return training(root, *SMOKE)


@pytest.fixture(scope="module")
def mined(train: Train, root: Path) -> Path:
    """A run of mined negatives."""
    done = train(MINE, "teacher.kind=bi_encoder", f"teacher.path={root}/tiny-bi_encoder")
    assert done.returncode == 0, done.stderr
    file = root / "runs/mine_negatives/tiny-bi_encoder/seed0/negatives.run"
    assert f"data.negatives_runs=[{file}]" in done.stdout
    return file


def test_a_student_trains_on_mined_negatives_and_is_another_run_with_other_ones(train: Train, mined: Path, root: Path) -> None:
    assert "nothing to do" in train(MINE, "teacher.kind=bi_encoder", f"teacher.path={root}/tiny-bi_encoder").stdout
    own = root / "own.run"
    own.write_text(mined.read_text())
    done = train(*LEARN, f"data.negatives_runs=[{own}]")
    assert done.returncode == 0, done.stderr
    run = root / "runs/infonce/2l/seed0"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    candidates = {line.split()[2] for line in FILES["run.txt"].splitlines() if line.startswith("2 ")}
    ranked = read_run(run / "test.run")
    assert {hit.passage_id for hit in ranked["2"]} == candidates, "the test re-ranks the first stage's candidates"
    assert "nothing to do" in train(*LEARN, f"data.negatives_runs={own}").stdout
    own.write_text("".join(mined.read_text().splitlines(keepends=True)[:-1]))
    done = train(*LEARN, f"data.negatives_runs=[{own}]")
    assert done.returncode == 1
    assert "data.train.negatives run 1: own.run has changed since (sha256 " in done.stderr


def test_a_check_reads_the_run_as_training_does(train: Train, mined: Path, root: Path) -> None:
    bad = root / "bad.run"
    bad.write_text(mined.read_text() + "1 Q0 zz 9 0.1 x\n2 Q0\n")
    count = len(mined.read_text().splitlines())
    done = train(*LEARN, f"data.negatives_runs=[{mined},{bad}]", "run_name=checked", "plan=check")
    assert done.returncode == 1
    assert f"{bad}:{count + 1}: passage 'zz' is not in the collection. Do the files belong together?" in done.stdout
    assert f"{bad}:{count + 2}: 2 columns, expected 6" in done.stdout
    done = train(*LEARN, f"data.negatives_runs=[{mined}]", "run_name=checked", "plan=check")
    assert (done.returncode, done.stdout.splitlines()[-1].startswith("check: no problem found")) == (0, True), done.stdout


@pytest.mark.slow
def test_two_processes_mine_byte_for_byte_what_one_does(train: Train, mined: Path, root: Path) -> None:
    two = [MINE, "teacher.kind=bi_encoder", f"teacher.path={root}/tiny-bi_encoder", "run_name=two", "trainer=ddp_cpu"]
    done = train(*two)
    assert done.returncode == 0, done.stderr
    assert (mined.parent.parent / "two/negatives.run").read_bytes() == mined.read_bytes()
