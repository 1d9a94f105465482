"""The DataModule with teachers' scores: as what is learnt from, and as what leaves out false negatives."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from rankdistil.data.batches.datamodule import RankingDataModule
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.encode import PairEncoder
from rankdistil.data.teacher_scores.folder import Shard, shard_name, texts_scored, write_shard
from tests.data.batches.test_datamodule import SETTINGS

PAIRS = {
    ("1", "a"): 1.0, ("1", "e"): 0.75, ("1", "b"): 5.0, ("2", "b"): 3.0, ("2", "c"): -1.0, ("3", "c"): 2.0, ("3", "d"): 1.5,
}  # fmt: skip


@pytest.fixture
def build(collection, tokenizer) -> Callable[..., RankingDataModule]:
    """Build an opened DataModule whose three splits are one folder."""

    def build(
        scores: tuple[Path, ...] = (), files: dict[str, str] | None = None, holdout: Holdout | None = None, **settings: object
    ) -> RankingDataModule:
        split = collection(**(files or {}))
        reader = Reader(split)
        encoder = PairEncoder(tokenizer, SETTINGS.max_length)
        data = RankingDataModule(Reader(split, holdout), reader, reader, encoder, replace(SETTINGS, **settings), 0, scores)
        data.open()
        return data

    return build


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of scores."""

    def write(pairs: dict[tuple[str, str], float] = PAIRS, name: str = "scores", **made_of: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        queries, passages = zip(*pairs, strict=True)
        write_shard(folder / shard_name(0), Shard(queries, passages, np.array(list(pairs.values()), np.float32)))
        (folder / "scores.json").write_text(json.dumps({"made_of": made_of, "shards": {shard_name(0): len(pairs)}}))
        return folder

    return write


def test_scores_for_a_margin_that_belong_to_other_texts_are_refused_by_their_key(build, write, collection) -> None:
    there = texts_scored(Reader(collection()))
    folder = write(**there | {"passages": "otherhash"})
    with pytest.raises(ValueError) as caught:
        build(negatives_margin=0.5, negatives_scores=str(folder))
    assert str(caught.value).startswith(
        f"data.negatives_scores={folder} were made with other settings (there -> asked for):\n"
        f"  passages: otherhash -> {there['passages']}\n"
    )


def test_scores_for_a_margin_may_be_those_of_another_tokenizer(build, write) -> None:
    folder = write(tokenizer="other", max_length="99")
    assert len(build(negatives_margin=0.5, negatives_scores=str(folder))._source) == 2


@pytest.mark.parametrize("lost", ["header", "pair"])
def test_scores_for_a_margin_that_are_missing_are_named_by_their_key(build, write, lost: str) -> None:
    folder = write({pair: score for pair, score in PAIRS.items() if pair != ("2", "c")})
    if lost == "header":
        (folder / "scores.json").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=rf"^data\.negatives_scores={folder} holds no "):
        build(negatives_margin=0.5, negatives_scores=str(folder))


def test_negatives_that_a_teacher_scores_above_the_positive_are_left_out(build, write) -> None:
    """Of the folder's four triples, scores keep those of queries 2 and 3."""
    data = build(batch_size=1, negatives_margin=0.5, negatives_scores=str(write()))
    found = [(batch.query_ids[0], *batch.passage_ids) for batch in islice(data.train_dataloader(), 4)]
    assert sorted(found) == [("2", "b", "c")] * 2 + [("3", "c", "d")] * 2


def test_triples_that_the_margin_leaves_out_are_told(build, write) -> None:
    told = build(negatives_margin=0.5, negatives_scores=str(write())).account()
    assert told["training_queries"] == {"left_out": 0, "groups": 2}
    assert told["negatives_margin"] == {"what": "triples", "of": 4, "left_out": 2, "queries": 0}
    assert "negatives_margin" not in build().account()


def test_negatives_and_queries_that_the_margin_leaves_out_are_told(build, write) -> None:
    """Query 1 has negatives e and d, query 2 has c, query 3 has d; the scores keep c alone."""
    scores = write(PAIRS | {("1", "d"): 0.75, ("3", "d"): 2.0})
    told = build(train_on="sampled", negatives_margin=0.5, negatives_scores=str(scores)).account()
    assert told["training_queries"] == {"left_out": 2, "groups": 1}
    assert told["negatives_margin"] == {"what": "negatives", "of": 4, "left_out": 3, "queries": 2}


@pytest.mark.parametrize(
    ("margin", "qrels", "which"),
    [(99.0, None, " that data.negatives_margin leaves"), (0.0, "1 0 a 0\n", "")],
    ids=["the margin leaves none", "there was none before"],
)
def test_the_margin_is_blamed_only_where_it_was_the_cause(build, write, margin: float, qrels: str | None, which: str) -> None:
    scores, files = write(PAIRS | {("1", "d"): 0.75}), {"qrels": qrels} if qrels else {}
    with pytest.raises(ValueError) as caught:
        build(files=files, train_on="sampled", negatives_margin=margin, negatives_scores=str(scores))
    assert str(caught.value) == (f"no training query has both a relevant passage and a negative among its candidates{which}.")


@pytest.mark.parametrize("store", [False, True])
def test_an_ensemble_s_targets_are_the_same_with_a_store_and_without(build, write, tmp_path, store: bool) -> None:
    """Scores of query 3, which is set apart here, would move mean and deviation of the first member if they counted."""
    folders = (write(PAIRS | {("3", "d"): 1e6}, "one"), write({pair: -3 * score for pair, score in PAIRS.items()}, "other"))
    data = build(folders, holdout=Holdout(1, inside=False), **({"store": str(tmp_path / "store")} if store else {}))
    trained = {query for query, _ in PAIRS if query in data._train.queries}
    assert len(trained) == 2
    found = {}
    for batch in islice(data.train_dataloader(), 4):
        found |= dict(zip(zip(batch.query_ids, batch.passage_ids, strict=True), batch.teacher_logits.tolist(), strict=True))
    own = {pair: (1e6 if pair == ("3", "d") else score) for pair, score in PAIRS.items() if pair[0] in trained}
    values = np.array(list(own.values()))
    other = np.array([-3 * PAIRS[pair] for pair in own])
    mean = ((values - values.mean()) / values.std() + (other - other.mean()) / other.std()) / 2
    mean = mean * (values.std() + other.std()) / 2 + (values.mean() + other.mean()) / 2
    assert found == pytest.approx(dict(zip(own, mean.tolist(), strict=True)), abs=1e-6)
