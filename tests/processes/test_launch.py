"""How a job in several processes is carried out below one, and how a job's end is told."""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch.distributed.launcher.api  # here, as each fork would import it

from rankdistil.cli import SAID, ChildFailedError
from rankdistil.processes import launch
from rankdistil.processes.stopping import Stopped

RANK = """
import os, signal, sys, time
from pathlib import Path
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
def stop(signum, frame):
    with open(folder / "stopped", "a") as file:
        file.write(f"{rank} {signum}\\n")
    time.sleep(1)  # to save
    sys.exit(128 + signum)
for signum in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(signum, stop)
(folder / f"begun {rank}").touch()
while not all((folder / f"begun {other}").exists() for other in (0, 1)):
    time.sleep(0.05)
if rank == "1":
    exec((folder / "do").read_text())
time.sleep(30)
"""


def ranks_that(folder: Path, do: str, monkeypatch: pytest.MonkeyPatch, ask: int | None = None) -> tuple[int, str, list[str]]:
    """Run a job of two ranks, the second of which does something; return status, errors, and who was asked to stop."""
    (folder / "rank.py").write_text(RANK)
    (folder / "do").write_text(do)
    monkeypatch.setattr(launch, "JOB", "rank")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        status: object = 99
        try:
            sys.stderr = (folder / "said").open("w")
            launch.run_ranks(folder, 2)
            status = 0
        except SystemExit as ended:
            status = ended.code
        finally:
            sys.stderr.flush()
            os._exit(status)
    while ask and len([*folder.glob("begun *")]) < 2:
        time.sleep(0.05)
    for _ in range(2 if ask else 0):  # a batch system's signal, and the one that is handed on
        time.sleep(0.3)
        os.kill(child, ask)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stopped = folder / "stopped"
    return status, (folder / "said").read_text(), sorted(stopped.read_text().splitlines()) if stopped.exists() else []


@pytest.mark.parametrize(
    ("do", "status", "how"),
    [
        ("os._exit(3)", 3, "ended with exit status 3 and said nothing"),
        ("os.kill(os.getpid(), signal.SIGKILL)", launch.KILLED, "was ended by SIGKILL"),
    ],
)
def test_a_rank_that_dies_is_told_of_and_the_others_are_asked_to_stop(
    do: str, status: int, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, stopped = ranks_that(tmp_path, do, monkeypatch)
    assert (code, stopped) == (status, ["0 15"])
    assert said.startswith("error: process 1 of 2 (pid ")
    assert said.endswith(f") {how}.\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("do", "status"), [("sys.exit(1)", SAID), ("signal.raise_signal(signal.SIGUSR1)", 138)])
def test_of_a_rank_that_has_spoken_itself_nothing_is_said(
    do: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ranks_that(tmp_path, do, monkeypatch)[:2] == (status, "")


def test_a_signal_is_handed_on_once_and_all_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks_that(tmp_path, "", monkeypatch, ask=signal.SIGUSR1) == (138, "", ["0 10", "1 10"])


@pytest.mark.parametrize(("own", "share"), [({}, "3"), ({"RAYON_NUM_THREADS": "7"}, "7")])
def test_ranks_share_the_cores_in_torch_and_in_the_tokenizer_unless_they_are_told_otherwise(
    own: dict[str, str], share: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", environment := dict(own))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(7))
    monkeypatch.setattr(torch.distributed.launcher.api, "elastic_launch", lambda *_: lambda *_: None)
    launch.run_ranks(tmp_path, 2)
    assert (environment["OMP_NUM_THREADS"], environment["RAYON_NUM_THREADS"]) == ("3", share)


@pytest.mark.parametrize("status", [2, 3])
def test_a_rank_that_crashed_is_a_failure_though_the_others_were_asked_to_stop(tmp_path: Path, status: int) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "stopped", "settings": {}, "signal": 15}))
    with pytest.raises(ChildFailedError, match=rf"failed \(exit status {status}\)"):
        launch.raise_for(tmp_path, status)


@pytest.mark.parametrize("status", [143, SAID])
def test_a_rank_that_was_asked_to_stop_is_a_stop_also_where_another_one_lost_it_first(tmp_path: Path, status: int) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "stopped", "settings": {}, "signal": 15}))
    with pytest.raises(Stopped, match="SIGTERM"):
        launch.raise_for(tmp_path, status)
