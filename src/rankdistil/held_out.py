"""Pairs that a run wasn't trained on: those that its exports are checked on, and those that 8-bit ranges are found on."""

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


class HeldOut(NamedTuple):
    """Pairs of a run's data.

    Attributes:
        test: name of the split whose candidates are scored.
        pairs: candidates of some of its queries, all of each.
        qrels: judgments of these queries.
        relevance_level: lowest grade that RR and AP count as relevant.
        others: pairs of the validation split.
        encoder: with the run's length.
    """

    test: str
    pairs: list[Pair]
    qrels: Qrels
    relevance_level: int
    others: list[Pair]
    encoder: PairEncoder

    def orders(self, scores: list[float]) -> tuple[Mapping[str, list[str]], float]:
        """Rank the pairs by their scores; return the order of each query's passages, and the mean nDCG@10."""
        found: dict[str, dict[str, float]] = {query: {} for query in self.qrels}
        for pair, score in zip(self.pairs, scores, strict=True):
            found[pair.query_id][pair.passage_id] = score
        ranking = ranked(found)
        return passage_ids(ranking), means(per_query(ranking, self.qrels, self.relevance_level))[MEASURE]


def open_held_out(run: Path, export: str, pairs: int, others: int) -> HeldOut:
    """Open the data of a run.

    Args:
        run: its folder.
        export: says which tokens there are.
        pairs: test pairs at most, but those of one query at least; queries are taken from all over the split.
        others: validation pairs at most.

    Raises:
        ValueError: if the data can't be used, or no test query has candidates.
    """
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    settings = OmegaConf.create({"data": each_test(cfg.data)[0]})
    parts.fetch_data(settings, train=False)
    encoder = parts.build_encoder(settings.data, load_tokenizer(export), read_config(export).max_position_embeddings)
    valid = parts.open_reader(cfg.data, "valid") if others else None
    test = parts.open_reader(settings.data, "test")
    data = RankingDataModule(None, valid, test, encoder, parts.data_settings(settings.data), cfg.seed)
    task = data.task("test")
    queries = _spread([query for query, row in task.candidates.items() if row], task.candidates, pairs)
    if not queries:
        raise ValueError(f"no query of {task.name} has candidates: exports can't be checked on them.")
    qrels = {query: task.qrels[query] for query in queries}
    chosen = data.pairs("test", {query: task.candidates[query] for query in queries})
    found = data.pairs("valid") if others else []
    found = found[:: -(-len(found) // others)] if found else []
    return HeldOut(task.name, chosen, qrels, settings.data.test_relevance_level, found, encoder)


def _spread(queries: list[str], candidates: Mapping[str, list], pairs: int) -> Sequence[str]:
    """Choose queries at equal distances, with at most so many candidates in all."""
    mean = sum(len(candidates[query]) for query in queries) / max(len(queries), 1)
    return evenly(queries, max(int(pairs // max(mean, 1)), 1))
