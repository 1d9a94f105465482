"""The soak: a service that is ended and started again answers each kind of client as it must, and what it doesn't is told."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import REPOSITORY

from benchmarks.soak import DUE, LOST, MISSING, REFUSED, bad


@pytest.mark.slow
def test_nothing_is_lost_or_mixed_up_whatever_clients_send_and_however_it_is_ended(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.soak", "--results", str(tmp_path), "--model", "tiny"]
    line += ["--seconds", "60", "--kill-every", "20"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert all(counts[DUE] for counts in found["counts"].values()), found["counts"]
    assert found["counts"]["1,000 passages"][REFUSED]
    assert set(found["exits"]) == {0}
    assert found["kills"]


@pytest.mark.parametrize(
    ("outcome", "exits", "left"), [(MISSING, [0], 0), ("wrong: other scores", [0], 0), (DUE, [1], 0), (DUE, [0], 3)]
)
def test_an_answer_that_is_missing_or_wrong_an_unclean_end_and_leftovers_fail_it(
    outcome: str, exits: list[int], left: int
) -> None:
    good = {"counts": {"small": Counter({DUE: 9, REFUSED: 2, LOST: 1})}, "exits": [0], "left": 0}
    assert not bad(good)
    assert bad({"counts": {"small": Counter({DUE: 9, outcome: 1})}, "exits": exits, "left": left})
