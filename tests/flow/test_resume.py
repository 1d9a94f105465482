"""A killed run: what the same command says, and what resume=true does."""

import signal
import time
from pathlib import Path

import pytest
import torch
from commands import command, start

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


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_never_killed(killed: Path, tmp_path: Path) -> None:
    for runs in (killed, tmp_path):
        done = command(*train(runs, "resume=true"))
        assert done.returncode == 0, done.stderr
        afresh = f"resume=true: {runs / RUN} holds nothing to continue" in done.stdout.replace("\n", "")
        assert afresh is (runs == tmp_path)
    resumed, whole = (torch.load(runs / RUN / "checkpoints/last.ckpt", weights_only=True) for runs in (killed, tmp_path))
    assert resumed["global_step"] == whole["global_step"] == 24
    assert resumed["state_dict"].keys() == whole["state_dict"].keys()
    assert all(torch.equal(value, resumed["state_dict"][key]) for key, value in whole["state_dict"].items())
