"""Gradient shares change no result; validation comes behind given steps, in Lightning's own loop."""

import ctypes
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from support import random_student
from torch.utils.data import DataLoader, IterableDataset

from rankdistil.callbacks.steps import GradientShares, HeapTrim, StreamPosition, ValidationSteps
from rankdistil.data.batches.stream import StreamDataModule
from rankdistil.data.records import PairBatch
from rankdistil.losses import AttentionLoss, HiddenLoss, LogitLoss, Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher
from rankdistil.models.student import StudentSize, map_layers
from rankdistil.modules.stage import DistillModule, OptimSettings
from rankdistil.stages.train import quieten

LOSSES = {"hidden": HiddenLoss(), "attention": AttentionLoss(), "logits": LogitLoss()}


class Batches(StreamDataModule):
    """Ten times the same batch."""

    def __init__(self, batch: PairBatch) -> None:
        super().__init__(workers=0)
        self._batch = batch

    def training_stream(self, rank: int, world: int, start: int, accumulated: int = 1) -> list[PairBatch]:
        return [self._batch] * 10

    val_dataloader = StreamDataModule.train_dataloader


def module(teacher: CrossEncoder) -> DistillModule:
    torch.manual_seed(0)
    student = random_student(StudentSize("tiny", 2, 12, 3, 24), teacher)
    losses = WeightedSum(LOSSES, dict.fromkeys(LOSSES, 1.0), Projection("auto", 12, 24, 3))
    return DistillModule(student, losses, OptimSettings(1e-2, 10, 1), FrozenTeacher(teacher), map_layers("uniform", 2, 4))


class Kept(DummyLogger):
    """Keeps the rows that hold a share, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any("gradient_share" in name for name in metrics):
            self.rows[step] = metrics


def trained(teacher: CrossEncoder, batch: PairBatch, *callbacks: L.Callback) -> tuple[dict, dict]:
    """Weights after four steps with dropout, and the shares logged by step."""
    quieten()
    student, kept = module(teacher), Kept()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=4, log_every_n_steps=1, logger=kept, callbacks=list(callbacks), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(student, datamodule=Batches(batch))
    return student.state_dict(), kept.rows


def test_measuring_at_every_step_or_never_ends_with_the_same_weights(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    always, told = trained(tiny_ranker, batch, GradientShares(1), StreamPosition(3))
    never, silent = trained(tiny_ranker, batch, GradientShares(0), StreamPosition(3))
    assert all(torch.equal(value, never[name]) for name, value in always.items())
    assert [sum(row.values()) for row in told.values()] == pytest.approx([1.0] * 4)
    assert silent == {}


def test_shares_stand_at_the_steps_where_they_were_measured_and_at_no_other(
    tiny_ranker: CrossEncoder, batch: PairBatch
) -> None:
    _, told = trained(tiny_ranker, batch, GradientShares(2), StreamPosition(3))
    assert list(told) == [0, 2]
    assert set(told[0]) == {f"train/gradient_share_{name}" for name in LOSSES}


def test_measuring_after_the_step_is_seeded_would_change_the_weights(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    before, _ = trained(tiny_ranker, batch, GradientShares(1), StreamPosition(3))
    after, _ = trained(tiny_ranker, batch, StreamPosition(3), GradientShares(1))
    assert not all(torch.equal(value, after[name]) for name, value in before.items())


def steps_measured(every: int, losses: int, accumulated: int = 1) -> list[int]:
    """The steps of ten at which the losses were computed, once for each time."""
    measured, x = [], torch.ones(1, requires_grad=True)
    parts = {str(number): x.sum() for number in range(losses)}
    around = SimpleNamespace(global_step=0, precision_plugin=SimpleNamespace(forward_context=lambda: torch.enable_grad()))
    around.loggers = [SimpleNamespace(log_metrics=lambda _, step: measured.append(step))]
    stage = SimpleNamespace(
        losses=SimpleNamespace(weights=dict.fromkeys(parts, 1.0)), ranker=SimpleNamespace(parameters=lambda: [x]),
        loss=lambda _: SimpleNamespace(parts=parts),
    )  # fmt: skip
    callback = GradientShares(every)
    for around.global_step in range(10):
        for _ in range(accumulated):
            callback.on_train_batch_start(around, stage, None, 0)
    return measured


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, list(range(10))), (4, [0, 4, 8]), (50, [0])])
def test_shares_are_measured_every_so_many_steps(every: int, steps: list[int]) -> None:
    assert steps_measured(every, losses=2) == steps


def test_a_step_that_accumulates_batches_is_measured_once() -> None:
    assert steps_measured(4, losses=2, accumulated=16) == [0, 4, 8]


def test_a_single_loss_has_no_share_to_measure() -> None:
    assert steps_measured(1, losses=1) == []


@pytest.mark.parametrize("every", [-1, 1.5, "2", True, None])
def test_a_step_count_that_is_none_names_its_key(every: object) -> None:
    with pytest.raises(ValueError) as caught:
        GradientShares(every)
    assert str(caught.value) == f"callbacks.gradient_shares.every is {every!r}; expected a whole number of at least 0."


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


def resident() -> int:
    """Memory of this process that lies in RAM, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc's malloc_trim")
def test_memory_that_is_free_between_what_is_held_goes_back_every_so_many_batches():
    held = [bytearray(b"x" * 20_000) for _ in range(10_000)]
    del held[::2], held[::2]  # three of four, 150 MB in pieces
    before, trim = resident(), HeapTrim(every=3)
    for index in (0, 1):
        trim.on_train_batch_end(None, None, None, None, index)
    assert resident() > before - 10_000_000
    trim.on_train_batch_end(None, None, None, None, 2)
    assert resident() < before - 100_000_000
    assert len(held) == 2_500
