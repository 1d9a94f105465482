"""One run in two processes, as on several GPUs: data-parallel training, one export, one test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import REPOSITORY

from tests.flow.reference import FILES, measure

pytestmark = pytest.mark.slow
TWO = ["trainer=ddp_cpu"]
SMALL = ["scale=smoke", "data.eval_batch_size=2", "data.valid_queries=3", "data.test_queries=3", "data.depth=4"]


def train(runs: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    """Run a small student's stage; return what it said and its record."""
    line = [sys.executable, str(REPOSITORY / "train.py"), "student=2l", *SMALL, *arguments, f"paths.runs={runs}"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (record,) = runs.glob("*/2l/seed0/run.json")
    return done, json.loads(record.read_text())


def test_a_run_in_two_processes_trains_exports_and_tests_as_one(tmp_path: Path) -> None:
    done, record = train(tmp_path, "+experiment=finetune_6l", *TWO, "logger=wandb")
    assert record["status"] == "finished"
    assert json.loads((tmp_path / "finetune/2l/seed0/metrics.json").read_text())["pairs"] == 12
    assert done.stdout.count("files: ") == 1  # one process speaks for both
    assert len([*tmp_path.rglob("offline-run-*/run-*.wandb")]) == len([*tmp_path.rglob("*.wandb")]) == 1
    timing = json.loads((tmp_path / "finetune/2l/seed0/latency.json").read_text())
    assert timing["setup"]["processes"] == 2
    for measured in ("latency", "throughput"):
        together, *each = (row for row in timing["rows"] if row["measured"] == measured)
        assert (together["rank"], [row["rank"] for row in each]) == ("all", [0, 1])
        assert together["calls"] == sum(row["calls"] for row in each) == 4
        rates = [row["passages_per_second"] for row in each]
        assert together["passages_per_second"] == pytest.approx(sum(rates))
    assert "1 threads in each of 2 processes" in done.stdout or "2 threads in each of 2 processes" in done.stdout


def test_two_processes_train_one_average_which_is_what_is_validated_and_exported(tmp_path: Path) -> None:
    words = ["+experiment=finetune_6l", "data.batch_size=4", "stage.lr=1e-3", "trainer.precision=32-true"]
    weights, best = {}, {}
    for name, more in (("plain", []), ("one", ["stage.averaging=0.5"]), ("two", ["stage.averaging=0.5", *TWO])):
        _, record = train(tmp_path / name, *words, *more)
        run = tmp_path / name / "finetune/2l/seed0"
        saved = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
        exported, best[name] = load_file(run / "export/model.safetensors"), record["validation"]["best"]
        assert all(torch.equal(value, saved["state_dict"][f"ranker.bert.{key}"]) for key, value in exported.items())
        weights[name] = exported["classifier.weight"]
    assert weights["two"] == pytest.approx(weights["one"], abs=1e-5)
    assert (weights["one"] - weights["plain"]).abs().max() > 1e-4
    assert best["two"] == pytest.approx(best["one"], abs=1e-4)


@pytest.mark.fault("E4")
def test_three_processes_measure_what_one_does_to_the_last_bit(tmp_path: Path) -> None:
    """The ten queries tested on have twenty batches, which 3 don't divide; the one validated on has 2: one process has none."""
    queries = ["data.test_queries=10", "data.valid_queries=1", "data.batch_size=3"]
    alone, together = (tmp_path / name / "finetune/2l/seed0" for name in ("one", "three"))
    measure(alone, 1, *queries)
    measure(together, 3, *queries, "trainer=ddp_cpu", "trainer.devices=3")
    for name in FILES:
        assert (together / name).read_bytes() == (alone / name).read_bytes(), name
    records = [json.loads((folder / "run.json").read_text()) for folder in (alone, together)]
    assert records[0]["validation"] == records[1]["validation"]
    assert json.loads((together / "metrics.json").read_text())["pairs"] == 40


def test_a_language_model_s_validation_is_the_same_in_two_processes(tmp_path: Path) -> None:
    still = ["+experiment=lm_distill_6l", "stage.steps=1", "stage.lr=1e-12", "data.valid_passages=5"]  # three batches of two
    alone, together = (train(tmp_path / name, *still, *more)[1] for name, more in (("one", []), ("two", TWO)))
    assert together["validation"]["best"] == pytest.approx(alone["validation"]["best"], rel=1e-5)
