"""A chain of three stages that is killed twenty times, wherever it is just then, ends with the files of one that wasn't.

``CHAIN_KILLS`` and ``CHAIN_SEED`` in the environment make a longer soak of it, with other moments.
"""

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from faulty import begin, end, kill_all, logged
from torch.utils._pytree import tree_leaves

pytestmark = pytest.mark.slow

CHAIN = ["+experiment=lm_ranker_distill_6l", "student=2l", "scale=smoke"]
STAGES = ["teacher/minilm/seed0", "lm_distill/2l/seed0", "lm_ranker_distill/2l/seed0"]
KILLS, SEED = int(os.environ.get("CHAIN_KILLS", "20")), int(os.environ.get("CHAIN_SEED", "20"))
TIMES = {"started", "finished", "wall_s", "train_s"}  # of run.json
NOT_BEGUN = -1


class Place(NamedTuple):
    """How far a chain is. Attributes: stage: its number; saved: steps in its last checkpoint, NOT_BEGUN before it trains."""

    stage: int
    saved: int


class Watch:
    """Looks at a chain's folder from outside.

    Args:
        runs: the folder.
        since: when this life of the chain began; what a former one left doesn't count as begun.
    """

    def __init__(self, runs: Path, since: float) -> None:
        self._runs, self._since = runs, since
        self._read: dict[Path, tuple[int, int]] = {}  # of each checkpoint when it was written, and the steps in it

    def place(self) -> Place:
        """Say how far it is."""
        for number, name in enumerate(STAGES):
            file = self._runs / name / "run.json"
            record = json.loads(file.read_text()) if file.is_file() else {}
            if record.get("status") == "finished":
                continue
            begun = record.get("status") == "running" and file.stat().st_mtime > self._since
            return Place(number, self._steps(self._runs / name / "checkpoints/last.ckpt") if begun else NOT_BEGUN)
        return Place(len(STAGES), NOT_BEGUN)

    def _steps(self, last: Path) -> int:
        if not last.is_file():
            return 0
        written = last.stat().st_mtime_ns
        if self._read.get(last, (0, 0))[0] != written:
            self._read[last] = written, torch.load(last, mmap=True, weights_only=True)["global_step"]
        return self._read[last][1]


def start(runs: Path) -> subprocess.Popen[str]:
    """Start the chain as its user does: resume=true as soon as the ranker itself has something to go on from."""
    more = ["resume=true"] if (runs / STAGES[-1] / "checkpoints/last.ckpt").is_file() else []
    return begin(runs, *CHAIN, *more)


def timed(runs: Path) -> list[tuple[float, Place]]:
    """Let a chain end by itself; return when it came to each place, in seconds, and when it ended."""
    began, watch = time.time(), Watch(runs, time.time())
    chain, passed = start(runs), [(0.0, watch.place())]
    while chain.poll() is None:
        if (now := watch.place()) != passed[-1][1]:
            passed.append((time.time() - began, now))
        time.sleep(0.01)
    ended = end(chain)
    assert ended.status == 0, ended.said
    return [*passed, (time.time() - began, watch.place())]


def live_until(runs: Path, moment: float, passed: list[tuple[float, Place]]) -> bool:
    """Go on with a chain until it is where one that nobody kills is at a moment; kill it; return whether it was under way.

    On a machine that is faster just now than it was, it is killed as soon as it is further than that.
    """
    at, place = [row for row in passed if row[0] <= moment][-1]
    watch = Watch(runs, time.time())
    chain = start(runs)
    while chain.poll() is None and watch.place() < place:
        time.sleep(0.01)
    late = time.monotonic() + moment - at
    while chain.poll() is None and time.monotonic() < late and watch.place() <= place:
        time.sleep(0.005)
    alive = chain.poll() is None
    kill_all(runs)
    ended = end(chain)
    assert ended.status == (-9 if alive else 0), ended.said
    return alive


@pytest.mark.fault("C1", "C2", "C4")
def test_a_chain_that_is_killed_at_twenty_random_moments_ends_with_the_files_of_one_that_was_left_alone(tmp_path: Path) -> None:
    whole, runs = tmp_path / "whole", tmp_path / "killed"
    passed = timed(whole)
    assert passed[-1][1] == Place(len(STAGES), NOT_BEGUN)
    draw, killed = random.Random(SEED), 0
    finished = next(at for at, place in passed if place.stage == len(STAGES))  # begun again behind it, a chain ends at once
    moments = sorted(draw.uniform(0, finished) for _ in range(KILLS))
    for moment in moments:
        killed += live_until(runs, moment, passed)
        print(f"{moment:.2f} of {finished:.2f} s: {Watch(runs, 0).place()}")
    ended = end(start(runs))
    assert ended.status == 0, ended.said
    assert killed == KILLS
    for name in STAGES:
        assert_same_run(runs / name, whole / name)


def assert_same_run(folder: Path, other: Path) -> None:
    """All that a run leaves is the same to the last bit, but for times and paths."""
    names = [{str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()} for top in (folder, other)]
    assert names[0] == names[1]
    same = {name for name in names[0] if name.startswith("export/") or Path(name).suffix in (".jsonl", ".run", ".npy")}
    for name in sorted(same - {"export/README.md"}):  # the card tells how fast the ranker is
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("last", "best"):
        leaves = [checkpoint(top / f"checkpoints/{name}.ckpt") for top in (folder, other)]
        assert leaves[0].keys() == leaves[1].keys()
        assert [key for key, value in leaves[0].items() if not _equal(value, leaves[1][key])] == []
    assert record(folder) == record(other)
    assert logged(folder) == logged(other)


def checkpoint(file: Path) -> dict[str, Any]:
    """Read all that a checkpoint holds, but for Lightning's counts of loops begun and what callbacks say of time and paths."""
    content = torch.load(file, weights_only=True)
    held = {key: value for key, value in content.items() if key not in ("loops", "callbacks")}
    return {f"{key}.{number}": leaf for key, value in held.items() for number, leaf in enumerate(tree_leaves(value))}


def _equal(one: Any, two: Any) -> bool:
    return torch.equal(one.view(torch.uint8), two.view(torch.uint8)) if torch.is_tensor(one) and one.ndim else one == two


def record(folder: Path) -> dict[str, Any]:
    """Read a run's record, without when it was made, and with its parents by their place among the runs."""
    content = json.loads((folder / "run.json").read_text().replace(str(folder.parents[2]), "runs"))
    return {key: value for key, value in content.items() if key not in TIMES}
