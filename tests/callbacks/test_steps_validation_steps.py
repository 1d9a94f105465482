"""Validation behind given steps, in Lightning's own loop, with accumulation and behind a checkpoint."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from rankdistil.callbacks.steps import ValidationSteps
from rankdistil.stages.train import quieten

OFF = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


class Endless(IterableDataset):
    """The same number again and again."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return repeat(torch.ones(1))


class Small(L.LightningModule):
    """Notes the steps behind which it is validated."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.validated = torch.nn.Parameter(torch.ones(1)), []

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        if not self.trainer.sanity_checking:
            self.validated.append(self.trainer.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def validated(due: list[int], accumulated: int, callbacks: tuple = (), resume: Path | None = None) -> list[int]:
    quieten()
    module = Small()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=due[-1], accumulate_grad_batches=accumulated, check_val_every_n_epoch=None,
        val_check_interval=due[-1], callbacks=[ValidationSteps(due), *callbacks], **OFF,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Endless()), DataLoader(torch.ones(1, 1)), ckpt_path=resume, weights_only=True)
    return module.validated


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("due", [[2, 5, 7, 10], [1, 2, 3], [4]], ids=str)
def test_a_run_validates_behind_exactly_these_steps(due: list[int], accumulated: int) -> None:
    assert validated(due, accumulated) == due


class Save(L.Callback):
    """Saves behind a step, before its validation."""

    def __init__(self, step: int, file: Path) -> None:
        self._step, self._file = step, file

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self._step:
            trainer.save_checkpoint(self._file)


@pytest.mark.parametrize(("step", "left"), [(4, [5, 7]), (5, [7])])
def test_a_run_that_goes_on_validates_behind_what_is_left(tmp_path: Path, step: int, left: list[int]) -> None:
    """A checkpoint saved behind a step counts its validation as made, if one was due."""
    due, file = [2, 5, 7], tmp_path / "last.ckpt"
    assert validated(due, 2, (Save(step, file),)) == due
    assert validated(due, 2, resume=file) == left
