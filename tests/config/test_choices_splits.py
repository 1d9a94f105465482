"""Test splits: several of them, and the one that evaluate.py compares on."""

import pytest
from omegaconf import DictConfig, OmegaConf
from support import composed

from rankdistil.config.choices import choose_test, each_test

FILES = ["+experiment=ranker_distill_6l", "data=files", "data.root=/anywhere"]


def test_each_test_split_has_its_own_level() -> None:
    tests = ["data.test=[a,b,c]", "data.test_relevance_level=[2,2,1]"]
    found = each_test(composed("+experiment=ranker_distill_6l", "data=ir_dataset", "data.train=t", *tests).data)
    assert [(data.test, data.test_relevance_level) for data in found] == [("a", 2), ("b", 2), ("c", 1)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.test=[]"], "data.test is empty. Name at least one split to test on."),
        (
            ["data.test=[a,b,c]", "data.test_relevance_level=[2,1]"],
            "data.test_relevance_level has 2 levels for 3 test splits. Give one for all, or one each.",
        ),
    ],
)
def test_tests_that_do_not_fit_are_refused(overrides: list[str], expected: str) -> None:
    data = composed("+experiment=ranker_distill_6l", "data=ir_dataset", "data.train=t", *overrides).data
    with pytest.raises(ValueError) as caught:
        each_test(data)
    assert str(caught.value) == expected


def test_further_files_are_test_splits_too() -> None:
    further = "data.more_tests=[{queries: queries.test.tsv, qrels: b.txt}]"
    one, other = each_test(composed(*FILES, further, "data.test_relevance_level=[1,2]").data)
    assert (one.test.qrels, one.test_relevance_level, one.more_tests) == ("qrels.test.txt", 1, [])
    assert (other.test.qrels, other.test_relevance_level, other.more_tests) == ("b.txt", 2, [])


def test_a_split_named_twice_is_refused_unless_its_levels_differ() -> None:
    ids = ["+experiment=ranker_distill_6l", "data=ir_dataset", "data.train=t", "data.test=[a,b,a]"]
    with pytest.raises(ValueError) as caught:
        each_test(composed(*ids).data)
    assert str(caught.value) == "data.test names a twice, at one relevance level. Name it once."
    assert len(each_test(composed(*ids, "data.test_relevance_level=[1,1,2]").data)) == 3


def ids() -> DictConfig:
    levels = ["data.test=[a,b,c]", "data.test_relevance_level=[2,2,1]"]
    return composed("+experiment=ranker_distill_6l", "data=ir_dataset", "data.train=t", *levels).data


def chosen(data: DictConfig, **given: object) -> tuple[object, int]:
    split = choose_test(data, OmegaConf.create(given))
    return split.test, split.test_relevance_level


def test_a_comparison_takes_the_first_split_or_the_one_named() -> None:
    assert chosen(ids()) == ("a", 2)
    assert chosen(ids(), test="c") == ("c", 1)
    assert chosen(ids(), test="d", test_relevance_level=3) == ("d", 3)
    with pytest.raises(ValueError) as caught:
        chosen(ids(), test="d")
    assert str(caught.value) == (
        "data.test_relevance_level=[2, 2, 1] is of the run's own test splits. Give the one of d: "
        "data.test_relevance_level=<grade>."
    )


def test_a_comparison_on_files_changes_single_ones_and_drops_further_splits() -> None:
    data = composed(*FILES, "data.more_tests=[{queries: q.tsv, qrels: b.txt}]").data
    split = choose_test(data, OmegaConf.create({"test": {"qrels": "b.txt"}, "depth": 7}))
    assert (split.test.queries, split.test.qrels, split.more_tests, split.depth) == ("queries.test.tsv", "b.txt", [], 7)
