"""Keeps a teacher's scores, shard by shard, so that a stopped run goes on with the next one."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from rankdistil.data.batch import PairBatch, ScoredPairs
from rankdistil.data.scores import Shard, shard_name, write_shard


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
