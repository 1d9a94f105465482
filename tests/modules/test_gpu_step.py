"""The step that a GPU takes, on a machine without one: it asks the device nothing, and gives what the CPU's step gives.

Tensors on torch's device "meta" have no values: whatever needs one to go on, as a GPU would be waited for, raises there.
"""

import contextlib
import copy
from collections.abc import Callable
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from rankdistil import losses
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.data.records import PairBatch
from rankdistil.losses import Projection, WeightedSum
from rankdistil.models import bert, layout
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Trace
from rankdistil.models.student import LayerMap, map_layers
from rankdistil.modules.stage import DistillModule, FinetuneModule, LateAnswer, OptimSettings, StageModule, adamw
from rankdistil.stages.train import quieten

LENGTHS = [33, 20, 41, 12, 25, 25, 8, 39]
OPTIM = OptimSettings(1e-3, 10, 1)
LAYERS = {"embedding": losses.EmbeddingLoss, "hidden": losses.HiddenLoss, "attention": losses.AttentionLoss}
ON_LABELS = {
    "labels": {"labels": losses.LabelLoss},
    "labels of pairs": {"labels": partial(losses.LabelLoss, over="pair")},
    "gbce": {"labels": partial(losses.GBCELoss, sampled_from=20)},
}
ON_LAYERS = {
    "layers": LAYERS | {"logits": losses.LogitLoss, "labels": losses.LabelLoss},
    "padding counts": {name: partial(kind, count_padding=True) for name, kind in LAYERS.items()},
    "padding counts in one": LAYERS | {"attention": partial(losses.AttentionLoss, count_padding=True)},
    "relative": {"hidden": partial(losses.HiddenLoss, relative=True)},
    "shares": {"attention": partial(losses.AttentionLoss, compare="shares")},
    "first tokens": {"hidden": losses.FirstTokenLoss},
    "relations": {"relations": losses.RelationLoss},
}
SCORES = ("LogitMSELoss", "MarginMSELoss", "RankNetLoss", "LambdaLoss", "ListNetLoss", "ListMLELoss", "ADRMSELoss")
ON_SCORES = {name: {"scores": getattr(losses, name)} for name in SCORES} | {
    "logits of groups": {"scores": partial(losses.LogitLoss, over="group")},
    "margins of all": {"scores": partial(losses.MarginMSELoss, over="all")},
    "soft order": {"scores": partial(losses.RankNetLoss, order="soft")},
    "place counts": {"scores": partial(losses.ListMLELoss, position_aware=True)},
}
STAGES = ON_LABELS | ON_LAYERS | ON_SCORES


def network(layers: int, width: int, seed: int, dropout: float = 0.0) -> CrossEncoder:
    """Return a ranker with heads of width 6 or 13, which no fused kernel takes as they are."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=60, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=2 * width,
        num_labels=1, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, initializer_range=0.15,
    )  # fmt: skip
    return CrossEncoder(BertForSequenceClassification(config))


def a_batch(known: bool) -> PairBatch:
    """Return two groups of four pairs, with or without what is known where batches are made."""
    mask = (torch.arange(41) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    types, labels = (torch.arange(41) > 5).long() * mask, torch.tensor([1.0, 0, 0, 0] * 2)
    logits = torch.randn(8, generator=torch.Generator().manual_seed(2))
    batch = PairBatch(ids, mask, types, labels, torch.arange(8) // 4, ("q",) * 8, tuple("abcdefgh"), logits)
    return batch._replace(tokens=sum(LENGTHS), sizes=(2, 4)) if known else batch


def module_of(stage: str, dropout: float = 0.0) -> StageModule:
    student, kinds = network(2, 12, 2, dropout), STAGES[stage]
    named, weights = {name: kind() for name, kind in kinds.items()}, dict.fromkeys(kinds, 1.0)
    if stage in ON_LABELS:
        return FinetuneModule(student, WeightedSum(named, weights), OPTIM).train()
    torch.manual_seed(3)
    bridge = Projection("shared", 12, 26, 3) if {"hidden", "embedding"} & {*kinds} else None
    teacher = FrozenTeacher(network(4, 26, 1)) if stage in ON_LAYERS else None
    mapped = map_layers("uniform", 2, 4)
    if "relations" in named:
        mapped = LayerMap(*(each._replace(vectors=(last,)) for each, last in zip(mapped, (1, 3), strict=True)))
    return DistillModule(student, WeightedSum(named, weights, bridge), OPTIM, teacher, mapped).train()


def step(module: StageModule, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    total = module.loss(batch).total
    total.backward()
    return total.detach(), {name: part.grad for name, part in module.named_parameters() if part.grad is not None}


class Boolean(TorchFunctionMode):
    """Raises where a mask picks elements: on a GPU it is counted first; on "meta" only reading raises, not writing."""

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            picks = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(pick, Tensor) and pick.dtype == torch.bool for pick in picks)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast knows no device "meta"."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


def to_meta(module: StageModule, batch: PairBatch) -> tuple[StageModule, PairBatch]:
    if getattr(module, "teacher", None) is not None:
        module.teacher.to("meta")
    return module.to("meta"), PairBatch(*(part.to("meta") if isinstance(part, Tensor) else part for part in batch))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.usefixtures("without_autocast")
def test_a_step_asks_the_device_for_nothing(stage: str) -> None:
    module, batch = to_meta(module_of(stage, dropout=0.1), a_batch(known=True))
    with Boolean():
        total, gradients = step(module, batch)
        norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    assert total.device.type == norm.device.type == "meta"
    assert gradients


@pytest.mark.parametrize("stage", ["labels", "layers", "ListNetLoss"])
@pytest.mark.usefixtures("without_autocast")
def test_a_batch_that_does_not_say_how_large_it_is_has_to_be_asked(stage: str) -> None:
    module, batch = to_meta(module_of(stage), a_batch(known=False))
    with pytest.raises((NotImplementedError, RuntimeError), match=r"nonzero|item|unique"):
        module.loss(batch)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_batch_says_of_itself_changes_no_bit_of_losses_and_gradients(stage: str) -> None:
    found = [step(module_of(stage), a_batch(known)) for known in (False, True)]
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


@pytest.mark.parametrize("stage", [*ON_LABELS, *ON_LAYERS])
def test_attention_in_one_padded_batch_by_fused_kernels_gives_the_same_losses_and_gradients(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, gradients = step(module_of(stage), a_batch(known=True))
    monkeypatch.setattr(bert, "lay_out", partial(layout.lay_out, fused=True))
    found, others = step(module_of(stage), a_batch(known=True))
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        assert_close(others[name], gradient, rtol=1e-5, atol=1e-5)


def trainer_of(steps: int, *callbacks: L.Callback) -> L.Trainer:
    quieten()
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(accelerator="cpu", max_steps=steps, callbacks=[*callbacks], **off)


def loader(batches: list[PairBatch]) -> DataLoader:
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


@pytest.mark.filterwarnings("ignore:.*val_dataloader")
def test_what_is_logged_at_each_step_is_a_tensor_for_a_number_would_be_sent_to_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, logged, log = module_of("labels"), {}, StageModule.log
    monkeypatch.setattr(
        StageModule, "log", lambda own, name, value, **more: logged.update({name: value}) or log(own, name, value, **more)
    )
    trainer_of(2, ProgressReport("x", [2])).fit(module, loader([a_batch(known=True)] * 2))
    assert {"train/lr", "train/gradient_norm", "train/pairs_per_second"} <= logged.keys()
    assert all(isinstance(value, Tensor) for value in logged.values())


class Root(nn.Module):
    """A loss of 0 whose gradient is infinite in the batches called bad."""

    needs: frozenset[str] = frozenset()
    asks_teacher = False

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> Tensor:
        zero = (student.logits - student.logits.detach()).mean()
        return zero.sqrt() if batch.query_ids[0] == "bad" else zero


@pytest.mark.filterwarnings("ignore:.*val_dataloader")
@pytest.mark.parametrize(("names", "steps"), [(["good", "bad", "good", "good"], 4), (["good", "bad"], 2)], ids=["next", "end"])
def test_on_a_gpu_an_infinite_gradient_changes_no_weight_and_is_heard_one_step_later(
    names: list[str], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageModule, "_on_gpu", True)
    module, weights = FinetuneModule(network(2, 12, 2), WeightedSum({"root": Root()}, {"root": 1.0}), OPTIM), []
    keep = LambdaCallback(on_train_batch_end=lambda *_: weights.append(copy.deepcopy(module.state_dict())))
    batches = [a_batch(known=True)._replace(query_ids=(name,) * 8) for name in names]
    with pytest.raises(
        RuntimeError, match=rf"^step 2 of {steps}: the gradient's norm is nan, .* which the seed alone decides: bad\."
    ):
        trainer_of(steps, keep).fit(module, loader(batches))
    assert len(weights) == 2
    assert all(torch.equal(value, weights[0][name]) for name, value in module.state_dict().items())


def test_nothing_is_saved_of_a_step_that_is_not_finite() -> None:
    module = module_of("labels")
    module._late.ask(torch.tensor(torch.nan), [(("q",), torch.tensor(1.0))], adamw(module, OPTIM)[0])
    module.trainer = trainer_of(3)
    with pytest.raises(RuntimeError, match=r"^step 0 of 3: the gradient's norm is nan, the loss 1: stopped before the update"):
        module.on_save_checkpoint({})
    module.on_save_checkpoint({})  # it was told


def test_a_late_answer_leaves_out_the_update_alone_and_no_later_one() -> None:
    layer, late = nn.Linear(2, 1), LateAnswer()
    optimizer, _ = adamw(layer, OPTIM)
    start = layer.weight.detach().clone()
    for norm, moves in ((torch.inf, False), (1.0, True)):
        layer.weight.grad, layer.bias.grad = torch.full((1, 2), norm), torch.zeros(1)
        late.ask(torch.tensor(norm), [], optimizer)
        optimizer.step()
        assert torch.equal(layer.weight, start) is not moves
        assert layer.weight.isfinite().all()
    assert int(optimizer.state[layer.weight]["step"]) == 1
