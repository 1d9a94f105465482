"""A wheel works without a checkout: its program, its configs, its jobs in processes of their own, its ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY


@pytest.mark.slow
def test_a_stage_and_its_parent_are_trained_by_what_a_wheel_holds(tmp_path: Path) -> None:
    wheels, site, empty = (tmp_path / name for name in ("wheels", "site", "empty"))
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, REPOSITORY], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", site, *wheels.iterdir()], check=True)

    def typed(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(site)}  # in front of the checkout
        done = subprocess.run(
            [site / "bin/rankdistil", *words], cwd=empty, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"\nconf is {site}/rankdistil/conf; " in typed("train", "--help")
    typed("train", "+experiment=smoke", "trainer=ddp_cpu")
    assert [path.name for path in empty.iterdir()] == ["runs"]
    assert (empty / "runs/smoke/2l/seed0/metrics.json").is_file()
    assert "2l" in typed("evaluate", "models=runs/smoke/2l/seed0", "callbacks.inference_time=null")
    assert len([*empty.glob("evaluations/*/report.html")]) == 1
    typed("export", "--help"), typed("import-scores", "--help"), typed("fetch", "--help")
