"""Bad input gets one message and exit status 1, and leaves nothing behind."""

from pathlib import Path

import pytest
from commands import command


def answer(tmp_path: Path, script: str, *arguments: str) -> str:
    """Run a command that must fail; return its message."""
    where = f"paths.runs={tmp_path / 'runs'}" if script == "train.py" else f"paths.evaluations={tmp_path / 'evaluations'}"
    done = command(script, *arguments, where, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir()), "something was left behind"
    assert done.stderr.count("error: ") == 1
    return done.stderr.partition("error: ")[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["+experiment=nope"], ["Could not find 'experiment/nope'", "ranker_distill_6l", "smoke", "teacher"]),
        (["+experiment=smoke", "data=nope"], ["Could not find 'data/nope'", "almanac", "files", "msmarco_passage"]),
        (["+experiment=smoke", "student=nope"], ["Could not find 'student/nope'", "2l", "6l"]),
        (["+experiment=smoke", "trainer.max_epochz=3"], ["setting 'trainer.max_epochz'. Did you mean 'trainer.max_epochs'?"]),
        (["+experiment=smoke", "stage.lrr=1"], ["there is no setting 'stage.lrr'. Did you mean 'stage.lr'?"]),
        (["+experiment=smoke", "loss=gbce"], ["loss=<name> chooses the one loss of stage score_distill, and this command has"]),
        (["+experiment=finetune_6l", "student.init_from=wiki"], ["student.init_from is 'wiki'; expected one of random, "]),
        (["+experiment=smoke", "teacher.path=package:no_such/model"], ["pip install no-such"]),
        (
            ["+experiment=finetune_6l", "+search=lr", "plan=show"],
            ["plan=show has nothing to tell of +search=lr, which chooses "],
        ),
        (["+experiment=smoke", "data=files"], ["data.root is not set. Give it on the command line: data.root=<value>."]),
        (
            ["+experiment=smoke", "callbacks.inference_time.backends=[onnx]"],
            ["callbacks.inference_time has backends=['onnx'], dtypes=['float32']; a run is timed when it has no graphs yet"],
        ),
        (
            ["+experiment=smoke", "callbacks.inference_time=null", "callbacks.inference_time.queries=1"],
            ["callbacks.inference_time.queries can't be set beside callbacks.inference_time=null, which leaves nothing there"],
        ),
    ],
)
@pytest.mark.fault("A1", "A3")
def test_training_says_what_is_wrong(tmp_path: Path, arguments: list[str], expected: list[str]) -> None:
    message = answer(tmp_path, "train.py", *arguments)
    assert all(part in message for part in expected), message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["models is not set. Give it on the command line: models=<value>."]),
        (["models=http://host/model"], ["is a URL"]),
        (["models=a", "hydra.run.dir=x"], ["hydra.run.dir=x names no folder here. Its place is named by folder=<name> and "]),
        (["models=a", "trainer=ddp_cpu"], ["in one process, but trainer.devices=2 asks for 2. Use trainer=cpu or trainer=gpu"]),
    ],
)
@pytest.mark.fault("G2")
def test_evaluation_says_what_is_wrong(tmp_path: Path, arguments: list[str], expected: list[str]) -> None:
    message = answer(tmp_path, "evaluate.py", *arguments)
    assert all(part in message for part in expected), message
