"""Run files are parsed once a process, and say the same to whoever asks."""

from dataclasses import replace
from pathlib import Path

import pytest

from rankdistil.data.collections.reader import Reader
from rankdistil.data.files import trec_runs
from rankdistil.data.files.bad_lines import LIST, STOP, BadLines, Tolerance
from rankdistil.data.files.folder import FileScoredDocs
from rankdistil.data.files.trec_runs import RunTable, forget_run

TALLY = STOP.of("run")
RUN = "2 Q0 b 1 2.0 t\n1 Q0 d 1 1.5 t\n2 Q0 c 2 1.0 t\n1 Q0 a 2 3.0 t\n"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the files that are parsed."""
    forget_run()
    read, fields = [], trec_runs.fields
    monkeypatch.setattr(trec_runs, "fields", lambda path, *given: read.append(path.name) or fields(path, *given))
    return read


def test_candidates_come_by_query_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text(RUN)
    table = FileScoredDocs(tmp_path / "run").table()
    assert table.counts() == {"2": 2, "1": 2}
    assert [(line, *row) for line, row in table.of(["1", "9", "2"], TALLY)] == [
        (2, "1", "d", 1.5),
        (4, "1", "a", 3.0),
        (1, "2", "b", 2.0),
        (3, "2", "c", 1.0),
    ]
    assert list(RunTable([]).of(["1"], TALLY)) == []


def test_a_run_is_parsed_once_for_all_splits_and_purposes(collection, tmp_path, parsed) -> None:
    (tmp_path / "own.run").write_text(RUN)
    readers = [Reader(replace(collection(), candidates=None), runs=[str(tmp_path / "own.run")]) for _ in range(3)]
    found = [reader.candidates(depth) for reader in readers for depth in (1, 10)]
    assert found[1] == found[3] == found[5] == {"1": [("a", 3.0), ("d", 1.5)], "2": [("b", 2.0), ("c", 1.0)], "3": []}
    assert parsed == ["own.run"]


def test_an_edited_run_is_parsed_again_and_a_forgotten_one_too(tmp_path: Path, parsed) -> None:
    file = tmp_path / "own.run"
    for content in (RUN, RUN.replace("1 1.5", "1 4.5")):
        file.write_text(content)
        scores = {row.doc_id: row.score for _, row in FileScoredDocs(file).table().of(["1"], TALLY)}
        assert scores["d"] == float(content.split()[10])
    forget_run()
    FileScoredDocs(file).table()
    assert len(parsed) == 3


def test_whoever_asks_hears_of_the_bad_lines(tmp_path: Path, parsed) -> None:
    file = tmp_path / "own.run"
    file.write_text(f"{RUN}1 Q0 b 3 best t\n")
    heard = [BadLines("skip") for _ in range(2)]
    for bad in heard:
        FileScoredDocs(file, bad=bad).table()
    first = f"{file}:5: score is 'best', expected a finite number."
    assert [bad.account() for bad in heard] == [{str(file): {"lines": 5, "bad": 1, "first": first}}] * 2
    assert parsed == ["own.run"]
    with pytest.raises(ValueError, match=r"own.run:5: score is 'best', expected a finite number.$"):
        Reader("rankdistil/almanac/test", tolerance=Tolerance("stop"), runs=[str(file)]).candidates(3)


def test_a_check_hears_each_bad_line_once_however_often_a_run_is_read_and_reads_on(tmp_path: Path, parsed) -> None:
    file, heard = tmp_path / "own.run", [BadLines(LIST) for _ in range(2)]
    file.write_text(f"{RUN}1 Q0 b 3 best t\n2 Q0 b 4 0.5 t\n")
    for bad in (*heard, *heard):
        table = FileScoredDocs(file, bad=bad).table()
        assert [line for line, _ in table.of(["2"], bad.of(file))] == [1, 3]
    assert parsed == ["own.run"]
    for bad in heard:
        assert (bad.of(file).found, bad.of(file).fatal, bad.of(file).lines) == (1, 1, 6)
        assert bad.of(file).shown() == [
            f"{file}:5: score is 'best', expected a finite number.",
            f"{file}:6: query 2 names passage b again (line 1). Remove the repetition.",
        ]
