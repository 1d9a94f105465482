"""What is written is whole or not there, as open as the user's umask leaves it, whoever writes it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rankdistil.files import LOCK, NEW_S, built, locked, share, write_json, written


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
