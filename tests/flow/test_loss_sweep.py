"""Losses over scores in one sweep, and relations beside them: one teacher, a folder for each loss."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import command

pytestmark = pytest.mark.slow

TEACHER = "teacher/minilm/seed0"
SMALL = ["scale=smoke", "student=2l", "data.depth=5", "data.test_queries=4", "callbacks.inference_time=null"]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory):
    """Run train.py in one folder of runs; return what it did, and the folder."""
    folder = tmp_path_factory.mktemp("losses")

    def train(*words: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        return command("train.py", *words, *SMALL, f"paths.runs={folder}/runs", cwd=folder, timeout=600), folder / "runs"

    return train


def records(runs: Path) -> dict[str, dict]:
    return {str(file.parent.relative_to(runs)): json.loads(file.read_text()) for file in runs.glob("*/*/*/run.json")}


def test_a_sweep_over_losses_trains_one_teacher_and_leaves_a_run_for_each_loss(train) -> None:
    done, runs = train("-m", "+experiment=margin_mse_6l", "loss=margin_mse,listwise_kl,infonce")
    assert done.returncode == 0, done.stderr
    found = records(runs)
    students = {f"{loss}/2l/seed0" for loss in ("margin_mse", "listwise_kl", "infonce")}
    assert found.keys() == {TEACHER, *students}
    assert {record["status"] for record in found.values()} == {"finished"}
    assert {name: found[name]["settings"]["data.negatives"] for name in (TEACHER, *sorted(students))} == {
        TEACHER: 1, "infonce/2l/seed0": 7, "listwise_kl/2l/seed0": 7, "margin_mse/2l/seed0": 1,
    }  # fmt: skip
    assert {name: found[name]["learnt_from"] for name in students} == {
        "margin_mse/2l/seed0": TEACHER, "listwise_kl/2l/seed0": TEACHER, "infonce/2l/seed0": "labels",
    }  # fmt: skip
    assert all((runs / name / "metrics.json").is_file() for name in students)


def test_a_student_of_relations_and_logits_ranks_whatever_its_width_and_heads(train) -> None:
    done, runs = train("+experiment=minilmv2_6l", "student.hidden_size=60", "student.heads=5", "student.init_from=random")
    assert done.returncode == 0, done.stderr
    record = records(runs)["minilmv2/2l/seed0"]
    assert record["losses"] == ["relations", "logits"]
    assert (runs / "minilmv2/2l/seed0/metrics.json").is_file()


def test_relations_without_the_teacher_itself_are_refused(train, tmp_path: Path) -> None:
    done, _ = train("+experiment=minilmv2_6l", "run_name=other", f"teacher.scores={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: stage.losses.relations compares layers, which teacher.scores don't hold: it needs the teacher itself. Drop"
    )
