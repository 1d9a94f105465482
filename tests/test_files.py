"""Files that are written have the permissions of the user's umask, whoever writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rankdistil.files import share, write_json
from rankdistil.locks import LOCK, locked


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
