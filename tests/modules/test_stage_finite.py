"""A loss or a gradient that is no number ends training before the update, and the message says where and on what."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch.utils.data import DataLoader

from rankdistil.data.records import PairBatch
from rankdistil.losses import WeightedSum
from rankdistil.models.bert import CrossEncoder, Trace
from rankdistil.modules import FinetuneModule
from rankdistil.modules.stage import OptimSettings, require_finite
from rankdistil.stages.train import quieten

WHY = "stopped before the update, which would spoil all weights."
FIX = "Lower stage.lr, or look at the batch, which the seed alone decides"


class Root(torch.nn.Module):
    """A loss of 0 whose gradient is 1 in the first batch, and infinite in the others: that of a square root at 0."""

    needs: frozenset[str] = frozenset()
    asks_teacher = False

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> torch.Tensor:
        zero = (student.logits - student.logits.detach()).mean()
        return zero if batch.query_ids[0] == "good" else zero.sqrt()


def around(*checkpoints: Path) -> SimpleNamespace:
    callbacks = [SimpleNamespace(best_model_path=str(path)) for path in (*checkpoints, "")]
    return SimpleNamespace(global_step=7, max_steps=300, world_size=1, checkpoint_callbacks=callbacks)


def complaint(norm: float, *parts: tuple[tuple[str, ...], float], trainer: SimpleNamespace) -> str:
    with pytest.raises(RuntimeError) as caught:
        require_finite(torch.tensor(norm), [(ids, torch.tensor(loss)) for ids, loss in parts], trainer)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:.*val_dataloader")
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


def test_the_last_checkpoint_whose_weights_are_finite_is_named(tmp_path: Path) -> None:
    for step, weight in ((3, 1.0), (5, 2.0), (6, math.nan)):
        torch.save({"global_step": step, "state_dict": {"weight": torch.tensor([0.0, weight])}}, tmp_path / f"{step}.ckpt")
    there = around(*(tmp_path / name for name in ("6.ckpt", "5.ckpt", "3.ckpt", "none.ckpt")))
    told = complaint(math.inf, (("q1",), 0.5), trainer=there)
    assert told.endswith(f"decides: q1. The last finite checkpoint is {tmp_path}/5.ckpt, of step 5.")


def test_the_largest_finite_norm_passes_and_what_is_above_it_does_not() -> None:
    largest = torch.tensor(torch.finfo(torch.float32).max)
    assert require_finite(largest, [(("q1",), torch.tensor(0.5))], around()) is None
    assert WHY in complaint(float(largest * 2), (("q1",), 0.5), trainer=around())
