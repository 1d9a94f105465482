"""Where a run comes from: what tells its settings, parents, code and machine from others, and ``run.json``."""

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from rankdistil import ranks
from rankdistil.data.scores import read_header
from rankdistil.files import fingerprint, read_json, write_json
from rankdistil.inference.machine import processor
from rankdistil.roles import named_source, place_name
from rankdistil.signals import Stopped

PACKAGES = ("rankdistil", "torch", "lightning", "transformers", "ir-datasets", "ir-measures", "bm25s", "numpy")


def scores_origin(folders: Sequence[Path], key: str) -> dict[str, str]:
    """Describe folders of teachers' scores, which a setting names: where they are, and what they were made of."""
    made_of = [read_header(folder, key)["made_of"] for folder in folders]
    return {"source": " ".join(map(str, folders)), "fingerprint": fingerprint({"made_of": made_of})}


def origin() -> dict[str, Any]:
    """Describe code and machine: commit, versions, device, threads."""
    return {
        "commit": _commit(),
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": device(),
        "threads": torch.get_num_threads(),
    }


def device() -> str:
    """Name what runs compute on: the GPU where there is one, else the processor."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read ``run.json``; None if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    file = folder / "run.json"
    if not file.is_file():
        return None
    return read_json(file, f"Remove the folder {folder} to run afresh.")


def begun(cfg: DictConfig, settings: dict[str, Any], parents: dict[str, Any]) -> dict[str, Any]:
    """Return what the ``run.json`` of any stage says while it is under way."""
    return {
        "status": "running",
        "stage": cfg.stage.name,
        "method": cfg.method,
        "fingerprint": fingerprint(settings),
        "settings": settings,
        "seed": cfg.seed,
        "precision": settings.get("trainer.precision", "32-true"),
        "processes": ranks.processes(cfg.trainer),
        "parents": parents,
        "checkpoint": place_name(named_source(cfg)),  # with its revision, if it is the hub's
        "origin": origin(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


@contextmanager
def failure_recorded(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Write into a run's ``run.json`` that it failed or was stopped, and why, should it; ``record`` may grow meanwhile.

    Where several ranks fail, the first one's reason stays: the others fail because of it.
    """
    try:
        yield
    except BaseException as error:
        ended: dict[str, Any] = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        if isinstance(error, Stopped):
            ended = {"status": "stopped", "signal": error.signum, "saved": error.saved, "error": str(error)}
        if (read_record(folder) or {}).get("status") not in ("failed", "stopped"):
            write_json(folder / "run.json", record | ended)
        raise


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Commit of the source tree; ``+changes`` if it was edited; ``unknown`` outside of a checkout of it."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed package may lie inside of another project's checkout
        return git("describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
