"""A student that an assistant teaches, as a user runs it: what is trained, what it says, and what it is held against."""

import json
from pathlib import Path

import pytest
from commands import command

pytestmark = pytest.mark.slow  # three runs

TEACHER, ASSISTANT, STUDENT = "teacher/minilm/seed0", "ranker_distill/4l/seed0", "assistant/2l/seed0"


def test_an_assistant_is_trained_between_teacher_and_student_and_the_teacher_stays_the_measure(tmp_path: Path) -> None:
    words = ["scale=smoke", "stage.averaging=0.5", f"paths.runs={tmp_path}"]
    done = command("train.py", "+experiment=assistant_2l", *words, timeout=600)
    assert done.returncode == 0, done.stderr
    records = {str(file.parent.relative_to(tmp_path)): json.loads(file.read_text()) for file in tmp_path.glob("*/*/*/run.json")}
    assert records.keys() == {TEACHER, ASSISTANT, STUDENT}
    own, between = records[STUDENT], records[ASSISTANT]
    assert own["parents"] == {"assistant": {"source": f"{tmp_path}/{ASSISTANT}/export", "fingerprint": between["fingerprint"]}}
    assert own["learnt_from"] == f"{ASSISTANT}, an assistant of {TEACHER}"
    assert own["started_from"] == "cut out of the assistant ranker_distill_6l 4l"
    assert (between["shape"]["layers"], between["shape"]["width"], between["learnt_from"]) == (4, 96, TEACHER)
    assert [record["settings"].get("stage.averaging") for record in (between, own)] == [None, 0.5]
    card = (tmp_path / STUDENT / "export/README.md").read_text()
    assert f"| learnt from | {own['learnt_from']} |" in card
    assert "of the teacher's gain" in card
    timed = json.loads((tmp_path / STUDENT / "latency.json").read_text())["rows"]
    assert {row["ranker"] for row in timed} == {"ranker", "teacher"}
    assert (tmp_path / STUDENT / "start/metrics.json").is_file()  # a cut ranks already
    own_run = ["+experiment=ranker_distill_6l", "student=4l", "scale=smoke", f"paths.runs={tmp_path}", "plan=show"]
    assert command("train.py", *own_run).stdout.splitlines()[-1] == "nothing is left to run."
