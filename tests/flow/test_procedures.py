"""Several procedures in one sweep, as a user runs them: parents are trained once, and every run says where it comes from."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import command
from safetensors.torch import load_file
from support import PROCEDURES as SWEEP
from support import REPOSITORY

pytestmark = pytest.mark.slow

TEACHER, LM, STEP = "teacher/minilm/seed0", "lm_distill/2l/seed0", "lm_layer_distill/2l/seed0"
RANKERS = ("lm_finetune/2l/seed0", "lm_two_step/2l/seed0", "ranker_distill/2l/seed0")
KEPT = "export/model.safetensors", "metrics.csv"
TESTED = {"metrics.json", "per_query.jsonl", "test.run", "latency.json"}


def train(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return command("train.py", *arguments, cwd=cwd, timeout=600)


@pytest.fixture(scope="module")
def runs(procedures: Path) -> Path:
    return procedures


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def records(runs: Path) -> dict[str, str]:
    return {str(file.parent.relative_to(runs)): file.read_text() for file in runs.glob("*/*/*/run.json")}


def logged(folder: Path, key: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row[key]]


def test_three_procedures_and_three_parents_leave_six_finished_runs(runs: Path) -> None:
    found = records(runs)
    assert found.keys() == {TEACHER, LM, STEP, *RANKERS}
    assert {json.loads(text)["status"] for text in found.values()} == {"finished"}
    assert all((runs / name / "export/model.safetensors").is_file() for name in found)


def test_each_parent_is_trained_once_and_its_children_name_its_fingerprint(runs: Path) -> None:
    prints = {name: record(runs / name)["fingerprint"] for name in records(runs)}
    told = {name: {role: row["fingerprint"] for role, row in record(runs / name)["parents"].items()} for name in prints}
    assert told == {
        TEACHER: {}, LM: {}, STEP: {"teacher": prints[TEACHER], "student": prints[LM]},
        RANKERS[0]: {"student": prints[LM]}, RANKERS[1]: {"teacher": prints[TEACHER], "student": prints[STEP]},
        RANKERS[2]: {"teacher": prints[TEACHER]},
    }  # fmt: skip
    said = (runs.parent / "stdout.txt").read_text().replace("\n", "")
    assert all(f"{runs}/{name}: finished" in said for name in (TEACHER, LM))  # found again by the second and third job


def test_a_ranker_is_tested_and_a_language_model_is_not(runs: Path) -> None:
    for name in (TEACHER, *RANKERS):
        assert {path.name for path in (runs / name).iterdir()} >= TESTED
        assert record(runs / name)["ranks"]
    for name in (LM, STEP):
        assert not {path.name for path in (runs / name).iterdir()} & TESTED
        assert not record(runs / name)["ranks"]
        assert json.loads((runs / name / "export/config.json").read_text())["architectures"] == ["BertModel"]
        assert not any("classifier" in key for key in load_file(runs / name / "export/model.safetensors"))


@pytest.mark.parametrize(("name", "measure", "best"), [(LM, "val/loss", min), (RANKERS[0], "val/nDCG@10", max)])
def test_a_record_says_by_what_its_checkpoint_was_chosen(runs: Path, name: str, measure: str, best: object) -> None:
    told = record(runs / name)["validation"]
    assert told["measure"] == measure
    assert told["best"] == pytest.approx(best(logged(runs / name, measure)), abs=1e-6)


def test_metrics_hold_shares_of_the_gradient_speed_and_agreement_with_the_teacher(runs: Path) -> None:
    folder = runs / RANKERS[2]
    shares = [logged(folder, f"train/gradient_share_{name}") for name in ("embedding", "hidden", "logits")]
    assert shares[0]
    assert [sum(row) for row in zip(*shares, strict=True)] == pytest.approx([1.0] * len(shares[0]))
    assert min(logged(folder, "train/pairs_per_second")) > 0
    for agreement in ("val/teacher_tau", "val/teacher_top1"):
        assert len(values := logged(folder, agreement)) == 3
        assert all(-1 <= value <= 1 for value in values)


def test_a_student_without_teacher_is_compared_with_the_first_stage_alone(runs: Path) -> None:
    assert record(runs / RANKERS[0])["learnt_from"] == "labels"
    assert record(runs / RANKERS[0])["started_from"] == "lm_distill_6l, cut out of the pretrained language model"
    assert {row["ranker"] for row in json.loads((runs / RANKERS[0] / "latency.json").read_text())["rows"]} == {"ranker"}
    with (runs / RANKERS[0] / "metrics.csv").open() as file:
        assert "teacher_tau" not in file.readline()


def test_the_same_sweep_again_trains_nothing(runs: Path) -> None:
    before = records(runs)
    done = train(*SWEEP, f"paths.runs={runs}")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for name in RANKERS:
        assert any(line.startswith(f"{runs}/{name}: finished") and line.endswith("nothing to do.") for line in said)
    assert records(runs) == before


def test_a_finished_run_whose_test_is_asked_to_be_another_is_tested_again_and_not_trained(runs: Path, tmp_path: Path) -> None:
    again, name = tmp_path / "runs", RANKERS[2]
    shutil.copytree(runs, again)
    done = train("+experiment=ranker_distill_6l", "scale=smoke", "student=2l", "data.depth=3", f"paths.runs={again}")
    assert done.returncode == 0, done.stderr
    assert "; other test settings (data.depth: 10 -> 3): tested again.\n" in done.stdout
    old, new = (record(folder / name) for folder in (runs, again))
    assert {key for key in old if old[key] != new[key]} == {"tests", "tests_fingerprint"}
    assert new["tests"][0]["data.depth"] == 3
    for place in (name, f"{name}/start"):
        pairs = [json.loads((folder / place / "metrics.json").read_text())["pairs"] for folder in (runs, again)]
        assert pairs == [100, 30]
    weights, events = ([(folder / name / file).read_bytes() for folder in (runs, again)] for file in KEPT)
    assert (weights[0], events[0]) == (weights[1], events[1])


def test_a_plan_shows_what_is_there_and_what_would_run_and_runs_nothing(runs: Path) -> None:
    before = sorted(path for path in runs.rglob("*"))
    done = train("+experiment=lm_two_step_6l", "scale=smoke", "student=4l", "plan=show", f"paths.runs={runs}")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line.startswith("│")]
    found = [(stage, state, expected) for _, stage, _, state, _, expected in rows if stage]
    assert found == [("teacher", "finished", "")] + [
        (stage, "to run", "under 1 min") for stage in ("lm_distill", "layer_distill", "logit_distill")
    ]
    assert done.stdout.splitlines()[-1] == "expected: under 1 min in all."
    assert sorted(path for path in runs.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["+experiment=lm_distill_6l", f"teacher.path=RUNS/{TEACHER}/export"],
            "is a ranker (BertForSequenceClassification); expected a pretrained language model, without a trained",
        ),
        (
            ["+experiment=finetune_6l", "student=3l", f"student.init_from=export:RUNS/{LM}/export"],
            "has 2 layers, student 3l has student.layers=3. Choose a student of that depth, or start from another checkpoint.",
        ),
        (
            ["+experiment=ranker_distill_6l", "student=2l", f"teacher.export=RUNS/{LM}/export"],
            "is a language model without a ranking head (BertModel): it can't rank yet.",
        ),
    ],
    ids=["ranker as language model", "start of another depth", "language model as ranker"],
)
@pytest.mark.fault("A9", "H4")
def test_an_export_in_the_wrong_place_gets_one_message_and_leaves_nothing(
    runs: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    words = [word.replace("RUNS", str(runs)) for word in arguments]
    done = train(*words, "scale=smoke", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not any(tmp_path.iterdir())
