"""A run on files with a few bad lines: it says what it leaves out, and keeps it with the run."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import command

from rankdistil.report.results import read_first_stage
from tests.flow.test_check import FILES

RUN = [
    "+experiment=finetune_6l", "scale=smoke", "student=2l", "data=files", "data.holdout=1", "data.batch_size=1",
    "data.train.triples=triples.train.tsv",
]  # fmt: skip
UNKNOWN = "is not in the collection. Do the files belong together?"


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command("train.py", *RUN, f"data.root={folder}", f"paths.runs={folder / 'runs'}", *arguments, cwd=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for name, line in {"triples.train.tsv": "1\ta\tzz\n2\tb\tzz\n", "qrels.test.txt": "3 0 elsewhere 1\n"}.items():
        (tmp_path / name).write_text(FILES[name] + line)
    (tmp_path / "run.txt").write_text("3 Q0 c 1 1.0 tag\n")
    (tmp_path / "other.run").write_text("nowhere Q0 c 1 1.0 tag\n")
    with (tmp_path / "queries.test.tsv").open("a") as file:
        file.write("4\tno candidate\n")
    with (tmp_path / "qrels.test.txt").open("a") as file:
        file.write("4 0 a 1\n")
    return tmp_path


def test_a_run_says_and_records_what_it_leaves_out(folder: Path) -> None:
    done = train(folder, "data.on_bad=skip", "data.allow_unknown=true", "data.test.candidates=run.txt")
    assert done.returncode == 0, done.stderr
    (record,) = (folder / "runs").glob("*/*/*/run.json")
    told = json.loads(record.read_text())["data"]
    ((file, bad),) = told["bad_lines"].items()
    first = f"{file}:{bad['first'].split(':')[1]}: passage 'zz' {UNKNOWN}"
    assert (file, bad) == (f"{folder}/triples.train.tsv", {"lines": 4, "bad": 1, "first": first})
    assert told["test_queries"] == {"judged": 2, "with_candidates": 1}
    lines = done.stdout.splitlines()
    assert f"{file}: 1 of 4 lines are bad and left out (data.on_bad=skip). The first: {first}" in lines
    assert "test: 1 of 2 judged queries have candidates; the others count as 0." in lines


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data.allow_unknown=true"], f"passage 'zz' {UNKNOWN}"),
        (
            ["data.on_bad=skip", "data.allow_unknown=true", "data.candidates=other.run"],
            "data.candidates=other.run is used by no split: ",
        ),
        (["data.on_bad=skip"], "1 judgments name passages that are not in corpus.tsv (line 2: elsewhere). "),
    ],
)
def test_without_leave_a_run_ends_with_one_message_and_leaves_nothing(
    folder: Path, arguments: list[str], expected: str
) -> None:
    done = train(folder, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()


def test_several_splits_of_one_queries_file_keep_their_tests_apart(folder: Path) -> None:
    (folder / "qrels.other.txt").write_text("3 0 b 1\n4 0 c 1\n")
    leave = ["data.on_bad=skip", "data.allow_unknown=true"]
    done = train(folder, *leave, "data.more_tests=[{queries: queries.test.tsv, qrels: qrels.other.txt}]")
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in (folder / "runs").glob("*/*/*/run.json"))
    other = run / f"tests/2-{folder.name}-queries.test.tsv"
    first, second = (read_first_stage(place).per_query for place in (run, other))
    assert first != second
    for qrels in ("qrels.test.txt", "qrels.other.txt"):
        assert f"({qrels}, grades from 1), 2 queries" in " ".join(done.stdout.split())
    line = ["evaluate.py", f"models={run}", "+data.test.qrels=qrels.other.txt", f"paths.evaluations={folder / 'e'}"]
    compared = command(*line, "callbacks.inference_time.rounds=1", cwd=folder)
    assert compared.returncode == 0, compared.stderr
    (report,) = (folder / "e").glob("*/report.json")
    row = json.loads(report.read_text())["rows"][0]
    assert row["measures"]["nDCG@10"] == pytest.approx(sum(query["nDCG@10"] for query in second.values()) / 2)
