"""A sweep whose jobs run in two processes each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

pytestmark = pytest.mark.slow

SMALL = ["data.valid_queries=3", "data.test_queries=3", "data.depth=4", "steps.teacher=1", "callbacks.inference_time.rounds=1"]


@pytest.mark.fault("E7")
def test_each_job_runs_once_in_its_folder_and_the_teacher_once_though_the_first_job_fails(tmp_path: Path) -> None:
    line = [
        sys.executable, str(REPOSITORY / "train.py"), "-m", "+experiment=ranker_distill_6l", "scale=smoke", "student=2l",
        *SMALL, "trainer=ddp_cpu", "stage.steps=3", "stage.lr=1e30,0.0005", "run_name=lr${stage.lr}", f"paths.runs={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    failed, finished = tmp_path / "ranker_distill/2l/lr1e+30", tmp_path / "ranker_distill/2l/lr0.0005"
    assert sorted(path for path in tmp_path.glob("*/*/*") if path.is_dir()) == sorted(
        [*([failed] if failed.exists() else []), finished, tmp_path / "teacher/minilm/seed0"]
    )
    assert {path.name for path in tmp_path.iterdir()} == {"multirun.yaml", "ranker_distill", "teacher"}
    assert done.stderr.count("error: ") == 1
    assert "1 jobs of the sweep failed:\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("files: ") == 2  # the teacher's and the second job's
    assert json.loads((finished / "run.json").read_text())["status"] == "finished"
    assert json.loads((finished / "latency.json").read_text())["setup"]["processes"] == 2
