"""The help of every command that a user types: without a word, and with --help."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import CONF, REPOSITORY

from rankdistil import words as command_line
from rankdistil.commands.export import KEYS as EXPORT_KEYS
from rankdistil.commands.export import main as export
from rankdistil.data.import_scores import KEYS as IMPORT_KEYS
from rankdistil.data.import_scores import main as import_scores


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("script", "text"), [("train.py", command_line.train_help), ("evaluate.py", command_line.evaluate_help)]
)
def test_a_script_says_what_can_be_typed(script: str, text: object) -> None:
    for words, status in (((), 2), (("--help",), 0)):
        done = typed(script, *words)
        said, other = (done.stdout, done.stderr) if status == 0 else (done.stderr, done.stdout)
        assert (done.returncode, said, other) == (status, text(CONF), "")


def test_hydra_s_own_questions_are_still_answered() -> None:
    assert "stage:\n  name: finetune\n" in typed("train.py", "+experiment=finetune_6l", "--cfg", "job").stdout
    assert "Defaults List" in typed("train.py", "+experiment=finetune_6l", "--info", "defaults").stdout
    assert "--config-path" in typed("train.py", "--hydra-help").stdout


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_listed_with_what_its_file_claims(path: Path) -> None:
    claim = path.read_text().splitlines()[1].removeprefix("# Claim: ")
    assert f" {path.stem} {claim} " in " ".join(command_line.train_help(CONF).split())


def test_an_experiment_of_the_user_s_own_is_listed_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\n")
    assert "\n  mine\n" in command_line.train_help(tmp_path)


@pytest.mark.parametrize(("main", "name", "keys"), [
    (export, "rankdistil.export", EXPORT_KEYS), (import_scores, "rankdistil.data.import_scores", IMPORT_KEYS),
])  # fmt: skip
def test_a_module_s_help_has_an_example_and_all_of_its_keys(
    main: object, name: str, keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (main([]), main(["--help"]), main(["run=x", "-h"])) == (2, 0, 0)
    out, err = capsys.readouterr()
    assert out == 2 * err
    assert f"    python -m {name} " in err
    assert all(f"\n{key}\n" in err or f"{key}, " in err or f", {key}\n" in err for key in keys)
    assert "::" not in err
    assert "``" not in err


def test_fetching_nothing_says_what_can_be_fetched() -> None:
    done = typed("-m", "rankdistil.data.fetch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Fetches the files of ir_datasets ids that this machine lacks")
    assert "\n    python -m rankdistil.data.fetch msmarco-passage/train/triples-small " in done.stderr
    asked = typed("-m", "rankdistil.data.fetch", "--help")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, done.stderr, "")


def test_long_lines_are_folded_below_their_own_column() -> None:
    rows = command_line._row("key", "word " * 30).splitlines()
    assert all(len(row) <= command_line.WIDTH for row in rows)
    assert [row[: command_line.LEFT].strip() for row in rows] == ["key", ""]
