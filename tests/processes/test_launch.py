"""How a job's end is told."""

import json
from pathlib import Path

import pytest

from rankdistil.cli import SAID, ChildFailedError
from rankdistil.processes import launch
from rankdistil.processes.stopping import Stopped


@pytest.mark.parametrize("status", [2, 3])
def test_a_rank_that_crashed_is_a_failure_though_the_others_were_asked_to_stop(tmp_path: Path, status: int) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "stopped", "signal": 15}))
    with pytest.raises(ChildFailedError, match=rf"failed \(exit status {status}\)"):
        launch.raise_for(tmp_path, status)


@pytest.mark.parametrize("status", [143, SAID])
def test_a_rank_that_was_asked_to_stop_is_a_stop_also_where_another_one_lost_it_first(tmp_path: Path, status: int) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "stopped", "signal": 15}))
    with pytest.raises(Stopped, match="SIGTERM"):
        launch.raise_for(tmp_path, status)
