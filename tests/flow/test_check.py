"""``plan=check`` as a user types it: exit status, what is printed, and that nothing is written."""

import subprocess
from pathlib import Path

import pytest
from commands import command

FILES = {
    "corpus.tsv": "a\tApples grow on trees.\nb\tBees make honey.\nc\tCats sleep.\n",
    "queries.train.tsv": "1\twhere do apples grow\n2\twhat do bees make\n",
    "qrels.train.txt": "1 0 a 1\n2 0 b 1\n",
    "triples.train.tsv": "1\ta\tb\n2\tb\tc\n",
    "queries.test.tsv": "3\thow long do cats sleep\n",
    "qrels.test.txt": "3 0 c 1\n",
}


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Check a folder of files; nothing may be written, neither there nor where the command runs."""
    here = folder / "here"
    here.mkdir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    data = ["data=files", f"data.root={folder}", "data.holdout=1", "data.train.triples=triples.train.tsv"]
    done = command("train.py", "+experiment=smoke", *data, "plan=check", *arguments, cwd=here)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not any(here.iterdir())
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_good_files_exit_0_with_a_table(folder: Path) -> None:
    done = check(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "check: no problem found."
    for file in FILES:
        assert file in done.stdout


def test_bad_files_exit_1_with_every_problem_and_one_message(folder: Path) -> None:
    (folder / "triples.train.tsv").write_text("1\ta\n2\tb\tzz\n1\ta\tb\n")
    (folder / "qrels.test.txt").unlink()
    done = check(folder)
    assert done.returncode == 1
    assert done.stderr == "error: check: a run would stop: 3 problems, listed above. Nothing was written.\n"
    assert done.stdout.splitlines()[-3:] == [
        f"{folder}/triples.train.tsv:1: 2 columns, expected 3 (query_id<TAB>positive_id<TAB>negative_id): '1\\ta'",
        f"{folder}/triples.train.tsv:2: passage 'zz' is not in the collection. Do the files belong together?",
        f"{folder}/qrels.test.txt is not there. Set its name under data.*, or put the file in place.",
    ]


def test_lines_that_a_run_would_leave_out_exit_0(folder: Path) -> None:
    (folder / "triples.train.tsv").write_text(FILES["triples.train.tsv"] + "1\ta\n")
    done = check(folder, "data.on_bad=skip")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "check: 1 bad lines would be left out (data.on_bad=skip), no other problem found."


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.on_bad=ignore", "error: data.on_bad is 'ignore'; expected one of stop, skip.\n"),
        ("data.on_bat=skip", "error: there is no setting 'data.on_bat'. Did you mean 'data.on_bad'?\n"),
    ],
)
def test_a_wrong_setting_is_answered_before_any_file_is_read(folder: Path, override: str, message: str) -> None:
    done = check(folder, override)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
