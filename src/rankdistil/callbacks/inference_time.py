"""How long a ranker takes, beside its teacher on the same pairs."""

from pathlib import Path

import lightning as L

from rankdistil.files import write_json
from rankdistil.inference.engine import Engine
from rankdistil.inference.stopwatch import TimingSettings, time_rankers
from rankdistil.inference.torch_network import TorchNetwork
from rankdistil.models.bert import CrossEncoder


class InferenceTime(L.Callback):
    """Times the re-ranking of single queries after the test, strings to scores.

    Writes ``latency.json``: ``setup`` and, for each ranker, its times (see ``time_rankers``); ``speed_up`` is the teacher's
    median latency over the student's.

    Args:
        folder: where ``latency.json`` goes.
        teacher: timed beside the ranker of the module; None if there is none.
        settings: queries, rounds and the like.
    """

    def __init__(self, folder: Path, teacher: CrossEncoder | None, settings: TimingSettings) -> None:
        self._folder, self._teacher, self._settings = folder, teacher, settings

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Time the rankers and write the file."""
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule
        rankers = {"ranker": pl_module.ranker} | ({"teacher": self._teacher} if self._teacher is not None else {})
        engines = {
            name: Engine(TorchNetwork(ranker, data.encoder, pl_module.device), data.encoder) for name, ranker in rankers.items()
        }
        setup, rows = time_rankers(engines, data.timed_pairs(self._settings.queries, self._settings.candidates), self._settings)
        report: dict[str, object] = {"setup": setup, "rankers": rows}
        if "teacher" in rows:
            report["speed_up"] = rows["teacher"]["latency_ms_p50"] / rows["ranker"]["latency_ms_p50"]
        write_json(self._folder / "latency.json", report)
