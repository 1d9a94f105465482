"""The thread that looks after the other ranks of a run."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from rankdistil.processes import group as rank_group
from rankdistil.processes import ranks

ENDING = (
    "import types\nfrom torch.distributed import TCPStore\nfrom rankdistil.processes import group, ranks\n"
    "store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
    "ranks.current = lambda: ranks.Rank(0, 2, 2, 0)\n"
    "group.join = lambda *_: types.SimpleNamespace(store=store)\n"
    "group.LONGEST_BEAT_S = 0\n"  # it is inside of the store all the time
    "group.watch(60)\nprint('done')\n"
)


def test_the_thread_has_ended_before_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ending, seen = [], []
    store = SimpleNamespace(set=lambda key, told: seen.append(key), check=lambda keys: False)
    for owner, name, value in (
        (ranks, "current", lambda: ranks.Rank(0, 2, 2, 0)), (rank_group, "join", lambda *_: SimpleNamespace(store=store)),
        (rank_group.atexit, "register", ending.append), (rank_group, "_threads", []), (rank_group, "LONGEST_BEAT_S", 0.001),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, value)
    rank_group.watch(60.0)
    (thread,), (end,) = rank_group._threads, ending
    assert thread.is_alive()
    end()
    assert not thread.is_alive()
    assert {*seen} <= {"place/0"}
    rank_group._ended.clear()


@pytest.mark.slow
def test_a_run_that_is_done_ends_well_though_its_ranks_are_still_looked_after() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
