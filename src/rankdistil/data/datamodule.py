"""The DataModule: training triples, and the candidates that validation and test re-rank."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from rankdistil.data.collection import Collection, open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.groups import TRAIN_ON, GroupSource, refuse_unknown
from rankdistil.data.readers import Reader
from rankdistil.data.records import Pair, Qrels, Ranking
from rankdistil.data.source import open_source
from rankdistil.data.stream import CandidateStream, GroupStream, Size
from rankdistil.data.stream_module import StreamDataModule


@dataclass(frozen=True)
class DataSettings:
    """Plain settings of ``data``.

    Attributes:
        batch_size: triples per training batch and process; twice as many passages where these are read as text.
        eval_batch_size: pairs per batch in validation and test.
        query_tokens: budget of a query.
        passage_tokens: budget of a passage.
        train_on: ``docpairs`` or ``sampled``.
        negatives_depth: candidates that sampled negatives are drawn from.
        relevance_level: lowest grade that counts as relevant, for positives, RR and AP.
        depth: candidates re-ranked per test query.
        valid_depth: candidates re-ranked per validation query.
        valid_queries: validation queries used at most.
        valid_passages: passages set apart for validation where passages are read as text.
        test_queries: test queries used at most; all if None.
        workers: loader processes; 0 encodes in the training process.
    """

    batch_size: int
    eval_batch_size: int
    query_tokens: int
    passage_tokens: int
    train_on: str
    negatives_depth: int
    relevance_level: int
    depth: int
    valid_depth: int
    valid_queries: int
    valid_passages: int = 1000
    test_queries: int | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if self.train_on not in TRAIN_ON:
            raise ValueError(f"data.train_on is {self.train_on!r}; expected one of {', '.join(TRAIN_ON)}.")
        for name, value in vars(self).items():
            if name == "train_on" or (name == "test_queries" and value is None):
                continue
            low = 0 if name == "workers" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"data.{name} is {value!r}; expected a whole number of at least {low}.")


@dataclass(frozen=True)
class RerankingTask:
    """What is re-ranked and what it is judged by.

    Attributes:
        name: the split, for records.
        candidates: the first stage's ranking, cut to the depth.
        qrels: judgments of exactly the queries evaluated; a query without candidates is among them.
        first_stage: what ranked the candidates, for tables.
    """

    name: str
    candidates: Ranking
    qrels: Qrels
    first_stage: str


class RankingDataModule(StreamDataModule):
    """Streams query-passage triples for training, and candidates for validation and test.

    Args:
        train: reader of the training split; None where nothing is trained.
        valid: reader of the validation split; None where nothing is trained.
        test: reader of the test split.
        encoder: gives the token ids.
        settings: sizes and depths.
        seed: seed of the order of triples.
    """

    def __init__(
        self, train: Reader | None, valid: Reader | None, test: Reader, encoder: PairEncoder, settings: DataSettings, seed: int
    ) -> None:
        super().__init__(settings.workers)
        self._train, self._valid, self._test = train, valid, test
        self.encoder, self.settings, self._seed = encoder, settings, seed
        self._tasks: dict[str, RerankingTask] = {}

    @property
    def names(self) -> dict[str, str | None]:
        """Name of each split, for records."""
        readers = {"train": self._train, "valid": self._valid, "test": self._test}
        return {split: reader and reader.label for split, reader in readers.items()}

    def open(self) -> None:
        """Read everything that training needs, so that bad data are answered before the first step."""
        settings = self.settings
        self._source = open_triples(self._train, settings.train_on, settings.relevance_level, settings.negatives_depth)
        for split in ("valid", "test"):
            self.pairs(split)

    def task(self, split: str) -> RerankingTask:
        """Return what a split re-ranks; ``split`` is ``valid`` or ``test``."""
        if split not in self._tasks:
            reader = self._valid if split == "valid" else self._test
            limit = self.settings.valid_queries if split == "valid" else self.settings.test_queries
            depth = self.settings.valid_depth if split == "valid" else self.settings.depth
            qrels = dict(sorted(reader.qrels.items())[:: _stride(len(reader.qrels), limit)])
            self._tasks[split] = RerankingTask(reader.label, reader.candidates(depth, qrels), qrels, reader.first_stage)
        return self._tasks[split]

    def pairs(self, split: str, candidates: Ranking | None = None) -> list[Pair]:
        """Return the pairs of a split's candidates (or of others of its collection), with their texts."""
        reader = self._valid if split == "valid" else self._test
        candidates = self.task(split).candidates if candidates is None else candidates
        texts = reader.texts(hit.passage_id for row in candidates.values() for hit in row)
        return [
            Pair(query, hit.passage_id, reader.queries[query], texts[hit.passage_id])
            for query, row in candidates.items()
            for hit in row
        ]

    def timed_pairs(self, queries: int, depth: int) -> list[list[Pair]]:
        """Return the pairs of each of the first test queries in id order that have candidates, for measuring time."""
        able = [query for query, row in self.task("test").candidates.items() if row]
        found = self._test.candidates(depth, sorted(able)[:queries])
        pairs = self.pairs("test", found)
        return [[pair for pair in pairs if pair.query_id == query] for query in found]

    def training_stream(self, rank: int, world: int, start: int) -> TripleStream:
        """Return the stream of batches of triples."""
        size = self.settings.batch_size
        return TripleStream(self._source, self._train, self.encoder, size, self._seed, rank, world, start)

    def val_dataloader(self) -> DataLoader:
        """Return the validation pairs."""
        return self._evaluation("valid")

    def test_dataloader(self) -> DataLoader:
        """Return the test pairs."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> DataLoader:
        return self.loader(CandidateStream(self.pairs(split), self.encoder, self.settings.eval_batch_size, *self.place()))


def _stride(have: int, limit: int | None) -> int:
    """Step that spreads ``limit`` picks over ``have`` sorted ids, so that no topic is preferred."""
    return 1 if limit is None else -(-have // limit)
