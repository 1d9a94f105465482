"""What a check says about teachers' scores."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rankdistil.data.check.whole import Check, Split
from rankdistil.data.collections.reader import Reader
from rankdistil.data.files.folder import FolderSplit
from rankdistil.data.teacher_scores.folder import texts_scored
from tests.data.check.test_whole import SETTINGS


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    folder.mkdir()
    return folder


@pytest.fixture
def looked(scores: Path) -> Callable[[FolderSplit], Check]:
    """Look through a training split with a margin."""

    def looked(split: FolderSplit) -> Check:
        check = Check(replace(SETTINGS, negatives_margin=1.0, negatives_scores=str(scores)))
        check.look([Split("train", Reader(split), 1)])
        return check

    return looked


def test_scores_of_these_texts_are_no_problem_and_what_they_leave_out_is_left_to_a_run(collection, looked, scores) -> None:
    (scores / "scores.json").write_text(json.dumps({"made_of": texts_scored(Reader(collection())), "shards": {}}))
    check = looked(collection())
    assert (check.problems, check.notes) == (
        [], ["training: how many negatives data.negatives_margin leaves out is told as a run starts."]
    )  # fmt: skip


def test_scores_of_other_texts_are_a_problem(collection, looked, scores) -> None:
    texts = texts_scored(Reader(collection()))
    (scores / "scores.json").write_text(json.dumps({"made_of": texts | {"passages": "otherhash"}, "shards": {}}))
    (problem,) = looked(collection()).problems
    assert problem.startswith(f"data.negatives_scores={scores} were made with other settings (there -> asked for):\n")
    assert f"\n  passages: otherhash -> {texts['passages']}\n" in problem


def test_scores_that_are_not_there_are_a_problem(collection, looked, scores) -> None:
    (problem,) = looked(collection()).problems
    assert problem.startswith(f"data.negatives_scores={scores} holds no scores.json. Make scores with")


def test_a_missing_file_is_one_problem_whatever_the_scores(collection, looked, tmp_path) -> None:
    split = collection()
    (tmp_path / "corpus.tsv").unlink()
    check = looked(split)
    assert (check.problems, [listing.shown() for listing in check.listings.all() if listing.shown()]) == (
        [], [[f"{tmp_path}/corpus.tsv is not there. Set its name under data.*, or put the file in place."]]
    )  # fmt: skip
