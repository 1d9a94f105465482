"""Progress of training and scoring: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from rankdistil.data.batches.datamodule import RerankingTask
from rankdistil.inference.machine import Fetched
from rankdistil.metrics.ranking import is_collapsed
from rankdistil.processes.progress import Work, say, screen

RANKING, LOSS = "val/nDCG@10", "val/loss"


class ProgressReport(L.Callback):
    """Shows steps, pairs per second and time left.

    Logs ``train/pairs_per_second``, step by step, of all processes together, and says the validation's outcome. Checkpoints
    keep the time spent, so that a resumed run counts all of its parts.

    Args:
        label: what runs, for example ``teacher minilm``.
        validated: steps behind which a training is validated, ascending.
        tested: what is done where nothing is trained.
        rated: what the rate counts.
    """

    def __init__(self, label: str, validated: Sequence[int] = (), tested: str = "test", rated: str = "pairs") -> None:
        self._label, self._validated, self._console = label, validated, screen()
        self._tested, self._rated = tested, rated
        self._work: Work | None = None
        self._step_ended = 0.0
        self._loss: Fetched | None = None
        self._spent, self._began = 0.0, None

    @property
    def seconds(self) -> float:
        """Time spent training, validations included."""
        return self._spent + (0.0 if self._began is None else time.monotonic() - self._began)

    def state_dict(self) -> dict[str, float]:
        """Return the time spent."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on counting."""
        self._spent = state_dict["seconds"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let one process speak for all."""
        self._console.quiet = not trainer.is_global_zero

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Open the training bar."""
        self._open("train", trainer.max_steps, trainer.global_step)
        self._began = self._step_ended = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Advance the training bar."""
        pairs, now = len(batch.query_ids) * trainer.world_size, time.monotonic()  # batches of all processes are about alike
        rate = torch.tensor(pairs / max(now - self._step_ended, 1e-9))  # a plain number would be sent to the GPU
        module.log("train/pairs_per_second", rate)
        self._step_ended = now
        step, note = trainer.global_step, ""
        if (loss := trainer.callback_metrics.get("train/loss")) is not None:
            before, self._loss = self._loss, Fetched(loss)
            late = before is not None and step < trainer.max_steps and not self._loss.there()  # a GPU's: of the step before
            note = f"loss {(before if late else self._loss).number():.4f}"
        self._work.advance(step, pairs, note, due=step == trainer.max_steps)

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Close the training bar, and say so if training has stopped before its last step."""
        self._spent, self._began = self.seconds, None
        self._close()
        if trainer.should_stop and trainer.global_step < trainer.max_steps:
            done = f"stopped behind step {trainer.global_step} of {trainer.max_steps}"
            say(self._console, f"{self._label}: {done}: validation no longer gets better (stage.patience)")

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Say the validation measures, beside those that a ranker is to reach, and whether it has collapsed."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        if not trainer.sanity_checking and (RANKING in found or LOSS in found):
            number = bisect_right(self._validated, trainer.global_step)
            place = f"val {number}/{len(self._validated)} (step {trainer.global_step})"
            task = trainer.datamodule.task("valid") if RANKING in found else None
            for line in [f"loss {found[LOSS]:.4f}"] if task is None else _ranking_lines(found, task):
                say(self._console, f"{self._label}: {place}: {line}")
        self._step_ended = time.monotonic()  # the next step's rate leaves validation out

    def on_test_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Open the test bar."""
        self._open(self._tested, sum(trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Advance the test bar."""
        self._work.advance(batch_idx + 1, len(batch.query_ids), due=batch_idx + 1 == sum(trainer.num_test_batches))

    def on_test_epoch_end(self, *_: Any) -> None:
        """Close the test bar."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """Give the terminal back."""
        self._close()

    def _open(self, what: str, total: int, begun: int = 0) -> None:
        self._work = Work(f"{self._label}: {what}", total, rated=self._rated, begun=begun, console=self._console)

    def _close(self) -> None:
        if self._work is not None:
            self._work.close()


def _ranking_lines(found: dict[str, float], task: RerankingTask) -> list[str]:
    beside = {task.first_stage: found.get("val/first_stage_nDCG@10"), "teacher": found.get("val/teacher_nDCG@10")}
    known = ", ".join(f"{name} {value:.4f}" for name, value in beside.items() if value is not None)
    line = f"nDCG@10 {found[RANKING]:.4f}" + (f" ({known})" if known else "")
    if "val/teacher_tau" in found:
        line += f", tau with the teacher {found['val/teacher_tau']:.4f}"
    if not (tied := int(found.get("val/tied_queries", 0))):
        return [line]
    queries = sum(len(row) > 1 for row in task.candidates.values())
    told = f"all scores of {tied} of {queries} queries are equal: the order is by id"
    return [line, f"collapsed: {told}, and any other validation is better" if is_collapsed(tied, queries) else told]
