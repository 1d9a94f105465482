"""Adding a loss: its file with its export, and its YAML; nothing else has to know it."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from support import CONF, random_student

from rankdistil import losses
from rankdistil.config.checks import check
from rankdistil.config.choices import makes_ranker
from rankdistil.data.records import PairBatch
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers
from rankdistil.models.student import LayerMap, StudentSize
from rankdistil.modules.stage import DistillModule
from rankdistil.stages import networks

FILE = '''
"""Hinge loss."""

from torch import Tensor, nn


class HingeLoss(nn.Module):
    """Keep a margin between what the teacher scores unlike."""

    needs = frozenset()
    asks_teacher = True

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(f"margin is {margin}; expected a number greater than 0.")
        self.margin = margin

    def forward(self, student, teacher, batch) -> Tensor:
        wanted = (teacher.logits[:, None] - teacher.logits).sign()
        return (self.margin - wanted * (student.logits[:, None] - student.logits)).relu().mean()
'''
YAML = """# @package _global_
method: hinge
stage:
  losses:
    scores: {weight: 1.0, loss: {_target_: rankdistil.losses.HingeLoss, margin: 2.0}}
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Compose with a loss that was added in the two steps that CONTRIBUTING.md names."""
    (tmp_path / "hinge.py").write_text(FILE)
    spec = importlib.util.spec_from_file_location("rankdistil.losses.hinge", tmp_path / "hinge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(losses, "HingeLoss", module.HingeLoss, raising=False)
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "conf/loss/hinge.yaml").write_text(YAML)

    def composed(*words: str):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            where = f"hydra.searchpath=[file://{tmp_path}/conf]"
            return compose("train", overrides=["+experiment=margin_mse_6l", "loss=hinge", where, *words])

    return composed


def test_a_file_and_a_yaml_suffice_for_a_loss_that_trains(added, tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    cfg = added()
    check(cfg)
    networks.check_losses(cfg)
    assert makes_ranker(cfg)
    assert cfg.folder == "hinge/6l/seed0"
    summed = networks.build_losses(cfg, None)
    assert summed.losses["scores"].margin == 2.0
    student = random_student(StudentSize("tiny", 2, 12, 3, 24), tiny_ranker)
    nothing = LayerMap(Layers(), Layers())
    module = DistillModule(student, summed, networks.optim_settings(cfg.stage), FrozenTeacher(tiny_ranker), nothing)
    value = module.loss(batch)
    value.total.backward()
    assert value.parts.keys() == {"scores"}
    assert all(torch.isfinite(weight.grad).all() for weight in module.parameters())


def test_its_settings_are_checked_like_those_of_any_other(added) -> None:
    for word, message in {
        "stage.losses.scores.loss.margin=-1": "stage.losses.scores.loss.margin is -1; expected a number greater than 0.",
        "stage.losses.scores.loss.margin=abc": "stage.losses.scores.loss.margin is 'abc'; expected a number.",
    }.items():
        with pytest.raises(ValueError) as caught:
            networks.build_losses(added(word), None)
        assert str(caught.value) == message
