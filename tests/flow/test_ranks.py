"""Two processes that train together: one is asked to stop, fails, is killed or halted; judged from outside."""

import os
import signal
import time
from pathlib import Path

import pytest
from faulty import RUN, STEP, assert_same, checkpoint, end, left, record, start, train

from rankdistil.callbacks.checkpoints import require_whole
from rankdistil.files import is_unfinished

pytestmark = pytest.mark.slow

TWO = ["trainer=ddp_cpu"]
BOUND_S = 60
SAVING = "rankdistil.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs with one of two processes that nobody disturbed."""
    runs = tmp_path_factory.mktemp("whole")
    assert train(runs, *TWO).status == 0
    return runs


@pytest.mark.fault("E1", "E2", "E3")
def test_whatever_happens_to_a_rank_all_end_and_the_run_goes_on_as_if_nothing_had_been(whole: Path, tmp_path: Path) -> None:
    ended = train(tmp_path, *TWO, rank=1, at=STEP, call=2, do="signal SIGTERM")
    assert ended.status == 143
    assert "stopped by SIGTERM behind step 2 of 8: " in ended.said
    assert ended.said.count("stopped by") == 1, ended.said
    assert (checkpoint(tmp_path)["global_step"], record(tmp_path)["status"]) == (2, "stopped")

    ended = train(tmp_path, *TWO, "resume=true", rank=1, at=STEP, call=1, do="raise")
    assert (ended.status, ended.said) == (1, "error: a fault in rank 1\n")
    assert record(tmp_path)["status"] == "failed"
    assert not left(tmp_path)

    ended = train(tmp_path, *TWO, "resume=true", "checkpoint_every=1", rank=1, at=STEP, call=2, do="signal SIGKILL")
    assert (ended.status, checkpoint(tmp_path)["global_step"]) == (1, 3)
    assert "was ended by SIGKILL" in ended.said
    assert ended.said.count("error: ") == 1
    assert ended.seconds < BOUND_S
    assert not left(tmp_path)

    ended = train(tmp_path, *TWO, "resume=true", "trainer.timeout=20", rank=1, at=STEP, call=1, do="signal SIGSTOP")
    assert ended.status == 1
    assert ended.said.startswith(
        "error: rank 0 waits in vain for rank 1, which has ended, is halted, or takes longer than trainer.timeout=20 seconds. "
        "See what it last said; if it only needs longer, raise trainer.timeout; resume=true continues the run. ("
    )
    assert ended.seconds < 20 + BOUND_S
    assert ended.said.count("error: ") == 1
    assert not left(tmp_path)

    ended = train(tmp_path, *TWO, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)


@pytest.mark.fault("E1", "C7")
def test_a_rank_that_is_killed_while_another_one_saves_ends_all_and_the_checkpoint_is_whole(
    whole: Path, tmp_path: Path
) -> None:
    """Between validations, and behind one; what rank 0 has begun to write needs nobody else."""
    for more, call, steps in ([], 2, 2), (["resume=true"], 3, 4), (["resume=true"], 3, 7):
        ended = train(tmp_path, *TWO, "checkpoint_every=1", *more, at=SAVING, call=call, do="lose 1")
        assert ended.status == 1, ended.said
        assert "process 1 of 2 (pid " in ended.said
        assert "was ended by SIGKILL" in ended.said
        assert ended.said.count("error: ") == 1, ended.said
        assert ended.seconds < BOUND_S
        assert not left(tmp_path)
        assert not [path for path in tmp_path.rglob("*") if is_unfinished(path)]
        require_whole(tmp_path / RUN / "checkpoints/last.ckpt")
        assert checkpoint(tmp_path)["global_step"] == steps
    ended = train(tmp_path, *TWO, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)


@pytest.mark.fault("E3", "E6")
def test_a_signal_to_all_processes_at_once_stops_them_once(tmp_path: Path) -> None:
    """As a batch system sends it, loaders included; the checkpoint of two processes is then refused by one, and by three."""
    six = "data.batch_size=6"  # which one, two and three processes can share
    run = start(tmp_path, *TWO, "data.workers=1", six)
    while not (tmp_path / RUN / "checkpoints/last.ckpt").is_file():
        time.sleep(0.01)
        assert run.poll() is None, end(run)
    for row in left(tmp_path):
        os.kill(int(row.split()[0]), signal.SIGTERM)
    ended = end(run)
    assert ended.status == 143
    assert ended.seconds < 30
    assert ended.said.count("stopped by SIGTERM behind step ") == 1, ended.said
    assert not left(tmp_path)
    for devices in (1, 3):
        ended = train(tmp_path, *TWO, six, "resume=true", f"trainer.devices={devices}")
        assert ended.status == 1
        assert f"saved by 2 processes with 1 accumulated batches, and {devices} processes with 1" in ended.said
