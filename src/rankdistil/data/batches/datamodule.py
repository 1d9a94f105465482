"""The DataModule: training groups (from triples, or sampled), and the candidates that validation and test re-rank."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DataLoader

from rankdistil.data.batches.groups import GroupSource, Margin, cut_windows, longest_pairs
from rankdistil.data.batches.stream import (
    WINDOW,
    CandidateStream,
    GroupStream,
    Size,
    StreamDataModule,
)
from rankdistil.data.batches.texts import PairTexts
from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader, is_ordered
from rankdistil.data.collections.texts import Collection, interleaved, judgments, known_candidates, open_collection
from rankdistil.data.encode import PairEncoder, Rows
from rankdistil.data.records import Pair, Qrels, Ranking
from rankdistil.data.settings import DataSettings
from rankdistil.data.stores.contents import tokenizer_fingerprint
from rankdistil.data.teacher_scores.folder import load_scores, mean_on_one_scale, texts_scored

Item = TypeVar("Item")
TEXTS = "by_text"  # in the store, what names rows of its texts, not of its tokens


@dataclass(frozen=True)
class RerankingTask:
    """What is re-ranked and what it is judged by.

    Attributes:
        name: the split, for records.
        candidates: the first stage's ranking, cut to the depth.
        qrels: judgments of exactly the queries evaluated; a query without candidates is among them.
        first_stage: what ranked the candidates, for tables.
        topics: topic by query id, where the collection has topics.
    """

    name: str
    candidates: Ranking
    qrels: Qrels
    first_stage: str
    topics: dict[str, str] | None = None


class RankingDataModule(StreamDataModule):
    """Streams query-passage triples for training, and candidates for validation and test.

    Args:
        train: reader of the training split; None where nothing is trained.
        valid: reader of the validation split; None where nothing is trained.
        test: reader of the test split.
        encoder: gives the token ids; None for a teacher that scores texts, where batches to score hold these.
        settings: sizes and depths.
        seed: seed of the order of groups.
        scores: folders of teachers' scores to train from; their mean on one scale, where there are several.
    """

    def __init__(
        self, train: Reader | None, valid: Reader | None, test: Reader, encoder: PairEncoder | None, settings: DataSettings,
        seed: int, scores: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        super().__init__(settings.workers)
        self._train, self._valid, self._test = train, valid, test
        self.encoder, self.settings, self._seed = encoder, settings, seed
        self._score_folders, self._scores = scores, None
        self._size, self._larger = Size(settings.batch_size, settings.max_tokens), None
        if encoder is not None:
            self._size = self._size._replace(special=encoder.layout.special)
        self._source: GroupSource | None = None
        self._tasks: dict[str, RerankingTask] = {}
        self._stages: dict[str, Reader] = {}  # by name, of further first stages
        self._collections: dict[str, Collection] = {}
        self._pairs: dict[str, Rows] = {}

    @property
    def readers(self) -> list[Reader]:
        """The readers of the splits."""
        return [reader for reader in (self._train, self._valid, self._test) if reader is not None]

    @property
    def names(self) -> dict[str, str | None]:
        """Name of each split, for records."""
        readers = {"train": self._train, "valid": self._valid, "test": self._test}
        return {split: reader and reader.label for split, reader in readers.items()}

    def open(self) -> None:
        """Read everything that training needs, so that bad data are answered before the first step.

        Raises:
            ValueError: if nothing of the validation can be ranked: it would save no checkpoint, and choose none.
        """
        texts, source = self.open_training()
        if self.settings.max_tokens is not None:
            first = next(cut_windows(source.epoch(self._seed, 0), WINDOW * self._size.groups))
            lengths = np.minimum(longest_pairs(*texts, first), self.encoder.room)  # as they are cut
            self._larger = self._size.larger(lengths, first.shape[1] - 1, "groups")
        if not len(self._rows("valid")):
            task = self.task("valid")
            raise ValueError(
                f"{task.name}: {task.first_stage} finds no candidate for any of the {len(task.qrels)} validation queries: "
                "nothing would tell which checkpoint is the best. Do queries and passages belong together, and is "
                "data.language theirs? Or name a TREC run that ranks them: data.candidates=<file>."
            )
        self.open_test()

    def open_test(self) -> None:
        """Read everything that the test needs."""
        self._rows("test")

    def open_training(self) -> tuple[Collection, GroupSource]:
        """Read what is trained on: its texts and its groups."""
        settings, store = self.settings, self._store
        if self.encoder is None and store is not None:
            store /= TEXTS
        self._texts = self.collection("train")
        self._source = open_source(
            self._train, self._texts, settings.train_on, settings.relevance_level, settings.negatives_depth,
            settings.negatives_skip, settings.negatives, store, self._margin(),
        )  # fmt: skip
        if self._score_folders:
            asked = {"max_length": settings.max_length, "tokenizer": tokenizer_fingerprint(self.encoder.tokenizer)}
            asked |= texts_scored(self._train)
            found = [load_scores(folder, self._texts, asked) for folder in self._score_folders]
            self._scores = found[0] if len(found) == 1 else mean_on_one_scale(found, self._source.pairs())
        return self._texts, self._source

    def trained_queries(self) -> dict[str, str]:
        """Return the queries that are trained on, text by id."""
        texts = self._train.queries
        return {key: texts[key] for key in self._texts.queries.names(self._source.queries())}

    def asked(self, split: str) -> dict[str, str]:
        """Return the queries that a split is measured on, text by id."""
        texts = self._reader(split).queries
        return {key: texts[key] for key in self.task(split).qrels}

    def task(self, split: str) -> RerankingTask:
        """Return what a split re-ranks; ``split`` is ``valid`` or ``test``."""
        if split not in self._tasks:
            reader = self._reader(split)
            depth, limit = self.settings.reranked(split)
            judged = judgments(reader, self.collection(split).passages)
            qrels = spread(judged, limit)
            found = self._ranked(split, depth, qrels)
            self._tasks[split] = RerankingTask(reader.label, found, qrels, _named(reader, found), reader.topics(qrels))
        return self._tasks[split]

    def after(self, run: str | None) -> RerankingTask:
        """Return what the test re-ranks after another first stage, see ``Reader.ranked_by``; queries and texts are shared."""
        task, passages = self.task("test"), self.collection("test").passages
        reader = self._test.ranked_by(run)
        found = known_candidates(reader, reader.candidates(self.settings.depth, task.qrels), passages)
        named = _named(reader, found)
        self._stages[named] = reader
        return replace(task, candidates=found, first_stage=named)

    def rerank(self, task: RerankingTask) -> None:
        """Let the test re-rank other candidates than the split's own."""
        self._tasks["test"] = task
        self._pairs.pop("test", None)

    def account(self) -> dict[str, Any]:
        """Say what was left out of the data: bad lines, queries and negatives in training, judged queries without hits.

        And how many groups don't fit into a batch.
        """
        told = super().account() | ({"max_tokens": self._larger} if self._larger else {})
        level = self.settings.relevance_level
        sides = {split: self._reader(split) for split in ("train", "valid", "test")}
        held_out = {split: reader.side(level) for split, reader in sides.items() if reader is not None and reader.holdout}
        if held_out:
            told["holdout"] = {"level": level, "sides": held_out}
        if self._source is not None:
            told["training_queries"] = {"left_out": self._source.left_out, "groups": len(self._source)}
            if self._source.same_text:
                told["same_text"] = self._source.same_text
            if self._source.by_margin is not None:
                told["negatives_margin"] = self._source.by_margin._asdict()
        for split, task in self._tasks.items():
            if self.settings.windows is not None and split in self._pairs:
                told[f"{split}_windows"] = {"windows": len(rows := self._pairs[split]), "pairs": int((rows[:, 2] == 0).sum())}
            told[f"{split}_queries"] = {"judged": len(task.qrels), "with_candidates": sum(map(bool, task.candidates.values()))}
        return told

    def pairs(self, split: str, candidates: Ranking | None = None) -> list[Pair]:
        """Return the pairs of a split's candidates (or of others of its collection), with their texts."""
        reader = self._reader(split)
        candidates = self.task(split).candidates if candidates is None else candidates
        texts = reader.texts(hit.passage_id for row in candidates.values() for hit in row)
        return [
            Pair(query, hit.passage_id, reader.queries[query], texts[hit.passage_id])
            for query, row in candidates.items()
            for hit in row
        ]

    def timed_pairs(self, queries: int, depth: int) -> list[list[Pair]]:
        """Return the pairs of each of the first test queries in id order that have candidates, for measuring time."""
        candidates = self.task("test").candidates
        able = sorted(query for query, row in candidates.items() if row)[:queries]
        if depth <= self.settings.depth:
            found = {query: candidates[query][:depth] for query in able}
        else:
            found = self._ranked("test", depth, able, self._stages.get(self.task("test").first_stage))
        pairs = self.pairs("test", found)
        return [[pair for pair in pairs if pair.query_id == query] for query in found]

    def encoder_of(self, split: str) -> PairEncoder | PairTexts:
        """Return what makes batches of a split's pairs."""
        return PairTexts(self._reader(split)) if self.encoder is None else self.encoder

    def training_stream(self, rank: int, world: int, start: int, accumulated: int = 1) -> GroupStream:
        """Return the stream of batches of groups."""
        self.settings.require_equal_shares(world, accumulated)
        size = self._size._replace(parts=world * accumulated)
        return GroupStream(self._source, *self._texts, self.encoder, size, self._seed, rank, world, start, self._scores)

    def val_dataloader(self) -> DataLoader:
        """Return the validation pairs."""
        return self._evaluation("valid")

    def test_dataloader(self) -> DataLoader:
        """Return the test pairs."""
        return self._evaluation("test")

    def _margin(self) -> Margin | None:
        if self.settings.negatives_margin is None:
            return None
        folder = Path(self.settings.negatives_scores).expanduser()
        # Those of another teacher will do: its tokens are its own business, but the texts must be these.
        scores = load_scores(folder, self._texts, texts_scored(self._train), "data.negatives_scores")
        return Margin(scores, self.settings.negatives_margin)

    @property
    def _store(self) -> Path | None:
        return None if self.settings.store is None else Path(self.settings.store).expanduser()

    def _reader(self, split: str) -> Reader:
        return {"train": self._train, "valid": self._valid, "test": self._test}[split]

    def collection(self, split: str) -> Collection:
        """Return the texts of a split."""
        if split not in self._collections:
            self._collections[split] = open_collection(self._reader(split), self.encoder, self._store)
        return self._collections[split]

    def _ranked(self, split: str, depth: int, queries: Iterable[str], reader: Reader | None = None) -> Ranking:
        reader = reader or self._reader(split)
        return known_candidates(reader, reader.candidates(depth, queries), self.collection(split).passages)

    def _rows(self, split: str) -> Rows:
        """Return query and passage of each pair of a split, (N, 2), or each window of its document, (M, 3)."""
        if split not in self._pairs:
            collection, candidates = self.collection(split), self.task(split).candidates
            queries = [query for query, row in candidates.items() for _ in row]
            passages = [hit.passage_id for row in candidates.values() for hit in row]
            rows = np.stack([collection.queries.rows(queries), collection.passages.rows(passages)], axis=1)
            self._pairs[split] = rows if self.encoder is None or self.settings.windows is None else self._windows(rows, split)
        return self._pairs[split]

    def _windows(self, rows: Rows, split: str) -> Rows:
        """Name every window of the documents of pairs: query, passage and the window's number, (M, 3)."""
        queries, passages = self.collection(split)
        counts = self.encoder.count(queries.tokens(rows[:, 0]), passages.tokens(rows[:, 1]))
        numbers = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return np.column_stack([rows.repeat(counts, axis=0), numbers])

    def _evaluation(self, split: str) -> DataLoader:
        rows, size, encoder = self._rows(split), self.settings.eval_batch_size, self.encoder_of(split)
        return self.loader(CandidateStream(rows, *self.collection(split), encoder, size, *self.place()))


def _named(reader: Reader, candidates: Ranking) -> str:
    """Name a first stage, for tables."""
    return reader.first_stage if is_ordered(candidates) else f"{reader.first_stage} (no order)"


def pooled(tasks: Sequence[RerankingTask]) -> RerankingTask:
    """Unite the candidates of several first stages, so that each pair is scored once for all of them."""
    every = sum(max(map(len, task.candidates.values()), default=0) for task in tasks)
    candidates = interleaved([task.candidates for task in tasks], every)
    return replace(tasks[0], candidates=candidates, first_stage=" + ".join(task.first_stage for task in tasks))


def spread(judged: Qrels, limit: int | None) -> Qrels:
    """Pick ``limit`` queries, see ``evenly``, spread over the sorted ids, so that no topic is preferred."""
    return dict(evenly(sorted(judged.items()), limit))


def evenly(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """Pick ``limit`` of the items at equal distances, the first among them; all if None, or if there are fewer."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]
