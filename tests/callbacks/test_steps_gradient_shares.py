"""Measuring shares changes no result, and says which loss moves the student."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from support import random_student

from rankdistil.callbacks.steps import GradientShares, StreamPosition
from rankdistil.data.batches.stream import StreamDataModule
from rankdistil.data.records import PairBatch
from rankdistil.losses import AttentionLoss, HiddenLoss, LogitLoss, Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.student import StudentSize, map_layers
from rankdistil.models.teacher import FrozenTeacher
from rankdistil.modules import DistillModule
from rankdistil.modules.stage import OptimSettings
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
