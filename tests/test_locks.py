"""Locks: one process at a time, and nothing left where nothing was written."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rankdistil.locks import holder, locked, remove_if_empty


def test_a_folder_held_by_another_process_is_refused_with_its_pid(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from rankdistil.locks import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r}), wait=False): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=rf"is in use by pid {other.pid} since "), locked(tmp_path, wait=False):
            raise AssertionError("the folder was free")
        assert holder(tmp_path).startswith(f"pid {other.pid} ")
        other.communicate("")
    assert holder(tmp_path) is None


def test_a_lock_that_leads_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "runs/a/b", wait=False):
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()


def test_folders_that_hold_something_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/kept").touch()
    remove_if_empty(tmp_path / "a/b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_removing_ends_at_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/a").mkdir(parents=True)
    remove_if_empty(Path("runs/a"))  # as with the default paths.runs, which is relative
    assert tmp_path.is_dir()
    assert not any(tmp_path.iterdir())


def waiting(folder: Path, label: str) -> subprocess.Popen[str]:
    """A process that waits for the folder, says so, and holds it until it is told to go on."""
    code = (
        "import sys, pathlib; from rankdistil.locks import locked\n"
        f"print('asks', flush=True)\nwith locked(pathlib.Path({str(folder)!r}), wait=True):\n"
        f"    print({label!r}, flush=True); sys.stdin.readline()"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_who_waited_for_a_holder_that_left_nothing_is_the_only_one_to_hold(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder, wait=False):
        other = waiting(folder, "second")
        assert other.stdout.readline() == "asks\n"
        time.sleep(0.3)  # until it is blocked on the file that is about to be removed
    assert other.stdout.readline() == "second\n"
    with pytest.raises(RuntimeError, match=f"is in use by pid {other.pid} "), locked(folder, wait=False):
        raise AssertionError("two processes hold the folder")
    other.communicate("\n")
    assert not folder.exists()


def test_a_look_at_a_folder_does_not_refuse_another_process(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with locked(tmp_path, wait=False):
            assert holder(tmp_path).startswith(f"pid {os.getpid()} since ")
