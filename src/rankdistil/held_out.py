"""Pairs that a run wasn't trained on: those that its exports are kept or refused by, reported on, and fitted to.

What is kept is chosen on validation queries: a choice on test queries would make the test's number the best of several.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from rankdistil import parts
from rankdistil.data.datamodule import RankingDataModule, evenly
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair, Qrels
from rankdistil.metrics.measures import means, passage_ids, per_query, ranked
from rankdistil.models.load import load_tokenizer, read_config
from rankdistil.splits import each_test

MEASURE = "nDCG@10"


class JudgedPairs(NamedTuple):
    """Pairs of a split.

    Attributes:
        name: of the split.
        pairs: candidates of some of its queries, all of each.
        qrels: judgments of these queries.
    """

    name: str
    pairs: list[Pair]
    qrels: Qrels

    def told(self) -> str:
        """Say how many, of what."""
        return f"{len(self.pairs)} pairs of {len(self.qrels)} queries of {self.name}"

    def orders(self, scores: list[float]) -> tuple[Mapping[str, list[str]], float]:
        """Rank the pairs by their scores; return the order of each query's passages, and the mean nDCG@10."""
        found: dict[str, dict[str, float]] = {query: {} for query in self.qrels}
        for pair, score in zip(self.pairs, scores, strict=True):
            found[pair.query_id][pair.passage_id] = score
        ranking = ranked(found)
        return passage_ids(ranking), means(per_query(ranking, self.qrels))[MEASURE]


class HeldOut(NamedTuple):
    """Pairs of a run's data.

    Attributes:
        valid: what decides whether a graph is kept.
        test: what is reported.
        others: pairs of other validation queries than those, to find 8-bit ranges on; of the same where there is one only.
        encoder: with the run's length.
    """

    valid: JudgedPairs
    test: JudgedPairs
    others: list[Pair]
    encoder: PairEncoder


def open_held_out(run: Path, export: str, pairs: int, others: int) -> HeldOut:
    """Open the data of a run.

    Args:
        run: its folder.
        export: says which tokens there are.
        pairs: of validation and of test, each at most, but those of one query at least; queries are taken from all over the
            split.
        others: pairs at most to find ranges on.

    Raises:
        ValueError: if the data can't be used, or no query of a split has candidates.
    """
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    settings = OmegaConf.create({"data": each_test(cfg.data)[0]})
    parts.fetch_data(settings, train=False, valid=True)
    encoder = parts.build_encoder(settings.data, load_tokenizer(export), read_config(export).max_position_embeddings)
    readers = (parts.open_reader(settings.data, split) for split in ("valid", "test"))
    data = RankingDataModule(None, *readers, encoder, parts.data_settings(settings.data), cfg.seed)
    able = _able(data, "valid")
    apart = _spread(able, data.task("valid").candidates, others)[: len(able) // 2] if others else []
    valid = _judged(data, "valid", [query for query in able if query not in apart], pairs)
    test = _judged(data, "test", _able(data, "test"), pairs)
    fitted = _pairs(data, "valid", apart) if apart else valid.pairs
    return HeldOut(valid, test, fitted[:: max(-(-len(fitted) // others), 1)] if others else [], encoder)


def _able(data: RankingDataModule, split: str) -> list[str]:
    task = data.task(split)
    found = [query for query, row in task.candidates.items() if row]
    if not found:
        raise ValueError(f"no query of {task.name} has candidates: exports can't be checked on them.")
    return found


def _judged(data: RankingDataModule, split: str, queries: Sequence[str], pairs: int) -> JudgedPairs:
    task = data.task(split)
    chosen = _spread(queries, task.candidates, pairs)
    return JudgedPairs(task.name, _pairs(data, split, chosen), {query: task.qrels[query] for query in chosen})


def _pairs(data: RankingDataModule, split: str, queries: Sequence[str]) -> list[Pair]:
    return data.pairs(split, {query: data.task(split).candidates[query] for query in queries})


def _spread(queries: Sequence[str], candidates: Mapping[str, list], pairs: int) -> Sequence[str]:
    """Choose queries at equal distances, with at most so many candidates in all."""
    mean = sum(len(candidates[query]) for query in queries) / max(len(queries), 1)
    return evenly(queries, max(int(pairs // max(mean, 1)), 1))
