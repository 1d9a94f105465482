"""The average of the weights: what it is, who sees it, and that a run which was stopped goes on with it bit for bit."""

import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.swa_utils import AveragedModel
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, IterableDataset

from rankdistil.callbacks.checkpoints import AtomicCheckpointIO, RunCheckpoint
from rankdistil.callbacks.steps import StreamPosition, ValidationSteps, WeightAverage, decay_behind
from rankdistil.callbacks.stopping import SaveLast
from rankdistil.data.batches.stream import StreamDataModule
from rankdistil.processes.stopping import Stopped
from rankdistil.stages.train import quieten

DECAY, STEPS = 0.3, 6  # reached behind three steps


class Small(L.LightningModule):
    """Two weights, one under two names, and one that isn't trained; notes what steps and validations see."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1).to(dtype)
        self.again, self.still = self.layer, torch.nn.Parameter(torch.ones(2), requires_grad=False)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
        self.stepped, self.validated = [], []

    def values(self) -> torch.Tensor:
        return torch.cat([self.layer.weight.detach().flatten(), self.layer.bias.detach()]).clone()

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.stepped.append(self.values())
        return (self.layer(batch.to(self.layer.weight.dtype)) - 1).square().mean()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.validated.append(self.values())
        self.log("val/loss", self.values().abs().sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.layer.parameters(), lr=0.1)


class Ask(L.Callback):
    """Asks the process to stop inside of a validation."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step and not trainer.sanity_checking:
            signal.raise_signal(signal.SIGTERM)


class Rows(IterableDataset):
    """Batches of a row each, behind the first ones."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.arange(3.0 * place, 3.0 * place + 3).sin()[None] for place in count(self._start))


class Batches(StreamDataModule):
    """An endless stream, which a resumed run continues; two batches of a validation."""

    def training_stream(self, rank: int, world: int, start: int, accumulated: int = 1) -> Rows:
        return Rows(start)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(2, 3))


def train(
    folder: Path, *callbacks: L.Callback, decay: float | None = DECAY, accumulated: int = 1, resume: bool = False,
    dtype: torch.dtype = torch.float32, every: tuple[int | None, float | None] = (None, None),
) -> Small:  # fmt: skip
    """Train for six steps, validated behind the second, the fourth and the last."""
    quieten()
    module, last = Small(dtype), folder / "last.ckpt"
    stop = SaveLast(last, *every)
    trainer = L.Trainer(
        accelerator="cpu", max_steps=STEPS, logger=False, enable_progress_bar=False, enable_model_summary=False,
        accumulate_grad_batches=accumulated, check_val_every_n_epoch=None, val_check_interval=2 * accumulated,
        plugins=[AtomicCheckpointIO()], num_sanity_val_steps=1,
        callbacks=[
            *([] if decay is None else [WeightAverage(decay)]), StreamPosition(0), ValidationSteps([2, 4, 6]), *callbacks,
            stop,
            RunCheckpoint(folder, "best", monitor="val/loss", mode="min", enable_version_counter=False),
            ModelCheckpoint(folder, "last", save_on_train_epoch_end=False, enable_version_counter=False),
        ],
    )  # fmt: skip
    with stop.listening():
        trainer.fit(module, datamodule=Batches(workers=0), ckpt_path=last if resume else None, weights_only=True)
    return module


def saved(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / f"{name}.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("updates", "decay", "share"),
    [(0, 0.99, 0.1), (8, 0.99, 0.5), (71, 0.999, 72 / 81), (80, 0.9, 0.9), (889, 0.99, 890 / 899)],
)
def test_the_average_begins_short_and_grows_until_its_decay(updates: int, decay: float, share: float) -> None:
    assert decay_behind(updates, decay) == pytest.approx(share)
    assert decay_behind(10**6, decay) == decay


def test_behind_72_steps_nothing_is_left_of_the_start() -> None:
    assert torch.tensor([decay_behind(step, 0.999) for step in range(72)]).prod() < 1e-10


@pytest.mark.parametrize("accumulated", [1, 3])
def test_validations_see_the_average_of_all_steps_and_steps_the_live_weights(tmp_path: Path, accumulated: int) -> None:
    averaged, plain = train(tmp_path / "a", accumulated=accumulated), train(tmp_path / "b", decay=None, accumulated=accumulated)
    assert all(torch.equal(one, two) for one, two in zip(averaged.stepped, plain.stepped, strict=True))
    live = [*plain.stepped[::accumulated], plain.values()]
    peer = AveragedModel(torch.nn.ParameterList([torch.nn.Parameter(live[0])]), avg_fn=_by_hand)
    for step in range(STEPS + 1):
        peer.update_parameters(torch.nn.ParameterList([torch.nn.Parameter(live[step])]))
        if step in (2, 4, 6):
            seen = averaged.validated[step - 1 : step + 1]  # of two batches, behind the one that is looked at first
            assert all(torch.allclose(one, peer.module[0].detach(), atol=1e-6) for one in seen)
            assert not torch.allclose(seen[0], live[step], atol=1e-3)
    assert torch.allclose(averaged.values(), peer.module[0].detach(), atol=1e-6)  # when training has ended


def _by_hand(average: torch.Tensor, live: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    share = min(DECAY, int(updates) / (9 + int(updates)))  # the start counts as the first one there
    return share * average + (1 - share) * live


def test_a_checkpoint_holds_the_average_under_every_name_and_the_live_weights_beside_it(tmp_path: Path) -> None:
    module = train(tmp_path)
    for name, validation in (("best", None), ("last", -1)):
        checkpoint = saved(tmp_path, name)
        place = validation or [2, 4, 6].index(checkpoint["global_step"]) * 2 + 1
        for layer in ("layer", "again"):
            state = [checkpoint["state_dict"][f"{layer}.{part}"].flatten() for part in ("weight", "bias")]
            assert torch.equal(torch.cat(state), module.validated[place])
        assert torch.equal(checkpoint["state_dict"]["still"], torch.ones(2))
    assert saved(tmp_path, "best")["global_step"] != 2
    assert not torch.equal(torch.cat([value.flatten() for value in saved(tmp_path)["live_weights"]]), module.validated[-1])


def test_a_run_that_is_stopped_inside_of_a_validation_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", Ask(4))
    assert saved(tmp_path / "stopped")["global_step"] == 4
    resumed = train(tmp_path / "stopped", resume=True)
    assert len(resumed.stepped) == 2
    for name in ("best", "last"):
        one, two = saved(tmp_path / "whole", name), saved(tmp_path / "stopped", name)
        assert one["global_step"] == two["global_step"]
        assert all(torch.equal(value, two["state_dict"][key]) for key, value in one["state_dict"].items())
        assert all(torch.equal(*pair) for pair in zip(one["live_weights"], two["live_weights"], strict=True))


def assert_same(one: Path, two: Path) -> None:
    """Both checkpoints hold the same to the last bit, but for the folders that they name."""
    for name in ("best", "last"):
        contents = [saved(folder, name) for folder in (one, two)]
        places = [str(content).replace(str(folder), "") for content, folder in zip(contents, (one, two), strict=True)]
        assert places[0] == places[1]
        leaves = [tree_leaves(content) for content in contents]
        assert [torch.is_tensor(leaf) for leaf in leaves[0]].count(True) > 6
        tensors = [[leaf for leaf in own if torch.is_tensor(leaf)] for own in leaves]
        assert all(torch.equal(*pair) for pair in zip(*tensors, strict=True))


class Die(L.Callback):
    """Ends a training as ``kill -9`` does: nothing is saved or cleaned up behind a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_run_that_dies_between_validations_goes_on_from_where_it_was_saved_last(tmp_path: Path, accumulated: int) -> None:
    train(tmp_path / "whole", accumulated=accumulated)  # without checkpoints in between, of which nothing is kept
    died = []
    for every, step in (((3, None), 4), ((1, None), 5), ((None, 0.0), 6)):
        with pytest.raises(SystemExit):
            train(tmp_path / "died", Die(step - 1), every=every, accumulated=accumulated, resume=bool(died))
        died.append(saved(tmp_path / "died")["global_step"])
    assert died == [3, 4, 5]  # of step 4 the validation's
    resumed = train(tmp_path / "died", accumulated=accumulated, resume=True)
    assert len(resumed.stepped) == accumulated
    assert_same(tmp_path / "whole", tmp_path / "died")


def test_weights_in_bfloat16_are_averaged_in_float32(tmp_path: Path) -> None:
    module = train(tmp_path, dtype=torch.bfloat16, decay=0.9)
    state = saved(tmp_path)["state_dict"]["layer.weight"]
    assert (module.layer.weight.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert not torch.equal(state, state.to(torch.bfloat16).float())
    assert torch.equal(module.layer.weight.detach(), state.to(torch.bfloat16))
