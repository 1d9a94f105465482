"""A killed run: what the same command says, and what resume=true does."""

import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from commands import command, start
from faulty import logged

TRAIN = ["train.py", "+experiment=finetune_6l", "student=2l", "scale=smoke"]
LONGER = ["stage.steps=24", "stage.validations=8"]
RUN = "finetune/2l/seed0"


def train(runs: Path, *arguments: str) -> list[str]:
    return [*TRAIN, *LONGER, f"paths.runs={runs}", *arguments]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs with one run that was killed after its first checkpoint."""
    runs = tmp_path_factory.mktemp("killed")
    last = runs / RUN / "checkpoints/last.ckpt"
    process = start(*train(runs), said=tmp_path_factory.mktemp("said"))
    while not last.is_file() and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(last, weights_only=True)["global_step"] < 24
    return runs


def test_without_resume_the_killed_run_is_refused_with_the_fix(killed: Path) -> None:
    done = command(*train(killed))
    assert done.returncode == 1
    assert "Add resume=true to continue it, or remove the folder to start again." in done.stderr


@pytest.mark.fault("C9")
def test_a_damaged_checkpoint_is_told_with_the_one_to_go_on_from_and_nothing_is_changed(killed: Path) -> None:
    last, best = (killed / RUN / f"checkpoints/{name}.ckpt" for name in ("last", "best"))
    whole, record = last.read_bytes(), (killed / RUN / "run.json").read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    done = command(*train(killed, "resume=true"))
    last.write_bytes(whole)
    step = torch.load(best, weights_only=True)["global_step"]
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {last} is damaged: it has lost its end or was changed (File is not a zip file). {best} is whole, of step "
        f"{step}: to go on from there, cp {best} {last}. Or remove {killed / RUN}.\n"
    )
    assert (killed / RUN / "run.json").read_bytes() == record


def flip(file: Path) -> None:
    """Change one bit of the weights, in the middle of the file."""
    with file.open("r+b") as held:
        held.seek(file.stat().st_size // 2)
        byte = held.read(1)[0]
        held.seek(-1, 1)
        held.write(bytes([byte ^ 1]))


@pytest.mark.fault("C9")
def test_a_damaged_best_checkpoint_is_told_before_the_run_goes_on(killed: Path) -> None:
    best, record = killed / RUN / "checkpoints/best.ckpt", (killed / RUN / "run.json").read_bytes()
    flip(best)
    done = command(*train(killed, "resume=true"))
    flip(best)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {best}, the run's best checkpoint so far, is damaged: its part archive/data/")
    assert done.stderr.endswith(f"Put it back from a copy of the run, or remove {killed / RUN} to start again.\n")
    assert (killed / RUN / "run.json").read_bytes() == record


@pytest.mark.fault("A10")
def test_other_settings_are_not_resumed_and_each_is_named(killed: Path) -> None:
    record = (killed / RUN / "run.json").read_bytes()
    done = command(*train(killed, "resume=true", "stage.lr=0.5", "data.batch_size=4", "seed=99", "run_name=seed0"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {killed / RUN} "), done.stderr
    for changed in ("\n  data.batch_size: 2 -> 4\n", "\n  seed: 0 -> 99\n", " -> 0.5\n"):
        assert changed in done.stderr
    assert (killed / RUN / "run.json").read_bytes() == record


@pytest.mark.fault("A8")
def test_where_nothing_was_begun_there_is_nothing_to_resume(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)  # beside a run that could go on
    done = command(*train(tmp_path, "resume=true", "run_name=sed0"))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: resume=true: nothing to resume in {tmp_path}/finetune/2l/sed0 (no run yet). See to the run's name and place "
        "(run_name, method, paths.runs), or leave resume=true out to begin.\n"
    )
    assert [path.name for path in tmp_path.glob("*/*/*")] == ["seed0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs with one that nobody disturbed."""
    runs = tmp_path_factory.mktemp("whole")
    done = command(*train(runs))
    assert done.returncode == 0, done.stderr
    return runs


def test_a_killed_run_that_was_moved_ends_with_the_files_of_one_that_was_left_alone(
    killed: Path, whole: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere/runs"
    shutil.copytree(killed, moved)
    killed.rename(killed.with_name("gone"))  # nothing is found at the old place
    done = command(*train(moved, "resume=true"))
    killed.with_name("gone").rename(killed)
    assert done.returncode == 0, done.stderr
    resumed, other = (torch.load(runs / RUN / "checkpoints/last.ckpt", weights_only=True) for runs in (moved, whole))
    assert resumed["global_step"] == other["global_step"] == 24
    assert resumed["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(value, resumed["state_dict"][key]) for key, value in other["state_dict"].items())
    for name in ("export/model.safetensors", "export/tokenizer.json", "valid.run", "test.run", "metrics.json"):
        assert (moved / RUN / name).read_bytes() == (whole / RUN / name).read_bytes(), name
    assert logged(moved / RUN) == logged(whole / RUN)


def test_a_finished_run_s_export_that_was_changed_is_told_wherever_it_is_named(whole: Path, tmp_path: Path) -> None:
    export = whole / RUN / "export"
    flip(export / "model.safetensors")
    further = ["+experiment=finetune_6l", "student=2l", "scale=smoke", f"paths.runs={tmp_path}"]
    commands = [
        train(whole),
        ["train.py", *further, f"student.init_from=export:{export}"],
        ["evaluate.py", f"models={whole}/*/*/*", f"paths.evaluations={tmp_path}"],
        ["-m", "rankdistil.export", f"run={whole / RUN}", "to=int8"],
    ]
    told = [command(*words) for words in commands]
    flip(export / "model.safetensors")
    for done in told:
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {export}/model.safetensors was changed (sha256 "), done.stderr
        assert done.stderr.endswith("a ranker that is changed on purpose goes into a folder of its own.\n")
    assert not any(tmp_path.iterdir())
