"""Files and folders are whole or not there, as open as the umask says; locks; packages of extra formats."""

import errno
import fcntl
import importlib.metadata
import os
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

from rankdistil import files
from rankdistil.data.files.lines import raw_lines, records
from rankdistil.data.teacher_scores.folder import Shard, write_shard
from rankdistil.files import LOCK, NEW_S, built, called, filled, holder, installing, locked, require, share, write_json, written


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
        (tmp_path / "export").mkdir()
        save_file({"weight": torch.zeros(1)}, tmp_path / "export/model.safetensors")  # through a file of mode 600
        share(tmp_path)
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


def test_what_a_living_process_writes_stays_however_long_it_takes(tmp_path: Path) -> None:
    with written(tmp_path / "a") as file, built(tmp_path / "b") as folder:
        for place in (file, folder):
            os.utime(place, times=(0, 0))
        write_json(tmp_path / "run.json", {})
        file.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "run.json"}


def test_two_processes_of_one_number_write_the_same_target_in_turn(tmp_path: Path) -> None:
    with written(tmp_path / "a") as first:
        with written(tmp_path / "a") as second:
            second.write_text("second")
        first.write_text("first")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["first"]


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


def told(what: str, package: str) -> str:
    return f"{what} needs the package {package}, which isn't installed. Run: pip install -e '.[formats]'"


def test_a_package_that_is_there_is_imported():
    assert require("json", "nothing").loads("1") == 1


def test_a_missing_package_names_who_needs_it_and_the_command(tmp_path, monkeypatch):
    for package in ("pyarrow", "pyarrow.parquet", "zstandard"):
        monkeypatch.setitem(sys.modules, package, None)
    rows = tmp_path / "corpus.parquet"
    with pytest.raises(ValueError) as caught:
        next(records(rows))
    assert str(caught.value) == told(str(rows), "pyarrow")
    packed, shard = tmp_path / "corpus.tsv.zst", tmp_path / "part-00000.parquet"
    packed.write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        next(raw_lines(packed))
    assert str(caught.value) == told(str(packed), "zstandard")
    with pytest.raises(ValueError) as caught:
        write_shard(shard, Shard(["q"], ["p"], [1.0]))
    assert str(caught.value) == told(f"{shard} (Parquet)", "pyarrow")
    assert not shard.exists()


def test_what_to_type_exists_in_a_checkout_and_beside_a_wheel(monkeypatch):
    assert (installing("onnx"), called("train")) == ("pip install -e '.[onnx]'", "python train.py")
    needed = ["torch>=2.11", 'onnx<2,>=1.20; extra == "onnx"', "onnxscript; extra == 'onnx'", 'onnxes; extra == "onnxes"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    monkeypatch.setattr(files, "CHECKOUT", False)
    assert (installing("onnx"), called("train")) == ("pip install 'onnx<2,>=1.20' onnxscript", "rankdistil train")
