"""Which jobs of SLURM's are queued again; ``scontrol`` is a script here, the real one is for ``make slurm``."""

import os
import signal
from pathlib import Path

import pytest

from rankdistil.processes.stopping import queue_again, restarted

PREEMPTED = "JobId=7 JobState=RUNNING Reason=None Requeue=1 PreemptTime=2026-11-23T02:09:21"
CANCELLED = "JobId=7 JobState=CANCELLED Reason=None Requeue=1 PreemptTime=None"


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with an ``scontrol`` that tells what the file ``job`` holds, and notes its arguments in ``asked``."""
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n[ "$1" = show ] && cat {tmp_path}/job || exit 0\n')
    program.chmod(0o755)
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / "job").write_text(PREEMPTED)
    return tmp_path


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines() if (folder / "asked").is_file() else []


def test_a_preempted_job_is_queued_again(scontrol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue_again(signal.SIGTERM)
    assert asked(scontrol) == ["show --oneliner job 7", "requeue 7"]
    assert capsys.readouterr().err == "SLURM job 7 is queued again, and will go on from there.\n"


def test_a_cancelled_job_is_not(scontrol: Path) -> None:
    (scontrol / "job").write_text(CANCELLED)
    queue_again(signal.SIGTERM)
    assert asked(scontrol) == ["show --oneliner job 7"]


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_job_that_is_near_its_time_limit_is_queued_again(scontrol: Path, signum: int) -> None:
    (scontrol / "job").write_text(CANCELLED.replace("CANCELLED", "RUNNING"))
    queue_again(signum)
    assert asked(scontrol) == ["requeue 7"]


def test_under_submitit_its_own_handler_does_that_and_counts(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(signum: int, frame: None) -> None:
        raise SystemExit(-1)

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(SystemExit):
            queue_again(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert asked(scontrol) == []


def test_outside_of_slurm_nothing_is_done(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    queue_again(signal.SIGTERM)
    assert asked(scontrol) == []


def test_one_task_speaks_for_all(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for task in ("1", "0"):
        monkeypatch.setenv("SLURM_PROCID", task)
        queue_again(signal.SIGUSR1)
    assert asked(scontrol) == ["requeue 7"]


def test_a_job_that_cannot_be_queued_again_is_told_why(scontrol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scontrol / "scontrol").write_text("#!/bin/sh\necho Requested operation is presently disabled >&2\nexit 1\n")
    queue_again(signal.SIGUSR1)
    assert capsys.readouterr().err == "SLURM job 7 could not be queued again: Requested operation is presently disabled\n"


@pytest.mark.parametrize(("count", "expected"), [(None, False), ("0", False), ("1", True), ("2", True)])
def test_a_restarted_job_is_known_by_slurm_s_count(monkeypatch: pytest.MonkeyPatch, count: str | None, expected: bool) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", count) if count else monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert restarted() is expected
