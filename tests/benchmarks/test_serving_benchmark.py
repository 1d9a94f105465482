"""The benchmark of serving: every answer of both services is there and right, and its numbers fit together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

from benchmarks.serving import OURS, PEER, arguments


@pytest.mark.slow
def test_both_services_answer_all_with_the_scores_of_the_reranker(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.serving", "--results", str(tmp_path), "--models", "tiny", "--clients", "3"]
    sizes = ["--passages", "5", "--tokens", "20", "--seconds", "0.5", "--memory", "10"]
    done = subprocess.run([*line, *sizes], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "serving.json").read_text())
    assert [row["service"] for row in found["rows"]] == [OURS, PEER]
    for row in found["rows"]:
        assert (row["wrong"], row["failed"], row["rejected_share"]) == (0, 0, 0)
        assert row["answered"] >= 3
        assert 0 < row["p50_s"] <= row["p95_s"] <= row["p99_s"]
        assert row["ideal_s"] == pytest.approx(15 / row["engine_passages_per_s"])
    assert all({*memory} == {"first 1", "last 1", "failed", "passages/s"} for memory in found["memory_mib"].values())
    assert found["command"].startswith("python -m benchmarks.serving --results")


def test_the_whole_grid_is_the_default() -> None:
    asked = arguments(["--results", "x"])
    assert (asked.clients, asked.passages, asked.tokens) == ([1, 4, 16, 32, 64], [10, 100, 1000], [50, 150, 400])
