"""Optimiser, its schedule and weight decay; a loss or gradient that is no number ends training before the update."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

from rankdistil.data.records import PairBatch
from rankdistil.losses import Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder, Trace
from rankdistil.modules.stage import (
    FinetuneModule,
    OptimSettings,
    adamw,
    learning_rate_factor,
    parameter_groups,
    require_finite,
    validation_steps,
)
from rankdistil.stages.train import quieten


def test_every_weight_but_biases_and_layer_norms_decays(tiny_ranker):
    names = {id(parameter): name for name, parameter in tiny_ranker.named_parameters()}
    decay, plain = parameter_groups(tiny_ranker, 0.02)
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.02, 0.0)
    expected = {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name}
    assert {names[id(parameter)] for parameter in plain["params"]} == expected
    assert {names[id(parameter)] for parameter in decay["params"]} == set(names.values()) - expected


def test_a_projection_is_learnt_and_its_bias_does_not_decay(tiny_ranker):
    projection = Projection("shared", 12, 24, states=3)
    decay, plain = parameter_groups(nn.ModuleList([tiny_ranker, projection]), 0.01)
    assert any(parameter is projection.maps[0].weight for parameter in decay["params"])
    assert any(parameter is projection.maps[0].bias for parameter in plain["params"])


def test_frozen_weights_are_left_out(tiny_ranker):
    tiny_ranker.requires_grad_(False)
    tiny_ranker.bert.classifier.requires_grad_(True)
    decay, plain = parameter_groups(tiny_ranker, 0.01)
    assert [parameter.shape for parameter in decay["params"] + plain["params"]] == [(1, 24), (1,)]


def test_a_step_without_gradient_shrinks_decaying_weights_by_rate_times_decay():
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 2.0)
    optimizer, _ = adamw(module, OptimSettings(lr=0.5, steps=10, warmup_steps=0, weight_decay=0.1))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert module.weight.item() == pytest.approx(2 * (1 - 0.5 * 0.1))
    assert module.bias.item() == 2


def test_the_rate_climbs_to_its_peak_and_falls_to_the_end():
    factors = [learning_rate_factor(step, warmup_steps=3, steps=8) for step in range(9)]
    assert factors == pytest.approx([1 / 4, 2 / 4, 3 / 4, 5 / 5, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0])


@pytest.mark.parametrize(("warmup_steps", "steps"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 17)])
def test_no_step_of_a_run_has_a_rate_of_zero_or_above_the_peak(warmup_steps, steps):
    factors = [learning_rate_factor(step, warmup_steps, steps) for step in range(steps)]
    assert min(factors) > 0
    assert max(factors) <= 1


def test_steps_after_the_last_have_a_rate_of_zero():
    assert [learning_rate_factor(step, 2, 5) for step in (5, 6, 100)] == [0, 0, 0]


def test_after_the_warm_up_the_schedule_is_that_of_transformers():
    module = nn.Linear(1, 1)
    optimizer, schedule = adamw(module, OptimSettings(lr=0.1, steps=12, warmup_steps=4))
    theirs = torch.optim.SGD(module.parameters(), lr=0.1)
    expected = get_linear_schedule_with_warmup(theirs, num_warmup_steps=4, num_training_steps=12)
    for step in range(12):
        if step >= 4:
            assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr() * 2)  # two groups
        for part in optimizer, theirs, schedule, expected:
            part.step()


def test_the_first_step_uses_the_first_share_of_the_peak_rate():
    optimizer, _ = adamw(nn.Linear(1, 1), OptimSettings(lr=0.1, steps=10, warmup_steps=4))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 / 5, 0.1 / 5])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, value) for name in ("lr", "gradient_clip") for value in (0, -1.0, float("nan"), float("inf"), "1")],
        *[("weight_decay", value) for value in (-0.01, 1.0, float("nan"), None)],
        *[("steps", value) for value in (0, -5, 2.0, "10")],
        *[("warmup_steps", value) for value in (-1, 11, 0.1)],
    ],
)
def test_a_setting_out_of_range_names_its_key_and_value(field, value):
    settings = {"lr": 1e-3, "steps": 10, "warmup_steps": 1, field: value}
    with pytest.raises(ValueError, match=rf"stage\.{field} is {value!r}; expected a"):
        OptimSettings(**settings)


def test_a_warm_up_longer_than_the_run_names_the_run():
    with pytest.raises(ValueError, match=r"a whole number from 0 to stage\.steps \(10\)"):
        OptimSettings(lr=1e-3, steps=10, warmup_steps=11)


@pytest.mark.parametrize(
    ("steps", "validations", "expected"),
    [(300, 3, [100, 200, 300]), (10, 4, [2, 5, 7, 10]), (199, 2, [99, 199]), (7, 1, [7]), (3, 20, [1, 2, 3])],
)
def test_validations_are_evenly_spread_and_the_last_step_is_one_of_them(steps, validations, expected):
    assert validation_steps(steps, validations) == expected


@pytest.mark.parametrize("steps", [20, 50, 199, 1000])
def test_there_are_as_many_validations_as_were_asked_for(steps):
    found = validation_steps(steps, 20)
    assert len(set(found)) == 20
    gaps = [after - before for before, after in zip([0, *found], found, strict=False)]
    assert max(gaps) - min(gaps) <= 1
    assert found[-1] == steps


WHY = "stopped before the update, which would spoil all weights."
FIX = "Lower stage.lr, or look at the batch, which the seed alone decides"


class Root(torch.nn.Module):
    """A loss of 0 whose gradient is 1 in the first batch, and infinite in the others: that of a square root at 0."""

    needs: frozenset[str] = frozenset()
    asks_teacher = False

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> torch.Tensor:
        zero = (student.logits - student.logits.detach()).mean()
        return zero if batch.query_ids[0] == "good" else zero.sqrt()


def around(*folders: Path) -> SimpleNamespace:
    callbacks = [SimpleNamespace(dirpath=folder and str(folder)) for folder in (*folders, None)]
    return SimpleNamespace(global_step=7, max_steps=300, world_size=1, checkpoint_callbacks=callbacks)


def complaint(norm: float, *parts: tuple[tuple[str, ...], float], trainer: SimpleNamespace) -> str:
    with pytest.raises(RuntimeError) as caught:
        require_finite(torch.tensor(norm), [(ids, torch.tensor(loss)) for ids, loss in parts], trainer)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:.*val_dataloader")
@pytest.mark.fault("D1")
def test_an_infinite_gradient_of_a_finite_loss_changes_no_weight(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    batches = [batch._replace(query_ids=(name,) * 4) for name in ("good", "bad", "good")]
    module = FinetuneModule(tiny_ranker, WeightedSum({"root": Root()}, {"root": 1.0}), OptimSettings(1e-2, 3, 0))
    quieten()
    weights = []
    keep = LambdaCallback(on_train_batch_end=lambda *_: weights.append(copy.deepcopy(module.state_dict())))
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", max_steps=3, callbacks=[keep], **off)
    with pytest.raises(RuntimeError) as caught:
        trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))
    assert str(caught.value).startswith("step 2 of 3: the gradient's norm is nan, the loss 0: stopped before the update, ")
    assert len(weights) == 1
    assert all(torch.equal(value, weights[0][name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("norm", "loss"), [(math.inf, 0.5), (math.nan, math.nan), (1.0, math.inf)])
@pytest.mark.fault("D1")
def test_the_message_names_step_norm_loss_and_queries(norm: float, loss: float) -> None:
    assert complaint(norm, (("q1", "q1", "q2"), loss), trainer=around()) == (
        f"step 8 of 300: the gradient's norm is {norm:g}, the loss {loss:g}: {WHY} {FIX}: q1, q2. No checkpoint was saved."
    )


def test_of_accumulated_batches_those_with_a_finite_loss_are_left_out_if_there_are_others() -> None:
    parts = (("q1",), 0.5), (("q2",), math.nan), (("q3",), 0.5)
    assert "decides: q2. " in complaint(math.nan, *parts, trainer=around())
    assert "decides: q1, q3. " in complaint(math.nan, parts[0], parts[2], trainer=around())


def test_of_many_queries_the_first_fifty_are_named() -> None:
    names = tuple(f"q{number}" for number in range(53))
    assert f"{', '.join(names[:50])} and 3 more. " in complaint(math.inf, (names, 0.5), trainer=around())


@pytest.mark.fault("D1")
def test_the_last_whole_checkpoint_whose_weights_are_finite_is_named(tmp_path: Path) -> None:
    for step, weight in ((3, 1.0), (5, 2.0), (6, math.nan)):
        torch.save({"global_step": step, "state_dict": {"weight": torch.tensor([0.0, weight])}}, tmp_path / f"{step}.ckpt")
    (tmp_path / "7.ckpt").write_bytes(b"damaged")
    told = complaint(math.inf, (("q1",), 0.5), trainer=around(tmp_path, tmp_path / "none"))
    assert told.endswith(f"decides: q1. The last finite checkpoint is {tmp_path}/5.ckpt, of step 5.")


def test_the_largest_finite_norm_passes_and_what_is_above_it_does_not() -> None:
    largest = torch.tensor(torch.finfo(torch.float32).max)
    assert require_finite(largest, [(("q1",), torch.tensor(0.5))], around()) is None
    assert WHY in complaint(float(largest * 2), (("q1",), 0.5), trainer=around())
