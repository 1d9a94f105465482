"""Runs that are started as a user starts them, with a fault inside of them, and judged from outside."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from support import REPOSITORY
from torch.utils._pytree import tree_leaves

FAULTS = Path(__file__).parent / "faults"
STEP = "rankdistil.callbacks.steps:StreamPosition.on_train_batch_start"
VALIDATION = "rankdistil.callbacks.measurements:RankingMetrics.on_validation_batch_end"
SMALL = [
    "+experiment=finetune_6l",
    "student=2l",
    "scale=smoke",
    "stage.steps=8",
    "stage.validations=2",
    "data.eval_batch_size=4",
]
RUN = "finetune/2l/seed0"


class Ended(NamedTuple):
    """Attributes: status: exit status; said: on stderr; printed: on stdout; seconds: since the fault happened, if one did."""

    status: int
    said: str
    printed: str
    seconds: float


def start(runs: Path, *arguments: str, **fault: object) -> subprocess.Popen[str]:
    """Start a small student's stage; ``fault`` as in faults/sitecustomize.py."""
    return begin(runs, *SMALL, *arguments, **fault)


def begin(runs: Path, *arguments: str, within: Sequence[str] = (), **fault: object) -> subprocess.Popen[str]:
    """Start train.py in a session of its own, by another command if one is given."""
    environment = with_fault(runs, **fault)
    line = [*within, sys.executable, str(REPOSITORY / "train.py"), *sorted([f"paths.runs={runs}", *arguments], key=_is_no_flag)]
    return subprocess.Popen(
        line, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def with_fault(runs: Path, **fault: object) -> dict[str, str]:
    """Return an environment in which a fault happens, if one is given."""
    environment = dict(os.environ)
    if fault:
        environment["FAULT"] = json.dumps(fault | {"mark": str(_mark(runs))})
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FAULTS), environment.get("PYTHONPATH")]))
    return environment


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a process."""
    began = time.time()
    printed, said = process.communicate(timeout=300)
    return Ended(process.returncode, said, printed, time.time() - began)


def train(runs: Path, *arguments: str, **fault: object) -> Ended:
    """Run a small student's stage to its end."""
    ended = end(start(runs, *arguments, **fault))
    return ended._replace(seconds=time.time() - _mark(runs).stat().st_mtime) if fault else ended


def _is_no_flag(argument: str) -> bool:
    return not argument.startswith("-")


def _mark(runs: Path) -> Path:
    return runs.with_name(f"{runs.name}.fault")


def left(runs: Path) -> list[str]:
    """List the processes that work in a folder of runs, by their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has just ended
            continue
        if str(runs) in line and f"/{os.getpid()}" != str(process)[5:]:
            found.append(f"{process.name} {line}")
    return found


def kill_all(runs: Path) -> None:
    """Kill what works in a folder of runs, those first that start others: jobs are in sessions of their own."""
    while found := left(runs):
        for row in sorted(found, key=lambda row: "train.py" not in row):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(row.split()[0]), signal.SIGKILL)


def processes(runs: Path, what: str) -> dict[str, int]:
    """Find a run's processes by what stands on their command line: process id by RANK (empty without one)."""
    found = {}
    for row in left(runs):
        number, _, line = row.partition(" ")
        if what in line:
            environment = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            rank = next((item[5:].decode() for item in environment if item.startswith(b"RANK=")), "")
            found[rank] = int(number)
    return found


def record(runs: Path) -> dict:
    return json.loads((runs / RUN / "run.json").read_text())


def checkpoint(runs: Path, name: str = "last") -> dict:
    return torch.load(runs / RUN / f"checkpoints/{name}.ckpt", weights_only=True)


def _equal(one: object, two: object) -> bool:
    return torch.equal(one, two) if torch.is_tensor(one) else one == two


def assert_same(runs: Path, other: Path) -> None:
    """The last and the best checkpoint, and what was written of the test, are the same to the last bit."""
    for name in ("last", "best"):
        one, two = checkpoint(runs, name), checkpoint(other, name)
        assert one["global_step"] == two["global_step"]
        assert one["state_dict"].keys() == two["state_dict"].keys()
        for key in ("state_dict", "optimizer_states", "lr_schedulers"):
            leaves = [tree_leaves(content[key]) for content in (one, two)]
            assert all(_equal(*pair) for pair in zip(*leaves, strict=True))
    for name in ("metrics.json", "test.run", "export/model.safetensors"):
        assert (runs / RUN / name).read_bytes() == (other / RUN / name).read_bytes()
    assert logged(runs / RUN) == logged(other / RUN)


def logged(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a run's metrics.csv, without how fast it went; nothing else is left of what it logged."""
    assert [path.name for path in folder.glob("metrics*.csv")] == ["metrics.csv"]
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "train/pairs_per_second"} for row in csv.DictReader(file)]
