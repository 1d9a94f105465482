"""A run that is asked to stop: what it saves, how it ends, and that it goes on as if nothing had been."""

import os
import signal
import time
from pathlib import Path

import pytest
from faulty import RUN, STEP, VALIDATION, assert_same, checkpoint, end, left, processes, record, start, train

from rankdistil.files import holder, is_unfinished

pytestmark = pytest.mark.slow

SAVING = "rankdistil.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint"
EXPORT = "rankdistil.callbacks.checkpoints:write_export"
TEST = "rankdistil.stages.test:load_ranker"


@pytest.mark.fault("C5", "C6")
def test_a_run_that_each_signal_stops_in_turn_ends_as_one_that_was_left_alone(whole: Path, tmp_path: Path) -> None:
    last = tmp_path / RUN / "checkpoints/last.ckpt"
    saved = f"{last} is saved. Continue with the same command and resume=true.\n"
    stops = [  # more arguments, fault, exit status, signal, steps saved
        ([], {"at": STEP, "call": 2, "do": "signal SIGTERM"}, 143, "SIGTERM", 2),  # nothing has been saved so far
        (["resume=true"], {"at": VALIDATION, "call": 3, "do": "signal SIGINT"}, 130, "SIGINT", 4),
    ]
    for arguments, fault, status, name, steps in stops:
        ended = train(tmp_path, *arguments, **fault)
        assert ended.status == status, ended.said
        assert ended.said.endswith(f"stopped by {name} behind step {steps} of 8: {saved}"), ended.said
        assert ended.said.count("stopped by") == 1
        assert ended.seconds < 30
        assert record(tmp_path)["status"] == "stopped"
        assert record(tmp_path)["signal"] == status - 128
        assert checkpoint(tmp_path)["global_step"] == steps
    ended = train(tmp_path, "resume=true", at=STEP, call=1, do="twice SIGUSR2")
    assert ended.status == 140
    assert ended.seconds < 10
    assert "is saved" not in ended.said
    assert checkpoint(tmp_path)["global_step"] == 4  # whole, and the one that the repeated validation left
    ended = train(tmp_path, "resume=true", at=TEST, call=1, do="signal SIGUSR1")
    assert ended.status == 138
    assert ended.said.endswith("stopped by SIGUSR1. Run the same command again, with resume=true if it left a checkpoint.\n")
    assert (record(tmp_path)["status"], checkpoint(tmp_path)["global_step"]) == ("stopped", 8)
    ended = train(tmp_path, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)


@pytest.mark.fault("C1", "C2")
def test_a_run_that_is_killed_again_and_again_between_validations_ends_as_one_that_was_left_alone(
    whole: Path, tmp_path: Path
) -> None:
    """Behind a step, as it goes on, and while a checkpoint takes the last one's place; what was saved counts each time."""
    kills = [
        ([], STEP, 3, 2), (["resume=true"], STEP, 2, 3), (["resume=true"], SAVING, 3, 4),
        (["resume=true", "checkpoint_every=2"], STEP, 3, 6),
    ]  # fmt: skip
    for more, at, call, steps in kills:
        ended = train(tmp_path, "checkpoint_every=1", *more, at=at, call=call, do="signal SIGKILL")
        assert ended.status == -signal.SIGKILL, ended.said
        assert checkpoint(tmp_path)["global_step"] == steps
    ended = train(tmp_path, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)
    ended = train(tmp_path, "checkpoint_every=3")
    assert (ended.status, "same settings: nothing to do." in ended.printed) == (0, True)


@pytest.mark.fault("C8", "H3")
def test_where_there_is_no_room_nothing_is_half_written_and_the_run_goes_on_once_there_is(whole: Path, tmp_path: Path) -> None:
    """For a checkpoint, for the one of a run that was asked to stop as well, and for an export."""
    kept = tmp_path / RUN / "checkpoints"
    for more, at, call, do, what in (
        ([], STEP, 7, "full", kept / "last.ckpt"),
        (["resume=true"], STEP, 2, "full SIGTERM", kept / "last.ckpt"),
        (["resume=true"], EXPORT, 1, "full", tmp_path / RUN / "export"),
    ):
        ended = train(tmp_path, *more, at=at, call=call, do=do)
        assert ended.status == 1
        *_, told = ended.said.splitlines()
        assert told.startswith(f"error: a file is larger than this user's may be (ulimit -f): {what} needs at least "), (
            ended.said
        )
        assert record(tmp_path)["status"] == "failed"
        assert f"error: {record(tmp_path)['error']}" == told
        assert checkpoint(tmp_path)["global_step"] == (8 if at == EXPORT else 4)
        assert not (tmp_path / RUN / "export").exists()
        assert not [path for path in tmp_path.rglob("*") if is_unfinished(path)]
    ended = train(tmp_path, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)


@pytest.mark.fault("C5")
def test_a_signal_before_training_leaves_nothing(tmp_path: Path) -> None:
    ended = train(tmp_path, at="rankdistil.stages.train:load_tokenizer", call=1, do="signal SIGTERM")
    assert ended.status == 143
    assert not (tmp_path / "finetune").exists()


@pytest.mark.fault("A12")
def test_ctrl_c_reaches_the_job_of_a_sweep_once_and_the_next_job_does_not_start(tmp_path: Path) -> None:
    sweep = start(tmp_path, "-m", "seed=0,1")
    while not (tmp_path / RUN / "checkpoints/last.ckpt").is_file():
        time.sleep(0.01)
        assert sweep.poll() is None, end(sweep)
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
    ended = end(sweep)
    assert ended.status == 130
    assert ended.seconds < 30
    assert ended.said.count("stopped by SIGINT behind step ") == 1, ended.said
    assert not (tmp_path / "finetune/2l/seed1").exists()
    assert not left(tmp_path)


def test_a_job_whose_orchestrator_is_killed_saves_and_gives_the_folder_free(tmp_path: Path) -> None:
    sweep = start(tmp_path, "-m", "seed=0,1", "stage.steps=2000", "stage.validations=500")
    while not (tmp_path / RUN / "checkpoints/last.ckpt").is_file():
        time.sleep(0.01)
        assert sweep.poll() is None, end(sweep)
    assert processes(tmp_path, "rankdistil.commands.job")
    sweep.kill()
    began = time.monotonic()
    sweep.communicate(timeout=60)
    while left(tmp_path) and time.monotonic() - began < 60:
        time.sleep(0.05)
    assert not left(tmp_path)
    assert holder(tmp_path / RUN) is None
    assert record(tmp_path)["status"] == "stopped"
