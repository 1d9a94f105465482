"""One run in two processes, as on several GPUs: data-parallel training, one export, one test."""

import json
import subprocess
import sys
from pathlib import Path

from support import REPOSITORY

TWO = ["trainer.devices=2", "+trainer.strategy=ddp"]
SMALL = ["scale=smoke", "data.eval_batch_size=2", "data.valid_queries=3", "data.test_queries=3", "data.depth=4"]


def test_a_run_in_two_processes_trains_exports_and_tests_as_one(tmp_path: Path) -> None:
    line = [
        sys.executable,
        str(REPOSITORY / "train.py"),
        "+experiment=finetune_6l",
        "student=2l",
        *SMALL,
        *TWO,
        f"paths.runs={tmp_path}",
    ]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "finetune/2l/seed0"
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert json.loads((folder / "metrics.json").read_text())["pairs"] == 12
    assert done.stdout.count("files: ") == 1  # one process speaks for both
