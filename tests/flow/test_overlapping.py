"""Faults that meet: a run killed again while it takes up what a kill left, a disk that is full as a signal asks to save."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from faulty import RUN, SMALL, STEP, assert_same, begin, checkpoint, end, record, train

from rankdistil.callbacks.checkpoints import require_whole
from rankdistil.files import is_unfinished

pytestmark = pytest.mark.slow

SAVING = "rankdistil.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint"
LOADING = "rankdistil.callbacks.checkpoints:AtomicCheckpointIO.load_checkpoint"
TAKING_UP = "rankdistil.callbacks.checkpoints:RunCheckpoint.load_state_dict"  # the best one's, then the last one's
LOGGING = "rankdistil.stages.train:repeats_validation"  # asked while metrics.csv stands aside
RECORDING = "rankdistil.commands.train:prepare"


@pytest.mark.fault("C1", "C2", "C7")
def test_a_run_that_is_killed_while_it_is_resumed_ends_as_one_that_was_left_alone(whole: Path, tmp_path: Path) -> None:
    """As it takes up its record, its log and its state, half of that in place, and behind the first checkpoint it saves."""
    begun, go_on = ["checkpoint_every=3"], ["resume=true", "checkpoint_every=1"]
    kills = [
        (begun, SAVING, 1, True, 3),  # behind step 3, before any validation
        (go_on, RECORDING, 1, True, 3), (go_on, LOADING, 1, True, 3), (go_on, TAKING_UP, 2, False, 3),
        (go_on, SAVING, 2, True, 4), (go_on, LOGGING, 1, False, 4), (go_on, LOADING, 1, False, 4), (go_on, SAVING, 1, True, 5),
        (go_on, TAKING_UP, 1, True, 5),
    ]  # fmt: skip
    for more, at, call, behind, steps in kills:
        ended = train(tmp_path, *more, at=at, call=call, behind=behind, do="signal SIGKILL")
        assert ended.status == -signal.SIGKILL, ended.said
        require_whole(tmp_path / RUN / "checkpoints/last.ckpt")
        assert checkpoint(tmp_path)["global_step"] == steps
    ended = train(tmp_path, "resume=true")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)


@pytest.mark.fault("C5", "C8")
def test_a_disk_that_is_full_as_a_signal_asks_for_a_checkpoint_keeps_the_one_before(whole: Path, tmp_path: Path) -> None:
    """A disk that only this process sees, of two checkpoints and a half."""
    runs, left = tmp_path / "small", tmp_path / "left"
    runs.mkdir()
    parts = [whole / RUN / "checkpoints/last.ckpt", *(whole / RUN / "export").iterdir()]  # of the start there is an export, too
    size = int(sum(path.stat().st_size for path in parts) + 1.5 * parts[0].stat().st_size)
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={size} none {runs}"
    if shutil.which("unshare") is None or subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    script = f'{mount} && "$@"; status=$?; cp -a {runs} {left}; exit $status'
    ended = end(begin(runs, *SMALL, within=[*inside, script, "sh"], at=STEP, call=6, do="signal SIGTERM"))
    assert ended.status == 1, ended.said
    *_, told = ended.said.splitlines()
    last = RUN + "/checkpoints/last.ckpt"
    assert told.startswith(f"error: the disk {runs} is full: {runs / last} needs at least "), told
    assert told.endswith(
        f" are free on its disk, {runs}. Make room, and start the same command again, a training that left a checkpoint with "
        "resume=true. Nothing is half-written: what stood there before still does."
    )
    assert record(left)["status"] == "failed"
    assert not [path for path in left.rglob("*") if is_unfinished(path)]
    require_whole(left / last)
    assert checkpoint(left)["global_step"] == 4
    ended = train(left, "resume=true")  # where there is room
    assert ended.status == 0, ended.said
    assert_same(left, whole)
