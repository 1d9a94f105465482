"""Measurements of a ranker: ranking measures, inference time, and a teacher's scores kept shard by shard."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch.distributed as dist

from rankdistil.data.batches.datamodule import RerankingTask
from rankdistil.data.collections.reader import is_ordered
from rankdistil.data.collections.splits import Leak
from rankdistil.data.records import PairBatch, Ranking, ScoredPairs
from rankdistil.data.teacher_scores.folder import Shard, shard_name, write_shard
from rankdistil.data.windows import Windows
from rankdistil.files import write_json, write_text
from rankdistil.inference.stopwatch import Processes, Timed, TimingSettings, time_rankers, wanted_queries
from rankdistil.metrics.comparing import kendall_tau, overlap
from rankdistil.metrics.ranking import (
    MAIN,
    is_collapsed,
    means,
    passage_ids,
    per_query,
    random_order,
    ranked,
    tied_queries,
    with_choice,
    write_run,
)

Scores = dict[str, dict[str, float]]
"""Query id -> passage id -> score."""

VALIDATED = "valid.run"
CHOICE = "choice"


class RankingMetrics(L.Callback):
    """Ranks the candidates of each query by score and measures the ranking.

    Scores are gathered from all processes by (query id, passage id), duplicates dropped, and every measure computed once, so
    the numbers don't depend on the number of processes. Scores of a document's windows are united first.

    =====================  ==================================================================================================
    logged                 ``val/<measure>`` (nDCG@10, RR@10, AP), means over validation queries; ``val/tied_queries``, whose
                           scores are all equal (a count); ``val/choice``, by which the best validation is chosen: nDCG@10, or
                           0 of a ranker that has collapsed, whatever the luck of its order; beside a teacher's scores also
                           ``val/teacher_tau`` (Kendall) and ``val/teacher_top1`` (share of queries with the same best passage)
    logged once            ``val/first_stage_nDCG@10`` and, beside a teacher's scores, ``val/teacher_nDCG@10``: what the
                           validation's nDCG@10 is to be held against; no first stage that has no order
    ``metrics.json``       test: means in ``measures`` and ``first_stage``, its name, ``queries``, ``pairs`` and the like;
                           ``tied_queries`` (their scores are all one) of ``queries_with_choice`` (two candidates or more);
                           ``trained_on``: queries that the ranker was trained on (``data.trained_on.Leak``), null if unknown
    ``per_query.jsonl``    test: one line per query: ``query_id``, its ``topic`` where topics are known, ``measures``,
                           ``first_stage``, ``random_order`` (expected nDCG@10 of a random order of the candidates)
    ``test.run``           test: the ranking as a TREC run
    ``valid.run``          the same of the best validation: a teacher's students are held against it
    =====================  ==================================================================================================

    Args:
        folder: where the test's files go.
        relevance_level: lowest grade that RR and AP count as relevant.
        tag: name of the run in ``test.run`` and ``valid.run``.
        teacher: how the teacher ranks the validation's candidates; None where batches have its scores, or there is none.
        leak: test queries that the ranker was trained on; None where that isn't known.
        windows: that documents are read in; None where they aren't.
    """

    def __init__(
        self, folder: Path, relevance_level: int, tag: str, teacher: Ranking | None = None, leak: Leak | None = None,
        windows: Windows | None = None,
    ) -> None:  # fmt: skip
        self._folder, self._level, self._tag, self._teacher, self._leak = folder, relevance_level, tag, teacher, leak
        self._scored: list[ScoredPairs] = []
        self._best, self._windows = -1.0, windows  # the best is below 0 until a validation has ended

    def state_dict(self) -> dict[str, float]:
        """Return the highest ``val/choice``."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from there."""
        self._best = state_dict["best"]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget earlier scores."""
        self._scored = []

    on_test_start = on_validation_start

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: ScoredPairs, *_: Any) -> None:
        """Keep the scores of a batch, where they are: a GPU isn't waited for."""
        self._scored.append(outputs)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation measures."""
        scores, found = self._gather(trainer)
        if trainer.sanity_checking:
            return
        teacher = self._teacher or ranked(found)
        task, ranking = trainer.datamodule.task("valid"), ranked(scores)
        tied, values = tied_queries(scores), means(per_query(ranking, task.qrels, self._level))
        values |= {"tied_queries": float(tied), CHOICE: 0.0 if is_collapsed(tied, with_choice(scores)) else values[MAIN]}
        if self._best < 0:
            values |= self._beside(task, teacher)
        if teacher:
            orders = [passage_ids(side) for side in (ranking, teacher)]
            values |= {"teacher_tau": kendall_tau(*orders), "teacher_top1": overlap(*orders, depth=1)}
        for name, value in values.items():
            if value is not None:  # agreement needs two candidates
                pl_module.log(f"val/{name}", value, rank_zero_only=False, sync_dist=False)
        if values[CHOICE] > self._best:
            self._best = values[CHOICE]
            if trainer.is_global_zero:
                write_run(self._folder / VALIDATED, dict(sorted(ranking.items())), self._tag)

    def _beside(self, task: RerankingTask, teacher: Ranking) -> dict[str, float]:
        """Measure what the ranker is compared with: it stays the same from validation to validation."""
        others = {"teacher": teacher} if teacher else {}
        if is_ordered(task.candidates):
            others["first_stage"] = task.candidates
        return {f"{name}_{MAIN}": means(per_query(row, task.qrels, self._level))[MAIN] for name, row in others.items()}

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the test's files."""
        scores, _ = self._gather(trainer)
        if trainer.is_global_zero:
            self._write(trainer.datamodule.task("test"), scores)

    def _gather(self, trainer: L.Trainer) -> tuple[Scores, Scores]:
        """Collect the ranker's and the teacher's scores from all processes; the teacher's are empty where none was asked."""
        rows = [row for scored in self._scored for row in _rows(scored)]
        if trainer.world_size > 1:
            everywhere: list[list[tuple[str, str, int, float, float | None]]] = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(everywhere, rows)
            rows = [row for part in everywhere for row in part]
        if self._windows is not None:
            rows = _united(rows, self._windows)
        scores: Scores = {}
        teacher: Scores = {}
        for query_id, passage_id, _, score, teacher_score in rows:
            scores.setdefault(query_id, {})[passage_id] = score
            if teacher_score is not None:
                teacher.setdefault(query_id, {})[passage_id] = teacher_score
        return scores, teacher

    def _write(self, task: RerankingTask, scores: Scores) -> None:
        ranking = dict(sorted(ranked(scores).items()))
        values = per_query(ranking, task.qrels, self._level)
        first_stage = per_query(task.candidates, task.qrels, self._level)
        write_run(self._folder / "test.run", ranking, self._tag)
        chance, topics = random_order(task.candidates, task.qrels), task.topics
        lines = (
            json.dumps(
                {"query_id": query, **({"topic": topics[query]} if topics else {}), "measures": values[query],
                 "first_stage": first_stage[query], "random_order": {MAIN: chance[query]}}
            )
            for query in values
        )  # fmt: skip
        write_text(self._folder / "per_query.jsonl", "".join(f"{line}\n" for line in lines))
        write_json(
            self._folder / "metrics.json",
            {
                "dataset": task.name,
                "measures": means(values),
                "first_stage": means(first_stage),
                "first_stage_name": task.first_stage,
                "queries": len(values),
                "pairs": sum(len(row) for row in scores.values()),
                "tied_queries": tied_queries(scores),
                "queries_with_choice": with_choice(scores),
                "trained_on": self._leak and self._leak._asdict(),
                "queries_without_candidates": sum(not task.candidates.get(query) for query in values),
            },
        )


Row = tuple[str, str, int, float, float | None]
"""Query id, passage id, the document's window, the ranker's score and the teacher's."""


def _rows(scored: ScoredPairs) -> Iterator[Row]:
    scores = scored.scores.tolist()
    teacher = [None] * len(scores) if scored.teacher_scores is None else scored.teacher_scores.tolist()
    windows = [0] * len(scores) if scored.windows is None else scored.windows
    return zip(scored.query_ids, scored.passage_ids, windows, scores, teacher, strict=True)


def _united(rows: Iterable[Row], windows: Windows) -> Iterator[Row]:
    """Unite the rows of each document's windows."""
    parts = {row[:3]: row[3:] for row in rows}  # duplicates dropped
    ordered = sorted(parts)
    counts = Counter(key[:2] for key in ordered)
    sizes = np.array([*counts.values()], np.int64)
    ours, theirs = zip(*(parts[key] for key in ordered), strict=True) if ordered else ((), ())
    sides = [None if None in side else windows.unite(np.array(side, np.float32), sizes).tolist() for side in (ours, theirs)]
    return ((*key, 0, *(side and side[at] for side in sides)) for at, key in enumerate(counts))


class ScoreWriter(L.Callback):
    """Writes a shard once all of its pairs are scored.

    Args:
        folder: where shards go.
        sizes: pairs of each shard, by its number, which batches carry as their group.
    """

    def __init__(self, folder: Path, sizes: dict[int, int]) -> None:
        self._folder, self._sizes = folder, sizes
        self._scored: dict[int, list[ScoredPairs]] = {}

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: ScoredPairs, batch: PairBatch, *_: Any
    ) -> None:
        """Keep a batch; write its shard if it was the last one."""
        number = int(batch.groups[0])
        rows = self._scored.setdefault(number, [])
        rows.append(outputs._replace(scores=outputs.scores.cpu()))
        if sum(len(row.query_ids) for row in rows) < self._sizes[number]:
            return
        queries, passages = ([key for row in rows for key in getattr(row, name)] for name in ("query_ids", "passage_ids"))
        write_shard(
            self._folder / shard_name(number), Shard(queries, passages, np.concatenate([r.scores.numpy() for r in rows]))
        )
        del self._scored[number]


class InferenceTime(L.Callback):
    """Times rankers after the test, strings to scores, in all processes at once.

    Writes ``latency.json``, see ``time_rankers``.

    Args:
        folder: where ``latency.json`` goes.
        rankers: folder or hub id of each, by name; their tokens are those of the test.
        settings: what is timed.
        origin: commit and versions, see ``rankdistil.runs.record.origin``.
    """

    def __init__(self, folder: Path, rankers: Mapping[str, str], settings: TimingSettings, origin: dict[str, Any]) -> None:
        self._folder, self._rankers, self._settings, self._origin = folder, rankers, settings, origin

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Time the rankers and write the file."""
        data = trainer.datamodule
        rankers = {name: Timed(path, data.encoder) for name, path in self._rankers.items()}
        queries = data.timed_pairs(*wanted_queries(self._settings))
        found = time_rankers(rankers, pl_module.device, queries, self._settings, _processes(trainer), self._origin)
        if trainer.is_global_zero:
            write_json(self._folder / "latency.json", found)


def _processes(trainer: L.Trainer) -> Processes:
    if trainer.world_size == 1:
        return Processes()

    def gather(value: Any) -> list[Any]:
        everywhere = [None] * trainer.world_size
        dist.all_gather_object(everywhere, value)
        return everywhere

    return Processes(trainer.strategy.barrier, gather)
