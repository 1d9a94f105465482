"""Messages: jobs of a sweep that failed elsewhere, below a launcher that sends their errors back; a plugin that is missing."""

import pickle

import pytest
from hydra.errors import MissingConfigException

from rankdistil import cli


def test_a_job_that_failed_in_another_process_is_named_at_the_end_and_the_command_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.FULL, "0")
    monkeypatch.setenv(cli.MESSAGES, "1")
    monkeypatch.setattr(cli, "failed_jobs", [])
    sent = pickle.dumps(cli.JobFailedError("stage.lr=-1: stage.lr is -1"))
    cli.failed_jobs.clear()  # this is another process now

    def sweep() -> None:
        pickle.loads(sent)  # a launcher may look more than once
        raise pickle.loads(sent)

    with pytest.raises(SystemExit) as ended:
        cli.one_message(sweep, "train")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "1 jobs of the sweep failed:\n  stage.lr=-1: stage.lr is -1\n"


@pytest.mark.parametrize(("option", "extra"), [("sweeper/optuna", "search"), ("launcher/submitit_slurm", "slurm")])
def test_a_plugin_that_is_missing_is_named_with_the_extra_that_brings_it(option: str, extra: str) -> None:
    error = MissingConfigException(f"Could not find 'hydra/{option}'\n\nConfig search path:\n\tconf", None)
    assert cli.describe(error, "train") == (
        f"Could not find 'hydra/{option}'\nIts package isn't installed. Run: pip install -e '.[{extra}]'"
    )
