"""What a run needs and doesn't get: memory, its loaders, a folder, a clock that goes on; and what must not matter to it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty import RUN, STEP, assert_same, checkpoint, end, left, record, start, train, with_fault
from support import MINILM, REPOSITORY

from rankdistil.metrics.ranking import read_run
from tests.faults.test_kills import words

pytestmark = pytest.mark.slow

SCORING = "rankdistil.stages.score_teacher:TextScoring.test_step"
LOSS = "rankdistil.modules.stage:FinetuneModule.loss"


@pytest.mark.fault("C10")
def test_without_memory_a_run_ends_with_what_to_lower(tmp_path: Path) -> None:
    ended = train(tmp_path, at=STEP, call=1, do="memory")  # before the optimiser asks for its own
    assert ended.status == 1, ended.said
    assert re.match(r"error: there is (probably )?no memory for more: ", ended.said), ended.said  # oneDNN doesn't say which
    assert "Lower data.batch_size" in ended.said
    assert ended.said.count("error: ") == 1
    assert not left(tmp_path)


@pytest.mark.fault("C10")
def test_a_loader_process_that_is_killed_ends_the_run_with_its_pid_and_leaves_none(tmp_path: Path) -> None:
    run = start(tmp_path, "data.workers=1", "stage.steps=2000", "stage.validations=500")
    while not (tmp_path / RUN / "checkpoints/last.ckpt").is_file():
        time.sleep(0.01)
        assert run.poll() is None, end(run)
    loaders = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    killed = [pid for pid in loaders if any(row.startswith(f"{pid} ") for row in left(tmp_path))]
    assert killed
    for pid in killed:
        os.kill(int(pid), signal.SIGKILL)
    ended = end(run)
    assert ended.status == 1, ended.said
    assert ended.seconds < 10
    assert any(f"DataLoader worker (pid {pid}) is killed by signal: Killed" in ended.said for pid in killed), ended.said
    assert ended.said.count("error: ") == 1
    assert record(tmp_path)["status"] == "failed"
    assert not left(tmp_path)


@pytest.mark.fault("C12")
def test_neither_the_clock_nor_the_times_of_files_matter(whole: Path, tmp_path: Path) -> None:
    ended = train(tmp_path, at=STEP, call=7, do="signal SIGKILL")
    assert ended.status == -signal.SIGKILL
    os.utime(tmp_path / RUN / "checkpoints/last.ckpt", (0, 0))  # the oldest file of all
    ended = train(tmp_path, "resume=true", "checkpoint_every=1", at=STEP, call=2, do="clock -86400")
    assert ended.status == 0, ended.said
    assert_same(tmp_path, whole)
    assert record(tmp_path)["wall_s"] >= 0


@pytest.mark.fault("C13")
def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    if os.access(place, os.W_OK):  # root writes anywhere but into the kernel's own folders
        place = Path("/sys/kernel")
    ended = train(place / "runs")
    assert ended.status == 1
    assert ended.said.startswith("error: ")
    assert str(place / "runs") in ended.said
    assert ended.said.count("error: ") == 1
    assert "Traceback" not in ended.said


@pytest.mark.fault("D1", "D2")
def test_a_loss_that_is_no_number_in_one_process_stops_both_with_one_message(tmp_path: Path) -> None:
    ended = train(tmp_path, "trainer=ddp_cpu", rank=1, at=LOSS, call=6, do="poison")
    assert ended.status == 1
    *_, told = ended.said.splitlines()
    assert told.startswith("error: step 6 of 8: the gradient's norm is nan, the loss nan: stopped before the update"), (
        ended.said
    )
    assert ended.said.count("error: ") == 1
    assert f"The last finite checkpoint is {tmp_path / RUN}/checkpoints/" in ended.said
    for name in ("last", "best"):
        saved = checkpoint(tmp_path, name)
        assert saved["global_step"] == 4
        assert all(value.isfinite().all() for value in saved["state_dict"].values())
    assert not left(tmp_path)


@pytest.mark.fault("D6", "F6")
def test_the_same_seed_gives_the_same_bits_with_other_loaders_and_nearly_the_same_with_other_threads(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = train(tmp_path / "loaders", "data.workers=2")
    assert ended.status == 0, ended.said
    assert_same(tmp_path / "loaders", whole)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    ended = train(tmp_path / "threads", "trainer.precision=32-true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plain = train(tmp_path / "plain", "trainer.precision=32-true")
    assert (ended.status, plain.status) == (0, 0)
    one, four = (scores(tmp_path / name) for name in ("plain", "threads"))
    assert one.keys() == four.keys()
    assert max(abs(one[pair] - four[pair]) for pair in one) < 2e-3  # eight steps of rounding


@pytest.mark.fault("C5")
def test_a_teacher_that_is_stopped_while_it_scores_goes_on_and_writes_what_one_left_alone_writes(tmp_path: Path) -> None:
    data = words(tmp_path / "data")[:-1]
    settings = [*data, f"data.root={tmp_path / 'data'}", "teacher.kind=bi_encoder", f"teacher.path={MINILM}"]
    settings = [word for word in settings if "accumulate" not in word]
    line = [sys.executable, str(REPOSITORY / "train.py"), "+experiment=score_teacher", "scale=smoke", *settings]
    written = {}
    for name, fault in (("whole", {}), ("stopped", {"at": SCORING, "call": 1, "do": "signal SIGTERM"}), ("stopped", {})):
        runs = tmp_path / name
        more = ["resume=true"] if (runs / "score_teacher").exists() and any(runs.rglob("run.json")) else []
        done = subprocess.run(
            [*line, *more, f"paths.runs={runs}"], cwd=REPOSITORY, env=with_fault(runs, **fault), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == (143 if fault else 0), done.stderr
        if fault:
            assert "stopped by SIGTERM" in done.stderr
        else:
            written[name] = [path.read_bytes() for path in sorted(runs.rglob("*.parquet"))]
    assert written["whole"] == written["stopped"]
    assert written["whole"]


def scores(runs: Path) -> dict[tuple[str, str], float]:
    return {(query, hit.passage_id): hit.score for query, row in read_run(runs / RUN / "test.run").items() for hit in row}
