"""evaluate.py over the runs of a sweep, as a user runs it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import command
from support import REPOSITORY

pytestmark = pytest.mark.slow  # the runs of a sweep

QUICK = ["callbacks.inference_time.queries=1", "callbacks.inference_time.candidates=10", "callbacks.inference_time.rounds=1"]
QUICK += ["callbacks.inference_time.throughput_pairs=20", "callbacks.inference_time.dtypes=[int8,float32]"]
QUICK += ["callbacks.inference_time.busy_share=1"]  # or the other tests' work would keep all times out of the tables
ROWS = ["BM25", "teacher minilm", "lm_finetune 2l", "lm_two_step 2l", "ranker_distill 2l", "test.run"]


def evaluate(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return command("evaluate.py", *arguments, *QUICK, cwd=cwd)


@pytest.fixture(scope="module")
def compared(procedures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Compare everything that the sweep left, and a TREC run of a supplied ranker; against fine-tuning as baseline."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    models = f"models=['{procedures}/*/*/*','{procedures}/ranker_distill/2l/seed0/test.run']"
    done = evaluate(models, f"paths.evaluations={out.parent}", "folder=out", "against.baseline=lm_finetune 2l", "logger=csv")
    assert done.returncode == 0, done.stderr
    return done, out


def rows(out: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((out / "report.json").read_text())["rows"]}


def test_every_ranker_is_a_row_and_language_models_are_left_out_by_name(compared, procedures: Path) -> None:
    done, out = compared
    assert list(rows(out)) == ROWS
    for name in ("lm_distill", "lm_layer_distill"):
        assert f"left out: {procedures}/{name}/2l/seed0 is a language model" in done.stdout


def test_rows_hold_the_runs_own_measures_and_the_candidates_are_the_first_row(compared, procedures: Path) -> None:
    found = rows(compared[1])
    told = json.loads((procedures / "lm_two_step/2l/seed0/metrics.json").read_text())
    assert found["lm_two_step 2l"]["measures"] == pytest.approx(told["measures"])
    assert found["BM25"]["measures"] == pytest.approx(told["first_stage"])


def test_a_supplied_ranking_equals_the_ranker_that_wrote_it_and_has_no_agreement_and_no_time(compared) -> None:
    found = rows(compared[1])
    assert found["test.run"]["measures"] == pytest.approx(found["ranker_distill 2l"]["measures"])
    assert (found["test.run"]["tau"], found["test.run"]["speed"]) == (None, {})


def test_no_row_is_trained_on_the_test_and_of_the_ranking_file_nobody_asks(compared) -> None:
    leaks = {name: row["leak"] for name, row in rows(compared[1]).items()}
    assert leaks["lm_two_step 2l"] == leaks["teacher minilm"] == {"queries": 0, "of": 10, "examples": [], "other_text": 0}
    assert leaks["test.run"] is None
    assert "not known whether" not in compared[0].stdout


def test_differences_are_to_the_teacher_and_to_the_baseline_named(compared) -> None:
    found = rows(compared[1])
    for role, name in (("against_teacher", "teacher minilm"), ("against_baseline", "lm_finetune 2l")):
        assert found[name][role] is None
        gap = found["BM25"]["measures"]["nDCG@10"] - found[name]["measures"]["nDCG@10"]
        assert found["BM25"][role]["difference"] == pytest.approx(gap)
        assert found["BM25"][role]["p_value"] <= found["BM25"][role]["adjusted"] <= 1


def test_every_ranker_ends_with_its_verdict_on_the_terminal_and_in_the_report(compared) -> None:
    done, out = compared
    said = [line.removeprefix("verdict: ") for line in done.stdout.splitlines() if line.startswith("verdict: ")]
    assert said == [line for row in rows(out).values() for line in row["verdict"]]
    assert list(dict.fromkeys(line.partition(":")[0] for line in said)) == ROWS[1:]
    assert "\n## Verdicts\n\n" + "".join(f"- {line}\n" for line in said) in (out / "report.md").read_text()


def test_rankers_are_timed_side_by_side_and_the_narrow_ones_are_faster(compared) -> None:
    found = rows(compared[1])
    times = {name: row["speed"]["latency_ms_p50"] for name, row in found.items() if row["speed"]}
    assert times.keys() == set(ROWS) - {"BM25", "test.run"}
    assert max(times, key=times.get) == "teacher minilm"


def test_every_dtype_is_in_a_table_of_its_own_and_float32_in_the_first(compared) -> None:
    done, out = compared
    timing = json.loads((out / "latency.json").read_text())
    (row,) = (
        row for row in timing["rows"] if (row["ranker"], row["dtype"], row["candidates"]) == ("lm_two_step 2l", "float32", 10)
    )
    assert rows(out)["lm_two_step 2l"]["speed"]["latency_ms_p50"] == row["latency_ms_p50"]
    for text in (done.stdout, (out / "report.md").read_text()):
        assert re.search(r"teacher minilm, int8 .* 1\.00x .* 1\.00x", text)
        assert "lm_two_step 2l, float32" in text


def test_the_folder_holds_report_and_frontier_and_the_logger_s_file(compared) -> None:
    done, out = compared
    assert {path.name for path in out.iterdir()} == {
        "report.md", "report.html", "report.json", "latency.json", "frontier.png", "frontier.svg", "metrics.csv", "depth.png",
        "depth.svg", "reliability.png", "reliability.svg",
    }  # fmt: skip
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "![frontier](frontier.png)" in (out / "report.md").read_text()
    assert f"files: {out}/" in done.stdout


def test_the_page_holds_the_numbers_of_report_json_and_what_every_ranker_made_of_every_query(compared) -> None:
    text = (compared[1] / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', text)[1])
    assert data["report"] == json.loads((compared[1] / "report.json").read_text())
    queries = data["queries"]
    for name, row in rows(compared[1]).items():
        values = queries["values"][name]["nDCG@10"]
        assert sum(values) / len(queries["ids"]) == pytest.approx(row["measures"]["nDCG@10"], abs=1e-5)
    assert {*queries["opened"]} == {*queries["ids"]}
    one = queries["opened"][queries["ids"][0]]["rows"]
    assert one["ranker_distill 2l"] == one["test.run"] | {"scores": one["ranker_distill 2l"]["scores"]}


def test_differences_have_intervals_over_topics_and_what_ten_of_them_can_show(compared) -> None:
    test = rows(compared[1])["ranker_distill 2l"]["against_teacher"]
    low, high = test["interval"]
    assert low <= test["difference"] <= high
    assert test["detectable"] > 0
    assert "| ranker_distill 2l - teacher minilm | " in (compared[1] / "report.md").read_text()


def test_weights_and_probabilities_come_of_each_run_s_own_validation(compared) -> None:
    found = rows(compared[1])
    assert found["test.run"]["fusion"] is found["BM25"]["calibration"] is None
    row = found["ranker_distill 2l"]
    assert row["fusion"]["rrf"] - row["measures"]["nDCG@10"] == pytest.approx(row["fusion"]["rrf_gain"]["difference"])
    assert sum(one["pairs"] for one in row["calibration"]["bins"]) == 100
    assert "no fusion" not in compared[0].stdout
    for chapter in ("Fusion with the first stage", "Probability of relevance", "Reliability"):
        assert f"\n## {chapter}\n" in (compared[1] / "report.md").read_text()


def test_a_run_without_its_validation_is_told_and_has_no_fusion(procedures: Path, tmp_path: Path) -> None:
    run = shutil.copytree(procedures / "lm_two_step/2l/seed0", tmp_path / "run")
    (run / "valid.run").unlink()
    done = evaluate(f"models={run}", f"paths.evaluations={tmp_path}", "folder=out")
    assert done.returncode == 0, done.stderr
    assert f"no fusion and no probability of lm_two_step 2l: {run}/valid.run is not there: the run's " in done.stdout
    assert rows(tmp_path / "out")["lm_two_step 2l"]["fusion"] is None


@pytest.mark.parametrize("value", ["0", "1", "x"])
def test_a_precision_that_is_none_is_told(tmp_path: Path, value: str) -> None:
    done = evaluate(f"models={tmp_path}/none", f"precision={value}", f"paths.evaluations={tmp_path}", "folder=out")
    shown = repr(value) if value == "x" else value
    assert done.stderr == f"error: precision is {shown}; expected a number above 0 and below 1.\n"


def test_where_the_best_student_hurts_is_told_with_texts(compared) -> None:
    harm = json.loads((compared[1] / "report.json").read_text())["harm"]
    found = rows(compared[1])
    best = max((name for name in ROWS[2:5]), key=lambda name: found[name]["measures"]["nDCG@10"])
    assert harm["ranker"] == best
    assert sum(group["queries"] for group in harm["groups"][:3] if group["name"].startswith("query of")) == 10
    assert all(one["after"] < one["before"] and one["answer"] for one in harm["queries"])
    assert "\n## Where it hurts\n" in (compared[1] / "report.md").read_text()


def test_depth_goes_from_the_first_stage_to_the_ranker_at_the_measured_rate(compared) -> None:
    found = rows(compared[1])
    assert found["BM25"]["depth"] is found["test.run"]["depth"] is None
    row = found["ranker_distill 2l"]
    first, *_, last = row["depth"]["points"]
    assert (first["candidates"], last["below"]) == (1, None)
    assert first["value"] == pytest.approx(found["BM25"]["measures"]["nDCG@10"])
    assert last["value"] == pytest.approx(row["measures"]["nDCG@10"])
    assert first["ms"] == pytest.approx(row["speed"]["latency_ms_p50"] / 10)


def test_a_run_that_is_tested_on_its_training_queries_is_marked_everywhere(procedures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = [f"models={procedures}/lm_finetune/2l/seed0", "+data.test=rankdistil/almanac/train", "rescore=true"]
    done = evaluate(*asked, f"paths.evaluations={out.parent}", "folder=out")
    assert done.returncode == 0, done.stderr
    (row,) = (row for row in json.loads((out / "report.json").read_text())["rows"] if row["name"] == "lm_finetune 2l")
    assert (row["leak"]["queries"], row["leak"]["of"]) == (10, 10)
    assert row["verdict"][0].startswith("lm_finetune 2l: TRAINED ON 10 OF 10 TEST QUERIES, for example ")
    for text in (done.stdout, (out / "report.md").read_text()):
        assert "lm_finetune 2l (!)" in text
        assert "10 of 10" in text


@pytest.mark.parametrize("inside", ["", "/export"])
def test_a_language_model_asked_to_rank_gets_one_message(procedures: Path, tmp_path: Path, inside: str) -> None:
    done = evaluate(f"models={procedures}/lm_distill/2l/seed0{inside}", f"paths.evaluations={tmp_path}", "folder=out")
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "can't rank yet. Name a run that starts from it: finetune or ranker_distill." in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_row_that_is_none_is_answered_with_the_rows_before_anything_is_tested(procedures: Path, tmp_path: Path) -> None:
    model = f"models={procedures}/lm_two_step/2l/seed0"
    done = evaluate(model, f"paths.evaluations={tmp_path}", "folder=out", "against.baseline=lm_two_step", "rescore=true")
    assert done.returncode == 1
    assert done.stderr == "error: against.baseline=lm_two_step is no row of the table. Its rows are: BM25, lm_two_step 2l.\n"
    assert not (tmp_path / "out").exists()


def test_a_wrong_setting_of_the_timing_is_told_before_anything_is_read(tmp_path: Path) -> None:
    done = evaluate(
        f"models={tmp_path}/none", "+callbacks.inference_time.round=1", f"paths.evaluations={tmp_path}", "folder=out"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no setting 'callbacks.inference_time.round'. Did you mean ")
    assert not (tmp_path / "out").exists()


def test_a_ranking_of_other_queries_is_refused(procedures: Path, tmp_path: Path) -> None:
    (tmp_path / "run.other.txt").write_text("q1 Q0 p1 1 2.0 tag\n")
    models = f"models=['{procedures}/lm_two_step/2l/seed0','{tmp_path}/run.other.txt']"
    done = evaluate(models, f"paths.evaluations={tmp_path}", "folder=out")
    assert done.returncode == 1
    assert f"error: {tmp_path}/run.other.txt ranks none of the " in done.stderr
    assert not (tmp_path / "out").exists()
