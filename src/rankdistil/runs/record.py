"""Run metadata, ``run.json``: where a run comes from, and whether its folder is finished, to be resumed, or to be run."""

import importlib.metadata
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rankdistil.cli import DiskFullError, full_disk
from rankdistil.config.choices import named_source, place_name
from rankdistil.data.files.layout import shown
from rankdistil.data.teacher_scores.folder import read_header
from rankdistil.files import LOCK, changed_settings, fingerprint, holder, is_unfinished, read_json, write_json, write_text
from rankdistil.inference.machine import processor
from rankdistil.models.locate import EXPORT, require_as_written
from rankdistil.processes import ranks
from rankdistil.processes.stopping import Stopped

# What a run may have written before its first checkpoint; all else in its folder is the user's.
WRITTEN = (
    ".hydra", "run.json", "hparams.yaml", "metrics.csv", "wandb", "export", "tensorboard", "start", "valid.run", "scores",
    "trained_on.npy", "test.run", "metrics.json", "per_query.jsonl", "vectors", "negatives.run",
)  # fmt: skip

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


def read_record(folder: Path, *needed: str) -> dict[str, Any] | None:
    """Read ``run.json``; None if there is none.

    Args:
        folder: the run's folder.
        needed: what it must hold beside ``HELD``.

    Raises:
        ValueError: if it is damaged.
    """
    file, fix = folder / "run.json", f"Remove the folder {folder} to run afresh."
    if not file.is_file():
        return None
    record = read_json(file, fix)
    for key, kind in KINDS.items():
        if (key in record or key in (*HELD, *needed)) and not isinstance(record.get(key), kind):
            raise ValueError(f"{file} is damaged ({key} is {shown(record.get(key))}). {fix}")
    for role, parent in record.get("parents", {}).items():
        if not isinstance(parent, dict) or not all(isinstance(parent.get(key), str) for key in ("source", "fingerprint")):
            raise ValueError(f"{file} is damaged (parents.{role} is {shown(parent)}). {fix}")
    if not all(isinstance(made, dict) for made in record.get("tests", [])):
        raise ValueError(f"{file} is damaged (tests is {shown(record['tests'])}). {fix}")
    return record


def begun(cfg: DictConfig, settings: dict[str, Any], parents: dict[str, Any]) -> dict[str, Any]:
    """Return what the ``run.json`` of any stage says while it is under way."""
    return {
        "status": "running",
        "stage": cfg.stage.name,
        "method": str(cfg.method),
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
        full = None if isinstance(error, Stopped) else full_disk(error, folder)
        ended: dict[str, Any] = {"status": "failed", "error": full or f"{type(error).__name__}: {error}"}
        if isinstance(error, Stopped):
            ended = {"status": "stopped", "signal": error.signum, "saved": error.saved, "error": str(error)}
        with suppress(OSError):  # not in place of the error that is under way: where a disk is full, this has no room, too
            if (read_record(folder) or {}).get("status") not in ("failed", "stopped"):
                write_json(folder / "run.json", record | ended)
        if full is not None:
            raise DiskFullError(full) from error
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


HELD = ("status", "settings")  # what any ``run.json`` holds
KINDS: dict[str, Any] = {
    "status": str, "settings": dict, "stage": str, "method": str | int | float, "parents": dict, "tests": list, "finished": str,
    "ranks": bool, "test_pending": bool, "started_from": str, "precision": str, "origin": dict, "steps": dict,
    "validation": dict, EXPORT: dict, "wall_s": int | float, "train_s": int | float,
}  # of what is read again  # fmt: skip
BEGUN = (LOCK, ".hydra")  # what a run writes before its run.json
PRODUCTS = ("export/config.json", "scores/scores.json", "negatives.run")  # what a finished run leaves for others


class State(NamedTuple):
    """What has to be done for a run.

    Attributes:
        name: ``finished``, ``to test``, ``running`` (another process), ``to resume`` or ``to run``.
        reason: why, in words.
    """

    name: str
    reason: str


def state(folder: Path, settings: dict[str, Any], tests: Sequence[dict[str, Any]] | None = None) -> State:
    """Say what has to be done for a run.

    Args:
        folder: the run's folder.
        settings: what the run is asked to be made with.
        tests: what it is asked to be tested on and how, for each split; None for a parent, of which its weights are used.

    Raises:
        ValueError: if the folder holds a run made with other settings, naming each difference, or files that are no run, or
            a finished run's export was changed.
    """
    record = read_record(folder)
    if record is None:
        refuse_occupied(folder)
        return State("to run", "no run yet")
    changed = changed_settings(record["settings"], settings)
    if changed:
        shown = "\n  ".join(changed[:12]) + (f"\n  and {len(changed) - 12} more" if len(changed) > 12 else "")
        fix = (
            "Ways out: take back the override, or put back a file that has changed; name another folder for the new run "
            "(run_name=..., for a teacher teacher.run=teacher/<name>/<name>, for the run that it follows follows_run=<name>, "
            "for an assistant teacher.assistant_run=<name>; paths.runs=runs/<name> keeps all runs on other data apart); or use "
            "this one as it is: "
            f"teacher.export={folder / 'export'}, or student.init_from=export:{folder / 'export'}."
        )
        raise ValueError(f"{folder} holds a run made with other settings (there -> asked for):\n  {shown}\n{fix}")
    if record["status"] == "finished":
        read_record(folder, "finished")
        if not any((folder / product).is_file() for product in PRODUCTS):
            raise ValueError(f"{folder} is a finished run without its export. Remove the folder to run it again.")
        require_as_written(folder / EXPORT)
        if tests is not None and (untested := _untested(record, tests)):
            return State("to test", f"finished {record['finished']}; {untested}: tested again")
        return State("finished", f"finished {record['finished']}, same settings")
    for left in ("checkpoints/last.ckpt", "scores", "vectors"):
        if (folder / left).exists():
            return State("to resume", f"stopped before its end; {folder / left} is there")
    return State("to run", "stopped before its first checkpoint")


def _untested(record: dict[str, Any], tests: Sequence[dict[str, Any]]) -> str:
    """Say why a finished run's test isn't the one that is asked for; nothing if it is."""
    if record.get("test_pending"):
        return "its last test didn't end"
    made = record.get("tests", [])
    if len(made) != len(tests):
        return f"other test settings ({len(made)} test splits -> {len(tests)})"
    changed = [row for old, new in zip(made, tests, strict=True) for row in changed_settings(old, new)]
    shown = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return f"other test settings ({shown})" if changed else ""


def refuse_occupied(folder: Path) -> None:
    """Refuse to run where something else is: a run writes into an empty folder, or one where a run was killed as it began.

    Raises:
        ValueError: naming what is there.
    """
    there = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path.name for path in there if path.name not in BEGUN and not is_unfinished(path))
    if found and holder(folder) is None:  # a run that is just starting holds its lock
        raise ValueError(
            f"{folder} holds {', '.join(found[:4])}{' and more' if len(found) > 4 else ''}, but no run (no run.json). "
            "Name another folder (run_name=..., teacher.run=teacher/<name>/<name>, follows_run=..., "
            "teacher.assistant_run=...), or move these away."
        )


def run_label(folder: Path) -> str:
    """Name a run (method, student, run name) or any other folder by the last parts of its path, as its test files do."""
    return "_".join(part for part in folder.parts[-3:] if part != folder.anchor)


READ = ("data.max_length", "stage.learns", "student.name", "teacher.name", "method", "run_name")  # of any run's config


def run_config(run: Path) -> DictConfig:
    """Read back the config that a run was prepared with.

    Raises:
        FileNotFoundError: if it isn't there.
        ValueError: if it is damaged.
    """
    file = run / ".hydra" / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: it holds the settings of the run. Put it back, or train the run again.")
    try:
        cfg = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        fault = str(error).partition("\n")[0]
    else:
        lacks = [key for key in READ if not isinstance(cfg, DictConfig) or OmegaConf.select(cfg, key) is None]
        if not lacks:
            return cfg
        fault = f"it lacks {', '.join(lacks)}"
    raise ValueError(f"{file} is damaged ({fault}): it holds the settings of the run. Put it back, or train the run again.")


def prepare(
    folder: Path, cfg: DictConfig, settings: dict[str, Any], parents: dict[str, Any], hydra: DictConfig | None,
    tests: Sequence[dict[str, Any]] = (),
) -> None:  # fmt: skip
    """Write ``.hydra/`` and a first ``run.json`` into a run folder that is locked and free, or whose run is to be tested again.

    Args:
        folder: the run folder.
        cfg: the job's config; references to the environment stay references.
        settings: what decides the run's outcome.
        parents: what it learns or starts from, by role.
        hydra: Hydra's own config, for a job that the command line describes; None for a parent.
        tests: what decides its tests. A finished run keeps its record, which says that its test is out of date by now.
    """
    target = folder / ".hydra"
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / "config.yaml", OmegaConf.to_yaml(cfg))
    before = read_record(folder) or {}
    if before.get("status") == "finished":
        record = before | {"test_pending": True}
    else:
        record = {"status": "prepared", "fingerprint": fingerprint(settings), "settings": settings, "parents": parents}
    told = {"tests": [*tests], "tests_fingerprint": fingerprint({"tests": [*tests]})}
    write_json(folder / "run.json", record | told)
    if hydra is not None:
        write_text(target / "overrides.yaml", OmegaConf.to_yaml(hydra.overrides.task))
        write_text(target / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})))


def discard_unstarted(folder: Path) -> None:
    """Remove what a run wrote that ended before its first checkpoint or scores: nothing in it could be continued or used."""
    parts = ("scores/*.parquet", "vectors/*/*.npz")
    if (folder / "checkpoints").is_dir() or any(part for pattern in parts for part in folder.glob(pattern)):
        return
    ours = [path for path in folder.iterdir() if path.name in WRITTEN or is_unfinished(path)]
    for path in sorted(ours, key=lambda path: path.name == "run.json"):  # last: without it, the rest would be a stranger's
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
