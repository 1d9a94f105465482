"""What an evaluation does with ranking files, without a ranker."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from support import composed

from rankdistil.data.collections.splits import Leak
from rankdistil.metrics.fitted import Fitted
from rankdistil.report.comparison import Member
from rankdistil.report.results import Result, Tied
from rankdistil.runs.entries import Entry
from rankdistil.stages.test import fit_members, read_member, unknown_training, without_first_stage

SETTINGS = OmegaConf.create({"data": {"depth": 2}})
FIRST = Member("run.bm25.txt", Result("run.bm25.txt", {}, {}, {}), {"q1": ["a", "b"]})


@pytest.fixture
def entry(tmp_path: Path):
    """Write a ranking file and name it."""

    def write(name: str, order: str) -> Entry:
        lines = [f"q1 Q0 {passage} {rank} {9 - rank} tag\n" for rank, passage in enumerate(order, 1)]
        (tmp_path / name).write_text("".join(lines))
        return Entry(str(tmp_path / name), "ranking", name, name)

    return write


def test_the_first_stage_named_again_is_left_out_and_said(entry) -> None:
    kept, told = without_first_stage([entry("run.bm25.txt", "abc"), entry("run.other.txt", "ba")], FIRST, SETTINGS)
    assert [one.row for one in kept] == ["run.other.txt"]
    assert told == [f"left out: {entry('run.bm25.txt', 'abc').path} is the first stage, whose row is run.bm25.txt already."]


def test_another_ranking_with_the_first_stage_s_name_is_refused(entry) -> None:
    with pytest.raises(
        ValueError, match=r"has the name of the first stage \(run\.bm25\.txt\), but ranks otherwise\. Rename one"
    ):
        without_first_stage([entry("run.bm25.txt", "ba")], FIRST, SETTINGS)


def test_a_ranking_file_whose_scores_are_all_equal_is_told_from_one_with_an_order(entry, tmp_path: Path) -> None:
    task, settings = (
        SimpleNamespace(qrels={"q1": {"a": 1}}, name="toy"),
        OmegaConf.merge(SETTINGS, {"data": {"test_relevance_level": 1}}),
    )
    ordered = entry("run.ordered.txt", "ab")
    (tmp_path / "run.tied.txt").write_text("q1 Q0 a 1 3.5 tag\nq1 Q0 b 2 3.5 tag\n")
    tied = ordered._replace(path=str(tmp_path / "run.tied.txt"))
    found = [read_member(each, None, FIRST, task, settings, False).result.tied for each in (ordered, tied)]
    assert found == [Tied(0, 1), Tied(1, 1)]


def test_rows_whose_training_nobody_knows_are_named() -> None:
    known = FIRST._replace(row="finetune 6l", result=FIRST.result._replace(leak=Leak(0, 3, [], 0)))
    assert unknown_training([known]) == []
    unknown = [FIRST._replace(row="export"), FIRST._replace(row="x.run", own_candidates=True)]
    assert unknown_training([known, *unknown]) == ["not known whether test queries were trained on: export."]


def test_what_was_fitted_is_not_taken_where_a_later_collection_is_read_in_other_windows(tmp_path: Path) -> None:
    windows = {"stride": 24, "most": 8}
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(
        OmegaConf.merge(composed("+experiment=smoke"), {"data": {"windows": windows}}), tmp_path / ".hydra" / "config.yaml"
    )
    one, fitted = Entry(str(tmp_path), "run", "6l", "6l", tmp_path), Fitted(None, None, None, 0.9)
    found = []
    for now in (windows, None, windows):
        read = {"6l": OmegaConf.create({"data": {"windows": now}})}
        (member,), told = fit_members([FIRST._replace(row="6l")], [one], read, {"6l": fitted}, 0.9, True)
        found.append((member.fitted, told))
    why = (
        "in its validation documents were read in windows of as many tokens as the query leaves, one every 24, 8 at most (MaxP)"
    )
    refused = (None, [f"no fusion and no probability of 6l: {why}, and here they are cut."])
    assert found == [(fitted, []), refused, (fitted, [])]
