"""A search: Optuna proposes trials, each is a run of its own, and validation nDCG@10 decides."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import command
from omegaconf import OmegaConf

from rankdistil import cli

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra 'search' is not installed")

pytestmark = pytest.mark.slow
SEARCH = ("+experiment=finetune_6l", "+search=lr", "scale=smoke", "student=2l", "steps.finetune=1", "validations=1")


def search(runs: Path, trials: int) -> subprocess.CompletedProcess[str]:
    """Type the search command; return how it went."""
    return command("train.py", *SEARCH, f"paths.runs={runs}", f"hydra.sweeper.n_trials={trials}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs after a search of one trial, and the same command with two."""
    folder = tmp_path_factory.mktemp("runs")
    for trials in (1, 2):
        done = search(folder, trials)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def records(runs: Path) -> dict[str, dict]:
    """Return the record of every trial by the name of its folder."""
    return {file.parent.name: json.loads(file.read_text()) for file in (runs / "finetune/2l").glob("*/run.json")}


def test_each_trial_is_a_finished_run_named_by_its_learning_rate(runs: Path) -> None:
    trials = records(runs)
    assert len(trials) == 2
    assert all(name == f"lr{record['settings']['stage.lr']}" for name, record in trials.items())
    assert all(record["status"] == "finished" for record in trials.values())


def test_the_result_is_the_trial_with_the_highest_validation_ndcg(runs: Path) -> None:
    best = max(records(runs).values(), key=lambda record: record["validation"]["best"])
    result = OmegaConf.load(runs / "search_lr_finetune_2l/optimization_results.yaml")
    assert best["validation"]["measure"] == "val/nDCG@10"
    assert result.best_value == best["validation"]["best"]
    assert result.best_params["stage.lr"] == best["settings"]["stage.lr"]


def test_a_longer_search_reuses_the_trials_that_are_finished(runs: Path) -> None:
    said = (runs / "stdout.txt").read_text()
    assert said.count("nothing to do.") == 1
    assert "Best value" in said


def test_a_search_leaves_nothing_else_among_the_runs(runs: Path) -> None:
    assert {path.name for path in runs.iterdir()} == {"finetune", "search_lr_finetune_2l", "stdout.txt"}


def test_a_search_that_went_on_after_a_failed_trial_names_it_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.FULL, "0")
    monkeypatch.setenv(cli.MESSAGES, "1")
    monkeypatch.setattr(cli, "failed_jobs", ["stage.lr=7: the loss is not finite"])
    with pytest.raises(SystemExit) as ended:
        cli.one_message(lambda: None, "train")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "1 jobs of the sweep failed:\n  stage.lr=7: the loss is not finite\n"
