"""Jobs in fresh processes: parents and the jobs of a sweep share nothing but files.

A job is the config in its run folder; ``rankdistil.commands.job`` carries it out, once for each of its devices.
Launching with the sweep's own command line was rejected: child ranks of a distributed job would replay the whole sweep.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rankdistil.cli import FULL, SAID, ChildFailedError, wanted_full
from rankdistil.files import fingerprint, is_unfinished, write_json, write_text
from rankdistil.processes.stopping import PARENT, Stopped, stopped_by, wait_for
from rankdistil.runs.record import read_record

DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
TO_SAVE_S = 300  # so long an agent waits for processes that were asked to stop before it kills them
# What a run may have written before its first checkpoint; all else in its folder is the user's.
WRITTEN = (
    ".hydra", "run.json", "hparams.yaml", "metrics.csv", "wandb", "export", "tensorboard", "start", "valid.run", "scores",
    "trained_on.npy",
)  # fmt: skip


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
    if (folder / "checkpoints").is_dir() or any((folder / "scores").glob("*.parquet")):
        return
    ours = [path for path in folder.iterdir() if path.name in WRITTEN or is_unfinished(path)]
    for path in sorted(ours, key=lambda path: path.name == "run.json"):  # last: without it, the rest would be a stranger's
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def run_in_fresh_process(folder: Path, lock: int, number: int) -> None:
    """Carry out a prepared job in a process of its own, or in several that an agent of their own starts and ends.

    The child inherits the lock. Processes below an agent don't: they live no longer than it, which ends them, or whose end they
    notice. Signals are handed on to the child.

    Args:
        folder: the run folder.
        lock: descriptor of its lock.
        number: of processes.

    Raises:
        ChildFailedError: if it fails; it has printed its own message.
        Stopped: if it, or this process, was asked to stop.
    """
    environment = {key: value for key, value in os.environ.items() if key not in DISTRIBUTED and key != FULL}
    environment[PARENT] = str(os.getpid())
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(TO_SAVE_S))
    if wanted_full:
        environment[FULL] = "1"
    what = ["rankdistil.commands.job"] if number == 1 else ["rankdistil.processes.agent", str(number)]
    command = [sys.executable, "-m", *what, str(folder)]
    # In a session of its own, so that Ctrl-C doesn't reach it twice: from the terminal, and from here.
    try:
        code = wait_for(lambda: subprocess.Popen(command, env=environment, pass_fds=(lock,), start_new_session=True))
        if code:
            raise_for(folder, code)
    except Stopped as stopped:  # of several ranks none speaks of it, unless they have saved
        stopped.told = number == 1 or (read_record(folder) or {}).get("saved", False)
        raise


def raise_for(folder: Path, code: int) -> None:
    """Raise for a job that ended with an exit status that isn't 0.

    Raises:
        Stopped: if it, or one of its ranks, was asked to stop.
        ChildFailedError: if it failed.
    """
    signum = stopped_by(code)
    if code == SAID:  # maybe since it lost a rank that was; beside one that crashed, others are asked to stop by their agent
        signum = (read_record(folder) or {}).get("signal")
    if signum:
        raise Stopped(signum)
    if code < 0:
        name = signal.Signals(-code).name
        why = " The system does so where memory runs out." if name == "SIGKILL" else ""
        raise ChildFailedError(f"the job of {folder} was killed ({name}).{why} resume=true continues it.")
    raise ChildFailedError(f"the job of {folder} failed (exit status {code}); its message stands above.")
