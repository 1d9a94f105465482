"""How long a ranker takes, beside its teacher on the same pairs."""

import os
import platform
from pathlib import Path

import lightning as L
import torch

from rankdistil.data.datamodule import RankingDataModule
from rankdistil.data.records import Pair
from rankdistil.files import write_json
from rankdistil.inference.engine import Engine
from rankdistil.metrics.timing import measure, summary
from rankdistil.models.bert import CrossEncoder, parameter_count


class InferenceTime(L.Callback):
    """Times the re-ranking of single queries after the test, strings to scores.

    Writes ``latency.json``: the set-up (device, dtype, threads, queries, candidates, rounds, warm-up, batch, mean tokens) and
    for each ranker ``latency_ms_p50``, ``latency_ms_p95``, ``tokenise_ms_p50``, ``model_ms_p50`` per query,
    ``passages_per_second`` and ``parameters``; ``speed_up`` is the teacher's median latency over the student's.

    Args:
        folder: where ``latency.json`` goes.
        teacher: timed beside the ranker of the module; None if there is none.
        queries: queries timed.
        candidates: passages per query at most.
        rounds: passes over the queries.
        warmup: calls of each ranker before the clock counts.
        batch_size: pairs per batch.
    """

    def __init__(
        self,
        folder: Path,
        teacher: CrossEncoder | None,
        queries: int,
        candidates: int,
        rounds: int,
        warmup: int,
        batch_size: int,
    ) -> None:
        for name, value in (("queries", queries), ("candidates", candidates), ("rounds", rounds), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"callbacks.inference_time.{name} is {value}; expected at least 1.")
        self._folder, self._teacher = folder, teacher
        self._queries, self._candidates, self._rounds, self._warmup = queries, candidates, rounds, warmup
        self._batch_size = batch_size

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Time the rankers and write the file."""
        if not trainer.is_global_zero:
            return
        device = pl_module.device
        rankers = {"ranker": pl_module.ranker} | ({"teacher": self._teacher} if self._teacher is not None else {})
        queries = self._texts(trainer.datamodule)
        if not queries:
            raise ValueError("no test query has candidates: inference time can't be measured.")
        encoder = trainer.datamodule.encoder
        engines = {name: Engine(ranker, encoder, device, self._batch_size) for name, ranker in rankers.items()}
        timed = {name: (lambda pairs, engine=engine: engine.score(pairs)[1]) for name, engine in engines.items()}
        samples = measure(timed, queries, self._rounds, self._warmup)
        sizes = [len(pairs) for pairs in queries] * self._rounds
        rows = {
            name: summary(samples[name], sizes) | {"parameters": parameter_count(ranker)} for name, ranker in rankers.items()
        }
        report = {"setup": self._setup(device, queries, encoder), "rankers": rows}
        if "teacher" in rows:
            report["speed_up"] = rows["teacher"]["latency_ms_p50"] / rows["ranker"]["latency_ms_p50"]
        write_json(self._folder / "latency.json", report)

    def _texts(self, data: RankingDataModule) -> list[list[Pair]]:
        found = data.timing_candidates(self._queries, self._candidates)
        pairs = data.pairs("test", found)
        groups = [[pair for pair in pairs if pair.query_id == query] for query in found]
        return [group for group in groups if group]

    def _setup(self, device: torch.device, queries: list[list[Pair]], encoder: object) -> dict[str, object]:
        tokens = [int(encoder.batch(pairs).attention_mask.sum()) / len(pairs) for pairs in queries]
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
        return {
            "device": f"{device.type} ({name})",
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "queries": len(queries),
            "candidates_per_query": sum(map(len, queries)) / len(queries),
            "tokens_per_pair": sum(tokens) / len(tokens),
            "rounds": self._rounds,
            "warmup": self._warmup,
            "batch_size": self._batch_size,
            "includes_tokenisation": True,
        }
