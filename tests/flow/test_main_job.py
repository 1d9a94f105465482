"""The commands of the README, run as a user runs them, on the smoke experiment."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import ir_measures
import pytest
import torch
from commands import command
from ir_measures import AP, RR, nDCG
from safetensors.torch import load_file
from support import REPOSITORY

from rankdistil.data.collections.reader import Reader
from rankdistil.metrics.ranking import means, per_query, read_run

FILES = {
    ".hydra", "run.json", "checkpoints", "export", "metrics.json", "per_query.jsonl", "test.run", "valid.run", "latency.json",
    "metrics.csv", "trained_on.npy",
}  # fmt: skip


def smoke(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command("train.py", "+experiment=smoke", f"paths.runs={runs}", *arguments)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs after the smoke experiment has been run once, in a Python of its own."""
    folder = tmp_path_factory.mktemp("runs")
    line = [sys.executable, "train.py", "+experiment=smoke", f"paths.runs={folder}"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert "error" not in done.stderr, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def run(runs: Path) -> Path:
    return runs / "smoke/2l/seed0"


def test_the_run_and_the_teacher_that_it_needed_leave_complete_folders(runs: Path, run: Path) -> None:
    for folder in (run, runs / "smoke_teacher/minilm/seed0"):
        assert {path.name for path in folder.iterdir()} >= FILES
        assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_the_plan_and_the_table_with_bm25_teacher_and_student_are_printed(runs: Path) -> None:
    text = (runs / "stdout.txt").read_text()
    assert "to run" in text
    for row in ("BM25", "teacher minilm", "student 2l", "nDCG@10", "RR@10", "AP", "speed-up", "paired randomisation test"):
        assert row in text


def test_the_verdict_ends_what_is_printed_and_stands_in_the_card(runs: Path, run: Path) -> None:
    *_, last = (runs / "stdout.txt").read_text().splitlines()
    assert last.startswith("verdict: student 2l: nDCG@10 ")
    assert last.endswith(" topics), exact, two-sided)")
    assert f"\n\n{last.removeprefix('verdict: ')}\n\n" in (run / "export/README.md").read_text()


def test_the_start_is_told_in_words_and_tested_as_a_row_of_the_table(runs: Path, run: Path) -> None:
    record, row = json.loads((run / "run.json").read_text()), "start: cut out of the teacher ranker"
    assert record["started_from"] == "cut out of the teacher ranker"
    assert record["steps"] == {"of": 9, "trained": 9}
    assert {path.name for path in (run / "start").iterdir()} == {"metrics.json", "per_query.jsonl", "test.run"}
    assert f"\n| {row} |" in (run / "export/README.md").read_text()
    assert not (runs / "smoke_teacher/minilm/seed0/start").exists()  # its head is new: it ranks nothing yet


def test_the_teacher_s_validation_is_taken_from_its_run(runs: Path, run: Path) -> None:
    teacher = read_run(runs / "smoke_teacher/minilm/seed0/valid.run")
    qrels = {query: Reader("rankdistil/almanac/valid").qrels[query] for query in read_run(run / "valid.run")}
    values = means(per_query(teacher, qrels))
    with (run / "metrics.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["val/teacher_nDCG@10"])
    assert float(row["val/teacher_nDCG@10"]) == pytest.approx(values["nDCG@10"])


def test_training_stops_where_validation_no_longer_gets_better_and_logs_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", "hunter2")
    quick = ["+experiment=finetune_6l", "scale=smoke", "student=2l", "stage.patience=1", "stage.lr=1e-12"]
    done = command("train.py", *quick, "data.name=${oc.env:HIDDEN}", f"paths.runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "finetune 2l: stopped behind step 4 of 6: validation no longer gets better (stage.patience)" in done.stderr
    record = json.loads((tmp_path / "finetune/2l/seed0/run.json").read_text())
    assert (record["status"], record["steps"]) == ("finished", {"of": 6, "trained": 4})
    assert "${oc.env:HIDDEN}" in (tmp_path / "finetune/2l/seed0/hparams.yaml").read_text()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_the_student_is_smaller_and_its_record_names_its_parent(runs: Path, run: Path) -> None:
    sizes = {row["ranker"]: row["parameters"] for row in json.loads((run / "latency.json").read_text())["rows"]}
    assert sizes["ranker"] < sizes["teacher"] / 5
    parent = json.loads((runs / "smoke_teacher/minilm/seed0/run.json").read_text())
    assert json.loads((run / "run.json").read_text())["parents"]["teacher"]["fingerprint"] == parent["fingerprint"]


@pytest.mark.fault("C11")
def test_a_second_call_does_no_work_and_says_so(runs: Path, run: Path) -> None:
    before = (run / "run.json").read_text()
    done = smoke(runs)
    assert done.returncode == 0
    said = done.stdout.splitlines()
    assert any(line.startswith(f"{runs}/smoke_teacher/minilm/seed0: finished") and line.endswith("reused.") for line in said)
    assert any(line.startswith(f"{run}: finished") and line.endswith("nothing to do.") for line in said)
    assert (run / "run.json").read_text() == before


@pytest.mark.fault("A10", "C11")
def test_a_finished_run_of_other_settings_is_refused_with_the_difference_and_left_alone(runs: Path, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = smoke(runs, "stage.lr=0.123")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {run} holds a run made with other settings")
    assert "stage.lr: 0.0001 -> 0.123" in done.stderr
    assert "run_name=..." in done.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_every_checkpoint_loads_as_plain_tensors_and_holds_no_teacher(run: Path) -> None:
    for file in (run / "checkpoints").glob("*.ckpt"):
        state = torch.load(file, weights_only=True)["state_dict"]
        assert state
        assert all(key.startswith(("ranker.", "losses.")) for key in state)


def test_the_export_holds_the_best_checkpoint_and_nothing_of_the_training(run: Path) -> None:
    best = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    export = load_file(run / "export/model.safetensors")
    assert {f"ranker.bert.{key}" for key in export} == {key for key in best if key.startswith("ranker.")}
    assert all(torch.equal(best[f"ranker.bert.{key}"], value) for key, value in export.items())


@pytest.mark.fault("F7")
def test_evaluate_equals_the_training_runs_test_exactly(runs: Path, run: Path, tmp_path: Path) -> None:
    for model in (run, run / "export"):
        out = tmp_path / model.name
        timing = "callbacks.inference_time={queries: 1, rounds: 1}"
        done = command(
            "evaluate.py", f"models={model}", f"paths.evaluations={tmp_path}", f"folder={out.name}", "rescore=true", timing
        )
        assert done.returncode == 0, done.stderr
        (found,) = (path for path in out.iterdir() if path.is_dir())
        for name in ("metrics.json", "per_query.jsonl", "test.run"):
            assert (found / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.fault("F1")
def test_metrics_json_equals_ir_measures_on_the_written_run_file(run: Path) -> None:

    told = json.loads((run / "metrics.json").read_text())
    ranking = list(ir_measures.read_trec_run(str(run / "test.run")))
    queries = {line.query_id for line in ranking}
    qrels = {query: row for query, row in Reader("rankdistil/almanac/test").qrels.items() if query in queries}
    values = ir_measures.pytrec_eval.calc_aggregate([nDCG @ 10, AP, RR], qrels, ranking)
    assert told["queries"] == len(queries)
    assert told["measures"]["nDCG@10"] == pytest.approx(values[nDCG @ 10], abs=1e-9)
    assert told["measures"]["AP"] == pytest.approx(values[AP], abs=1e-9)
    assert told["measures"]["RR@10"] == pytest.approx(values[RR], abs=1e-9)  # ten candidates: RR and RR@10 agree


def test_the_export_gives_the_same_scores_in_sentence_transformers(run: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")

    reader = Reader("rankdistil/almanac/test")
    rows = [line.split() for line in (run / "test.run").read_text().splitlines()]
    texts = reader.texts(row[2] for row in rows)
    ranker = sentence_transformers.CrossEncoder(str(run / "export"), device="cpu")
    scores = ranker.predict([(reader.queries[row[0]], texts[row[2]]) for row in rows])
    assert ranker.num_labels == 1
    assert type(ranker.activation_fn).__name__ == "Identity"
    assert scores == pytest.approx([float(row[4]) for row in rows], abs=1e-5)


@pytest.mark.slow
def test_a_sweep_over_students_leaves_a_complete_folder_each_and_trains_no_parent_twice(runs: Path) -> None:
    teacher = (runs / "smoke_teacher/minilm/seed0/run.json").read_text()
    done = command("train.py", "-m", "+experiment=smoke", "student=6l,4l", f"paths.runs={runs}", "logger=wandb")
    assert done.returncode == 0, done.stderr
    for student in ("6l", "4l"):
        folder = runs / f"smoke/{student}/seed0"
        assert {path.name for path in folder.iterdir()} >= FILES - {"metrics.csv"} | {"wandb"}
        assert json.loads((folder / "run.json").read_text())["shape"]["layers"] == int(student[0])
    assert (runs / "smoke_teacher/minilm/seed0/run.json").read_text() == teacher


@pytest.mark.slow
@pytest.mark.fault("G9")
def test_a_run_that_is_not_timed_logs_its_test_and_no_value_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", "hunter2")
    words = ["+experiment=finetune_6l", "scale=smoke", "student=2l", "logger=wandb", "data.name=${oc.env:HIDDEN}"]
    done = command("train.py", *words, "callbacks.inference_time=null", f"paths.runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "\nno inference time: callbacks.inference_time is null." in done.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "latency.json" not in {path.name for path in files}
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    (logged,) = (path.read_bytes() for path in files if path.suffix == ".wandb")
    assert all(name in logged for name in (b"test/nDCG@10", b"test/first_stage_nDCG@10", b"${oc.env:HIDDEN}"))


@pytest.mark.slow
@pytest.mark.fault("A12")
def test_a_sweep_goes_on_after_a_failing_job_and_names_it(runs: Path) -> None:
    done = command("train.py", "-m", "+experiment=smoke", "stage.lr=-1,0.0001", f"paths.runs={runs}")
    assert done.returncode == 1
    assert "1 jobs of the sweep failed:\n  +experiment=smoke stage.lr=-1" in done.stderr
    assert f"{runs}/smoke/2l/seed0: finished" in done.stdout.replace("\n", "")


def test_two_models_of_one_name_are_refused(run: Path, tmp_path: Path) -> None:
    done = command("evaluate.py", f"models=[{run},{run}/export]", f"paths.evaluations={tmp_path}", "folder=twice")
    assert done.returncode == 1
    assert "models names smoke_2l_seed0 twice" in done.stderr
    assert not (tmp_path / "twice").exists()
