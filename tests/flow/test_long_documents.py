"""Documents that are longer than a pair: a run that reads them in windows, its export, and the same one against the cut."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import command
from omegaconf import OmegaConf

from rankdistil import Reranker
from rankdistil.metrics.ranking import read_run

FAST = "callbacks.inference_time=null"
SMALL = ["data.train_on=sampled", "data.test_queries=6", "data.valid_queries=4", "data.depth=8", "data.valid_depth=4", FAST]
WINDOWS = {"stride": 24, "most": 8, "size": 40}
WORDS = "data.windows={stride: 24, most: 8, size: 40}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the embedded collection's passages as documents of four, 300 to 600 tokens long."""
    folder = tmp_path_factory.mktemp("long")
    done = command("-m", "benchmarks.long_documents", f"to={folder / 'data'}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Distil a student from its teacher, both with windows, at the smallest scale."""
    words = ["+experiment=smoke", "data=files", f"data.root={folder / 'data'}", WORDS, *SMALL, "data.store=stores"]
    done = command("train.py", *words, f"paths.runs={folder / 'runs'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, folder / "runs/smoke/2l/seed0"


def test_a_run_in_windows_says_so_in_its_log_its_card_and_its_export(trained) -> None:
    done, run = trained
    told = json.loads((run / "run.json").read_text())["data"]["test_windows"]
    assert told["windows"] > 4 * told["pairs"]
    assert f"test: {told['pairs']} documents are read in {told['windows']} windows.\n" in done.stdout
    card = (run / "export/README.md").read_text()
    assert "| longer documents | read in windows of 40 tokens, one every 24, 8 at most (MaxP) by rankdistil" in card
    held = json.loads((run / "export/config.json").read_text())["rankdistil"]["windows"]
    assert held == WINDOWS | {"aggregate": "max", "top": None}
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["data.windows.stride"] == 24
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["pairs"] == told["pairs"]


def test_the_reranker_gives_the_scores_of_the_test(trained, folder: Path) -> None:
    _, run = trained
    texts = dict(line.split("\t") for line in (folder / "data/corpus.tsv").read_text().splitlines())
    queries = dict(line.split("\t") for line in (folder / "data/queries.test.tsv").read_text().splitlines())
    ranker, found = Reranker(run / "export", device="cpu"), read_run(run / "test.run")
    query, row = next(iter(found.items()))
    scores = ranker.score((queries[query], texts[hit.passage_id]) for hit in row[:8])
    assert scores == pytest.approx([hit.score for hit in row[:8]], abs=1e-4)
    cut = Reranker(run / "export", device="cpu", windows=False)
    assert cut.score((queries[query], texts[hit.passage_id]) for hit in row[:8]) != pytest.approx(scores, abs=1e-4)


def test_a_finished_run_with_other_windows_is_another_run(trained, folder: Path) -> None:
    words = ["+experiment=smoke", "data=files", f"data.root={folder / 'data'}", *SMALL]
    done = command("train.py", *words, f"paths.runs={folder / 'runs'}", cwd=folder)
    assert done.returncode == 1
    assert "data.windows.stride: 24 -> (absent)" in done.stderr


def test_one_command_compares_windows_with_the_cut_a_row_each(trained, folder: Path) -> None:
    _, run = trained
    rows = "windows={MaxP: {stride: 24, most: 8, size: 40}, FirstP: {stride: 1, most: 1, aggregate: first}, cut: null}"
    done = command("evaluate.py", f"models={run}", rows, FAST, f"paths.evaluations={folder}", "folder=compared", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "compared/report.json").read_text())
    found = {row["name"]: row["measures"] for row in report["rows"][1:]}
    assert [*found] == ["smoke 2l MaxP", "smoke 2l FirstP", "smoke 2l cut"]
    assert found["smoke 2l MaxP"] == json.loads((run / "metrics.json").read_text())["measures"]
    assert found["smoke 2l FirstP"] == found["smoke 2l cut"]  # no question of these is cut
    own = "windows of 40 tokens, one every 24, 8 at most (MaxP)"
    assert f"smoke 2l MaxP: a longer document is read in {own}." in report["notes"]
    assert f"smoke 2l cut: a longer document is cut, not read in {own}, as in its training." in report["notes"]
    told = "documents were read in windows of 40 tokens, one every 24, 8 at most (MaxP), and here they are cut."
    assert f"no fusion and no probability of smoke 2l cut: in its validation {told}" in report["notes"]


def test_windows_that_do_not_fit_are_refused_before_another_row_is_scored(trained, folder: Path) -> None:
    _, run = trained
    rows = "windows={MaxP: {stride: 24, most: 8, size: 40}, long: {stride: 24, most: 8, size: 400}}"
    done = command("evaluate.py", f"models={run}", rows, FAST, f"paths.evaluations={folder}", "folder=unfit", cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: windows.size is 400; expected "), done.stderr  # no progress of a test before it
    assert not (folder / "unfit").exists()


def test_another_collection_is_read_as_the_run_was_trained_unless_the_command_says_otherwise(trained, folder: Path) -> None:
    run = Path(shutil.copytree(trained[1], folder / "stored/2l/seed0"))
    cfg = OmegaConf.load(run / ".hydra/config.yaml")
    cfg.data.max_tokens, cfg.data.store = 4096, "stores"  # of training: decides no test, and needs no store in one
    OmegaConf.save(cfg, run / ".hydra/config.yaml")
    asked = f"{{root: '{folder / 'data'}', name: own}},{{root: '{folder / 'data'}', name: cut, windows: null}}"
    few = ["data.test_queries=6", "data.depth=8", FAST, f"paths.evaluations={folder}"]
    done = command("evaluate.py", f"models={run}", f"collections=[{asked}]", *few, "folder=both", cwd=folder)
    assert done.returncode == 0, done.stderr
    notes = [json.loads((folder / f"both/{place}/report.json").read_text())["notes"] for place in ("1-own", "2-cut")]
    windows = "windows of 40 tokens, one every 24, 8 at most (MaxP)"
    assert f"smoke 2l: a longer document is read in {windows}." in notes[0]
    assert f"smoke 2l: a longer document is cut, not read in {windows}, as in its training." in notes[1]
    assert not any(note.startswith("no fusion and no probability") for note in notes[0])
    assert any(note.startswith("no fusion and no probability of smoke 2l: in its validation") for note in notes[1])
