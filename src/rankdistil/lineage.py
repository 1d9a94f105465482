"""Where a run comes from: the settings that decide its outcome, and ``run.json``."""

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from rankdistil.data.scores import read_header
from rankdistil.files import read_json, write_json
from rankdistil.inference.machine import processor
from rankdistil.inference.processor import resolve_precision
from rankdistil.models.locate import locate
from rankdistil.roles import asks_teacher, named_source
from rankdistil.secrets import recorded
from rankdistil.signals import Stopped

# The settings of ``data`` (patterns of keys) that decide what becomes of passages read as text: validation is a mean over
# batches, so their size counts.
READ_AS_TEXT = (
    "root", "corpus", "columns.corpus.*", "train", "train.triples_text", "columns.triples_text.*", "passages", "valid_passages",
    "batch_size", "eval_batch_size", "max_length", "max_tokens", "on_bad", "store",
)  # fmt: skip
# Those that decide which pairs a teacher scores, and what it reads of them: with a store, pairs have another order, in which
# shards are cut.
SCORED = (
    "root", "corpus", "columns.*", "train", "train.*", "candidates", "train_on", "relevance_level", "negatives", "negatives_*",
    "held_out_queries", "max_length", "on_bad", "store",
)  # fmt: skip
ELSEWHERE = ("workers", "negatives_scores")  # the scores are a parent
PACKAGES = ("rankdistil", "torch", "lightning", "transformers", "ir-datasets", "ir-measures", "bm25s", "numpy")


def outcome_settings(cfg: DictConfig, parents: dict[str, str]) -> dict[str, Any]:
    """Flatten the settings that decide what a run computes.

    Folders, logging and timing aren't among them, nor loader processes, nor the student in a stage that trains none, nor how a
    ranking is tested where nothing ranks, nor anything but the pairs and what is read of them where a teacher scores.

    Args:
        cfg: a training config.
        parents: fingerprint of each parent, by role.

    Returns:
        Value by dotted key.
    """
    parts: dict[str, Any] = {"stage": recorded(cfg.stage), "data": _data(cfg)}
    if cfg.stage.learns != "nothing":  # a score is the same whatever the seed, in float32, on any number of devices
        parts |= {"seed": cfg.seed, "trainer": _trainer(recorded(cfg.trainer))}
    if not asks_teacher(cfg):  # else it is a parent
        parts["teacher"] = {"weights": identity(named_source(cfg))}
    if cfg.stage.learns == "student":
        of_stage = ("steps", "lr", "layer_map")
        student = {key: value for key, value in recorded(cfg.student).items() if key not in of_stage}
        # A start without its path: what stands there counts (see ``identity``), not where.
        parts |= {"student": student | {"init_from": cfg.student.init_from.partition(":")[0]}, "follows": cfg.follows}
    parts["parents"] = parents
    return flattened(parts)


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: value by dotted key."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= flattened(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def fingerprint(settings: dict[str, Any]) -> str:
    """Short hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def identity(path: str) -> str:
    """Tell checkpoints apart by content: the hash of a local folder's weights; a hub id stands for itself."""
    folder = locate(path)
    if not isinstance(folder, Path):
        return path
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .safetensors file: it is no checkpoint that can be started from.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(_digest(file, file.stat().st_size, file.stat().st_mtime_ns))
    return digest.hexdigest()[:16]


def is_content(name: str) -> bool:
    """Whether what ``identity`` returned is a hash of weights."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def scores_origin(folders: Sequence[Path], key: str) -> dict[str, str]:
    """Describe folders of teachers' scores, which a setting names: where they are, and what they were made of."""
    made_of = [read_header(folder, key)["made_of"] for folder in folders]
    return {"source": " ".join(map(str, folders)), "fingerprint": fingerprint({"made_of": made_of})}


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the settings that differ, as ``key: old -> new``."""
    missing = "(absent)"
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key, missing) != new.get(key, missing))
    return [f"{key}: {old.get(key, missing)} -> {new.get(key, missing)}" for key in keys]


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
        "parents": parents,
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


@cache
def _digest(file: Path, size: int, modified: int) -> bytes:
    """Hash a file, once for as long as it doesn't change."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _data(cfg: DictConfig) -> dict[str, Any]:
    """Choose the settings of ``data`` that decide an outcome."""
    data = recorded(cfg.data)
    data |= {"store": cfg.data.store is not None}  # not where it is; with one, batches are grouped by tokens
    counted: Sequence[str] = ("*",)
    if cfg.stage.reads == "passages":
        counted = READ_AS_TEXT
    elif cfg.stage.learns == "nothing":
        counted = SCORED
        data["held_out_queries"] = cfg.data.holdout * sum(cfg.data[split] is None for split in ("valid", "test"))
    flat = {key: value for key, value in flattened(data).items() if key not in ELSEWHERE}
    return {key: value for key, value in flat.items() if any(fnmatchcase(key, pattern) for pattern in counted)}


def _trainer(settings: dict[str, Any]) -> dict[str, Any]:
    """Choose the settings of ``trainer`` that decide an outcome, the precision as this machine resolves it."""
    counted = {key: value for key, value in settings.items() if key != "timeout"}
    if "precision" in counted:
        counted["precision"] = resolve_precision(counted["precision"], counted.get("accelerator"))
    return counted


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
