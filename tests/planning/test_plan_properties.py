"""A chain of three runs, killed at any moments in any order: the plan is the same each time, and the files at its end."""

import json
import shutil
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import composed

from rankdistil.files import content, locked, sweep, write_json
from rankdistil.models.locate import account
from rankdistil.planning.plan import Step, make_plan
from rankdistil.runs.record import begun, discard_unstarted, prepare, state

CHAIN = ("+experiment=lm_ranker_distill_6l", "scale=smoke", "student=2l")
MOMENTS = 9  # of a run, see ``carry_out``


class Killed(Exception):
    """The process ends here, and writes nothing more."""


class Clock:
    """Counts the moments of a process, and kills it at one of them."""

    def __init__(self, kill: int | None) -> None:
        self._moments, self._kill = count(), kill

    def tick(self) -> None:
        if next(self._moments) == self._kill:
            raise Killed


def carry_out(step: Step, clock: Clock, trained: list[str], kind: bool) -> None:
    """Do to a folder what a run does to it, training left out: ``kind`` is an end that a run notices, as SIGTERM's."""
    folder = step.folder
    with locked(folder, wait=True):
        sweep(folder)
        clock.tick()
        now = state(folder, step.settings, step.tests)
        assert now.name in ("to run", "to resume")
        prepare(folder, step.cfg, step.settings, step.parents, None, step.tests)
        try:
            clock.tick()
            _run(step, clock, trained, now.name)
        except Killed:
            if kind:
                discard_unstarted(folder)
            raise


def _run(step: Step, clock: Clock, trained: list[str], begins: str) -> None:
    folder = step.folder
    record = begun(step.cfg, step.settings, step.parents) | {"origin": {}, "started": ""}
    last = folder / "checkpoints/last.ckpt"
    if begins == "to run":
        assert not last.exists()
        write_json(folder / "run.json", record)
        clock.tick()
        (folder / "metrics.csv").write_text("step\n")
        clock.tick()
        last.parent.mkdir()
        last.write_bytes(b"first")
        clock.tick()
    last.write_bytes(b"last")
    clock.tick()
    shutil.rmtree(folder / "export", ignore_errors=True)
    (folder / "export").mkdir()
    clock.tick()
    (folder / "export/config.json").write_text(json.dumps({"of": step.cfg.stage.name}))
    clock.tick()
    ended = {"status": "finished", "finished": "", "tests": step.tests, "export": account(folder / "export")}
    write_json(folder / "run.json", record | ended)
    trained.append(step.cfg.stage.name)
    clock.tick()


def held(runs: Path) -> dict[str, str]:
    """Return what all files hold."""
    return {
        str(path.relative_to(runs)): content(path)
        for path in sorted(runs.rglob("*"))
        if path.is_file() and path.name not in (".lock", "config.yaml")  # which name the folder
    }


def told(steps: list[Step]) -> list[tuple]:
    return [(step.folder.name, step.cfg.stage.name, step.settings, step.tests, step.parents) for step in steps]


def finish(runs: Path, kills: list[tuple[int, bool]]) -> tuple[list[tuple], list[str], dict[str, str]]:
    """Start the command until it ends, each time killed at the moment that is next; return plan, order of the ends, files."""
    shutil.rmtree(runs, ignore_errors=True)
    trained: list[str] = []
    plans = []
    for kill, kind in [*kills, (None, False)]:
        clock = Clock(kill)
        cfg = composed(*CHAIN, f"paths.runs={runs}", "resume=true")
        steps = make_plan(cfg, lambda parent: composed("scale=smoke", *parent))
        plans.append(told(steps))
        assert [step.state.name for step in steps[: len(trained)]] == ["finished"] * len(trained)
        assert all(step.state.name != "finished" for step in steps[len(trained) :])
        try:
            for step in steps[len(trained) :]:
                carry_out(step, clock, trained, kind)
        except Killed:
            continue
    assert all(plan == plans[0] for plan in plans)
    return plans[0], trained, held(runs)


KILLS = st.lists(st.tuples(st.integers(0, 3 * MOMENTS), st.booleans()), max_size=6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple]:
    """Return a folder of runs, and what a chain leaves there that nobody kills."""
    runs = tmp_path_factory.mktemp("chain") / "runs"
    plan, order, files = finish(runs, [])
    assert order == ["teacher", "lm_distill", "ranker_distill"]
    assert sum(name.endswith("export/config.json") for name in files) == 3
    return runs, (plan, order, files)


@settings(max_examples=4)
@given(KILLS)
@example([(moment, moment % 2 == 0) for moment in range(MOMENTS)])
def test_any_order_of_kills_ends_in_the_plan_the_order_and_the_files_of_none(whole: tuple, kills: list) -> None:
    runs, expected = whole
    assert finish(runs, kills) == expected
