"""Test splits: several of them, and the one that evaluate.py compares on."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from support import CONF, composed

from rankdistil.config.choices import (
    choose_tests,
    collections,
    each_test,
    named_tests,
    refuse_beside,
    without_default,
)

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
    (split,) = choose_tests(data, OmegaConf.create(given))
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
    (split,) = choose_tests(data, OmegaConf.create({"test": {"qrels": "b.txt"}, "depth": 7}))
    assert (split.test.queries, split.test.qrels, split.more_tests, split.depth) == ("queries.test.tsv", "b.txt", [], 7)


def test_a_comparison_takes_every_split_that_is_named_with_the_level_that_is_known_of_it() -> None:
    found = choose_tests(ids(), OmegaConf.create({"test": ["c", "a"]}))
    assert [(one.test, one.test_relevance_level) for one in found] == [("c", 1), ("a", 2)]
    found = choose_tests(ids(), OmegaConf.create({"test": ["c", "d"], "test_relevance_level": [1, 3]}))
    assert [(one.test, one.test_relevance_level) for one in found] == [("c", 1), ("d", 3)]
    with pytest.raises(ValueError, match=r"own test splits\. Give the one of d: data\.test_relevance_level=<grade>\.$"):
        choose_tests(ids(), OmegaConf.create({"test": ["a", "d"]}))


def test_further_files_that_the_command_names_are_compared_on_too() -> None:
    data = composed(*FILES).data
    more = [{"queries": "q.tsv", "qrels": "b.txt"}]
    found = named_tests(data, {"": OmegaConf.create({"more_tests": more})})
    assert list(found) == ["/anywhere/qrels.test.txt", "/anywhere/b.txt"]
    assert [one.test.queries for one in found.values()] == ["queries.test.tsv", "q.tsv"]


def group(kind: str) -> DictConfig:
    """Compose one of conf/data, as evaluate.py does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("evaluate", overrides=["models=none", f"data={kind}"])


def test_collections_are_files_of_conf_folders_and_ids(tmp_path: Path) -> None:
    (tmp_path / "cars").mkdir()
    one = {"root": str(tmp_path), "name": "mine", "candidates": ["bm25", "x.run"], "test": {"qrels": "b.txt"}}
    asked = ["almanac", str(tmp_path / "cars"), "nano-beir/fiqa", one, {"test": "vaswani", "test_relevance_level": 2}]
    found = collections(asked, OmegaConf.create({"depth": 7}), group)
    assert list(found) == ["almanac", "cars", "nano-beir/fiqa", "mine", "vaswani"]
    assert {data.depth for data in found.values()} == {7}
    assert [data.test for name, data in found.items() if name not in ("cars", "mine")] == [
        "rankdistil/almanac/test", "nano-beir/fiqa", "vaswani",
    ]  # fmt: skip
    assert (found["cars"].test.queries, found["mine"].test.qrels) == ("queries.test.tsv", "b.txt")
    assert found["mine"].candidates == ["bm25", "x.run"]
    assert found["vaswani"].test_relevance_level == 2
    tested = named_tests(composed("+experiment=ranker_distill_6l").data, found)
    assert list(tested) == list(found)
    assert {data.max_length for data in tested.values()} == {composed("+experiment=ranker_distill_6l").data.max_length}


def test_a_file_of_conf_with_two_splits_is_two_collections() -> None:
    found = named_tests(composed("+experiment=ranker_distill_6l").data, collections(["msmarco_passage"], {}, group))
    assert list(found) == ["msmarco-passage/trec-dl-2019/judged", "msmarco-passage/trec-dl-2020/judged"]


WIDE = {"stride": 64, "most": 16, "size": 100, "aggregate": "mean", "top": 3}
LEAN = {"stride": 32, "most": 4}


def test_a_comparison_replaces_windows_as_one_setting() -> None:
    data = OmegaConf.merge(ids(), {"windows": WIDE})
    assert [one.windows for one in choose_tests(data, OmegaConf.create({"test": "c", "windows": LEAN}))] == [LEAN]
    assert [one.windows for one in choose_tests(data, OmegaConf.create({"windows": None}))] == [None]


def test_collections_leave_windows_to_the_ranker_unless_the_command_names_some() -> None:
    asked = [{"root": "/a", "name": "own", "windows": WIDE}, {"root": "/a", "name": "cut", "windows": None}, "almanac"]
    found = collections(asked, OmegaConf.create(), group)
    assert [data.get("windows", "unsaid") for data in found.values()] == [WIDE, None, "unsaid"]
    found = collections(asked, OmegaConf.create({"windows": LEAN}), group)
    assert [data.windows for data in found.values()] == [LEAN] * 3
    assert [data.windows for data in collections(asked, OmegaConf.create({"windows": None}), group).values()] == [None] * 3
    given = group("almanac").data
    assert (given.windows, "windows" in without_default(given), without_default(given).test) == (None, False, given.test)
    assert without_default(OmegaConf.create({"windows": WIDE})).windows == WIDE


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["./nowhere"], r"^collections: \./nowhere is no folder\. Name one that holds a corpus"),
        ([{"candidates": "x.run"}], r"^collections\[0\] is \{'candidates': 'x\.run'\}; expected a file of conf/data, a folder"),
        (["almanac", "almanac"], r"^collections names almanac twice\. Give one of them another name: \{name: <name>"),
    ],
)
def test_what_names_no_collection_is_told(asked: list, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        collections(asked, OmegaConf.create(), group)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({}, "files", r"^data=files stands beside collections, which names what is tested on\. Add it to that list\.$"),
        ({"test": "x"}, None, r"^data\.test stands beside collections: which one is it of\? Say it there: collections="),
        (
            {"candidates": ["bm25", "x.run"]},
            None,
            r"^data\.candidates=x\.run stands beside collections, whose queries may have",
        ),
    ],
)
def test_what_can_t_be_of_several_collections_is_refused(given: dict, kind: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_beside(OmegaConf.create(given), kind)


def test_settings_of_all_collections_are_allowed() -> None:
    assert refuse_beside(OmegaConf.create({"depth": 50, "candidates": "bm25"}), None) is None
