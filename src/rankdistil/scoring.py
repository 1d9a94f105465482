"""The test of an export: the same for the end of training and for ``evaluate.py``, so both give the same numbers.

What is tested is what the user gets: the export is loaded back from its folder. Scores are computed in float32.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from rankdistil import late_ranks
from rankdistil.callbacks.graceful_stop import OwnSignals
from rankdistil.callbacks.inference_time import InferenceTime
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.ranking_metrics import RankingMetrics
from rankdistil.data.datamodule import RankingDataModule
from rankdistil.data.trained_on import find_leak
from rankdistil.inference.scoring_module import ScoringModule
from rankdistil.inference.timing_settings import TimingSettings
from rankdistil.lineage import origin
from rankdistil.models.load import load_ranker
from rankdistil.trainer import build_trainer


def build_runner(trainer: dict[str, Any], callbacks: Sequence[L.Callback]) -> L.Trainer:
    """Build a Trainer that scores in float32, and leaves nothing but what its callbacks write.

    Args:
        trainer: arguments of Lightning's Trainer that say where to run.
        callbacks: they take the scores.
    """
    return build_trainer(
        trainer | {"precision": "32-true"}, [OwnSignals(), *callbacks], logger=False, enable_checkpointing=False
    )


def score_export(
    export: str,
    data: RankingDataModule,
    folder: Path,
    label: str,
    relevance_level: int,
    trainer: dict[str, Any],
    timing: TimingSettings | None,
    teacher: str | None = None,
) -> None:
    """Test and time an export; the callbacks say which files they write.

    Args:
        export: folder or hub id.
        data: gives the test split.
        folder: where the files go.
        label: name of the ranker in progress and run file.
        relevance_level: lowest grade that RR and AP count as relevant.
        trainer: arguments of Lightning's Trainer that say where to run.
        timing: settings of ``InferenceTime``; None doesn't time it.
        teacher: folder or hub id of the ranker that is timed beside the export, if any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rankers = {"ranker": export} | ({"teacher": teacher} if teacher else {})
    leak = find_leak(Path(export).parent, data.asked("test"))
    callbacks = [
        RankingMetrics(folder, relevance_level, tag="_".join(label.split()), leak=leak),
        *([InferenceTime(folder, rankers, timing, origin())] if timing else []),
        ProgressReport(label),
    ]
    runner = build_runner(trainer, callbacks)
    late_ranks.begin("begins a test")
    runner.test(ScoringModule(load_ranker(export)), datamodule=data, verbose=False)
    late_ranks.begin("waits for the test's files")
    runner.strategy.barrier()  # until the first process has written the files
