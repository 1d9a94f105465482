"""Inference time callback: a ranker timed beside its teacher on the same pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist

from rankdistil.files import write_json
from rankdistil.inference.stopwatch import Processes, Timed, TimingSettings, time_rankers, wanted_queries


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
