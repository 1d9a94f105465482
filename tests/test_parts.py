"""Parts: which splits, files and texts a config's keys open."""

import pytest
from omegaconf import DictConfig
from support import composed

from rankdistil import parts
from rankdistil.data.holdout import Holdout

FILES = ["+experiment=ranker_distill_6l", "data=files", "data.root=/anywhere", "data.holdout=7"]


def holdouts(data: DictConfig) -> list[Holdout | None]:
    return [parts.open_reader(data, split).holdout for split in ("train", "valid", "test")]


def test_text_is_that_of_the_training_collection_unless_another_is_named() -> None:
    cfg = composed("stage=lm_distill")
    assert parts.open_passages(cfg.data).name == "rankdistil/almanac/train"
    cfg.data.passages = "beir/nfcorpus"
    assert parts.open_passages(cfg.data).name == "beir/nfcorpus"


def test_what_has_no_split_of_its_own_is_held_out_of_the_training_queries() -> None:
    assert holdouts(composed(*FILES).data) == [Holdout(7, False), Holdout(7, True), None]
    assert holdouts(composed(*FILES, "data.test=null").data) == [Holdout(14, False), Holdout(7, True), Holdout(7, True, 7)]
    named = "data.valid=${data.train}"
    assert holdouts(composed(*FILES, named, "data.test=null").data) == [Holdout(7, False), None, Holdout(7, True)]
    assert holdouts(composed(*FILES, named).data) == [None, None, None]


@pytest.mark.parametrize(("missing", "what"), [("valid", "validate"), ("test", "test")])
def test_a_missing_split_and_nothing_held_out_names_both_keys(missing: str, what: str) -> None:
    others = ["data.valid=${data.train}"] if missing == "test" else []
    data = composed(*FILES, "data.holdout=0", f"data.{missing}=null", *others).data
    with pytest.raises(ValueError) as caught:
        parts.open_reader(data, "train")
    assert str(caught.value) == f"data.{missing} is null and data.holdout is 0: set one of them, to {what} on."


def test_a_run_reads_of_each_id_only_what_it_uses() -> None:
    paper = composed("+experiment=ranker_distill_6l", "data=msmarco_passage")
    ranking = ["docs", "queries", "qrels", "scoreddocs"]
    tests = [f"msmarco-passage/trec-dl-{year}/judged" for year in (2019, 2020)]
    read = {name: kinds for name, (_, kinds) in parts.wanted(paper, train=True).items()}
    assert read == {
        **dict.fromkeys(tests, ranking),
        "msmarco-passage/train/triples-small": ["docs", "queries", "docpairs"],
        "msmarco-passage/dev/small": ranking,
    }
    assert list(parts.wanted(paper, train=False)) == tests
    text = composed("+experiment=lm_distill_6l", "data=msmarco_passage")
    assert {name: kinds for name, (_, kinds) in parts.wanted(text, train=True).items()} == {
        "msmarco-passage/train/triples-small": ["docs"]
    }
    paper.data.candidates = "run.txt"
    assert parts.wanted(paper, train=False)[tests[0]][1] == ranking[:3]
