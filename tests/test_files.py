"""Files and folders are whole or not there, as open as the umask says; locks."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rankdistil.files import LOCK, NEW_S, built, filled, holder, locked, sweep, write_json, written


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_are_as_open_as_the_umask_leaves_them(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        write_json(tmp_path / "run.json", {})
        with built(tmp_path / "export") as place:
            save_file({"weight": torch.zeros(1)}, place / "model.safetensors")  # through a file of mode 600
        with locked(tmp_path, wait=False):
            assert modes(tmp_path) == {mode}
            assert (tmp_path / LOCK).is_file()
        assert os.umask(mask) == mask  # and the umask is what it was


WAYS = {
    "file": "with written(Path('model')) as place:\n    place.write_text('half')\n",
    "folder": "with built(Path('model')) as place:\n    (place / 'weights').write_text('half')\n",
}
HEAD = (
    "import os, signal; from pathlib import Path; from rankdistil.files import *; from rankdistil.processes.stopping import *\n"
)


def writing(folder: Path, kind: str, then: str) -> subprocess.CompletedProcess[str]:
    """Begin to write ``model`` in a process of its own, and do something before it is whole."""
    line = [sys.executable, "-c", f"{HEAD}with ended_by_signals():\n  {WAYS[kind].replace(chr(10), chr(10) + '  ')}    {then}"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", WAYS)
def test_a_writer_that_fails_or_is_asked_to_stop_leaves_nothing(tmp_path: Path, kind: str) -> None:
    assert writing(tmp_path, kind, "os.kill(os.getpid(), signal.SIGTERM)").returncode == 143
    assert writing(tmp_path, kind, "1 / 0").stderr.endswith("ZeroDivisionError: division by zero\n")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", WAYS)
def test_what_a_killed_writer_left_is_removed_by_the_next_one_in_the_folder_and_blocks_nobody(
    tmp_path: Path, kind: str
) -> None:
    assert writing(tmp_path, kind, "os.kill(os.getpid(), signal.SIGKILL)").returncode == -9
    (left,) = tmp_path.iterdir()
    with built(tmp_path / "model"):
        pass
    assert {*tmp_path.iterdir()} == {left, tmp_path / "model"}  # its process may just be about to lock it
    os.utime(left, times=(time.time() - NEW_S - 1,) * 2)
    write_json(tmp_path / "run.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"model", "run.json"}


def test_who_holds_a_folder_removes_at_once_what_killed_writers_left_in_it_and_nothing_of_living_ones(tmp_path: Path) -> None:
    for name in ("checkpoints", "export"):
        (tmp_path / name).mkdir()
        for kind in WAYS:
            assert writing(tmp_path / name, kind, "os.kill(os.getpid(), signal.SIGKILL)").returncode == -9
    with locked(tmp_path, wait=False), written(tmp_path / "checkpoints/last.ckpt") as living:
        sweep(tmp_path)
        assert {path for path in tmp_path.rglob("*") if path.name != LOCK} == {
            tmp_path / "checkpoints", tmp_path / "export", living
        }  # fmt: skip


def test_what_a_living_process_writes_stays_however_long_it_takes(tmp_path: Path) -> None:
    with written(tmp_path / "a") as file, built(tmp_path / "b") as folder:
        for place in (file, folder):
            os.utime(place, times=(0, 0))
        write_json(tmp_path / "run.json", {})
        file.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "run.json"}


def write_export(folder: Path, version: str) -> None:
    with built(folder) as place:
        for name in ("config.json", "model.safetensors"):
            (place / name).write_text(version)


@pytest.mark.fault("F7")
def test_whoever_looks_at_a_folder_that_is_replaced_finds_it_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of a busy disk 200 times as slow
    export, ended, found = tmp_path / "export", threading.Event(), set()
    write_export(export, "0")

    def look() -> None:
        while not ended.is_set():
            found.add((export / "model.safetensors").read_text())

    with ThreadPoolExecutor() as pool:
        looking = pool.submit(look)
        for version in range(1, 200):
            write_export(export, str(version))
        ended.set()
        looking.result()
    assert len(found) > 1
    assert {path.name for path in tmp_path.iterdir()} == {"export"}


REPLACED = {  # how the disk exchanges names, which call is the process's last, what is found then
    "exchange": ("", "shutil, 'rmtree'", 1, "new"),
    "two steps, before": ("ctypes.CDLL = lambda name: None\n", "Path, 'rename'", 1, "old"),
    "two steps, between": ("ctypes.CDLL = lambda name: None\n", "Path, 'rename'", 2, None),
    "two steps, behind": ("ctypes.CDLL = lambda name: None\n", "Path, 'rename'", 3, "new"),
}


@pytest.mark.parametrize("how", REPLACED)
@pytest.mark.fault("C7", "H3")
def test_a_kill_while_a_folder_is_replaced_leaves_the_old_one_or_the_new_one(tmp_path: Path, how: str) -> None:
    disk, call, number, version = REPLACED[how]
    write_export(tmp_path / "model", "old")
    code = (
        f"{HEAD}import ctypes, shutil\n{disk}calls = []\nplain = getattr({call})\n"
        "def last(*arguments, **named):\n"
        f"    calls.append(None)\n    len(calls) < {number} or os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(*arguments, **named)\n"
        f"setattr({call}, last)\n"
        "with built(Path('model')) as place:\n"
        "    for name in ('config.json', 'model.safetensors'):\n        (place / name).write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    files = [tmp_path / "model" / name for name in ("config.json", "model.safetensors")]
    assert [file.read_text() for file in files if file.exists()] == [version] * (2 if version else 0)
    for path in tmp_path.iterdir():
        os.utime(path, times=(time.time() - NEW_S - 1,) * 2)
    write_json(tmp_path / "run.json", {})  # the next writer beside it
    assert [file.read_text() for file in files] == [version or "old"] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"model", "run.json"}


@pytest.mark.fault("C7")
def test_what_is_written_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    def note(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2].partition(".rankdistil")[0])
        assert (tmp_path / "export").exists() == (flushed[-1] == tmp_path.name)

    monkeypatch.setattr(os, "fsync", note)
    write_export(tmp_path / "export", "new")
    assert sorted(flushed[:2]) == ["config.json", "model.safetensors"]
    assert flushed[2:] == [".export", tmp_path.name]


def test_two_processes_of_one_number_write_the_same_target_in_turn(tmp_path: Path) -> None:
    with written(tmp_path / "a") as first:
        with written(tmp_path / "a") as second:
            second.write_text("second")
        first.write_text("first")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.fault("C11")
def test_a_folder_held_by_another_process_is_refused_with_its_pid(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from rankdistil.files import locked\n"
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


def test_folders_that_were_there_stay_however_empty_and_those_that_were_made_go(tmp_path: Path) -> None:
    (tmp_path / "scratch/mine").mkdir(parents=True)
    for folder in (tmp_path / "scratch/runs/a/b", tmp_path / "scratch/mine"):
        with pytest.raises(ZeroDivisionError), locked(folder, wait=False):
            raise ZeroDivisionError
    assert [*(tmp_path / "scratch").rglob("*")] == [tmp_path / "scratch/mine"]


def test_a_made_folder_that_holds_something_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "runs/a", wait=False):
        (tmp_path / "runs/kept").touch()
    assert [*tmp_path.rglob("*")] == [tmp_path / "runs", tmp_path / "runs/kept"]


def test_a_relative_folder_is_removed_and_the_one_one_stands_in_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(Path("runs/a"), wait=False):
        pass
    assert tmp_path.is_dir()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES, errno.ENOENT])
def test_a_folder_that_can_not_be_removed_does_not_hide_the_error_under_way(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    for name in ("rmdir", "unlink", "iterdir"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "runs/a", wait=False):
        raise ZeroDivisionError


def test_processes_that_make_and_remove_the_folders_above_theirs_do_not_trip_over_one_another(tmp_path: Path) -> None:
    def make_and_remove(name: str) -> None:
        for _ in range(50):
            with locked(tmp_path / "runs/finetune" / name, wait=True):
                pass

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(make_and_remove, "aabc")] == [None] * 4
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_name_too_long_for_a_folder_leaves_none_of_those_above_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"), locked(tmp_path / "runs/a" / ("x" * 300), wait=False):
        pass
    assert not any(tmp_path.iterdir())


def write_and_fail(folder: Path) -> None:
    (folder / "metrics.json").touch()
    raise ZeroDivisionError


def test_of_work_that_fails_nothing_stays_but_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").touch()
    for name in ("mine", "new/evaluation"):
        with pytest.raises(ZeroDivisionError), filled(tmp_path / name):
            write_and_fail(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["metrics.json", "mine", "notes"]


def waiting(folder: Path, label: str) -> subprocess.Popen[str]:
    """A process that waits for the folder, says so, and holds it until it is told to go on."""
    code = (
        "import sys, pathlib; from rankdistil.files import locked\n"
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


def test_a_file_system_without_locks_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="can't be locked") as caught, locked(tmp_path / "run", wait=False):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/run/.lock can't be locked (No locks available): its file system has no locks, which keep two processes "
        "out of one folder. Choose one on another disk (paths.runs)."
    )
