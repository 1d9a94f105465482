"""A frozen teacher stays frozen whatever happens around it."""

import torch
from torch import nn

from rankdistil.models.teacher import FrozenTeacher

IDS = torch.tensor([[2, 7, 9, 3, 11, 3]])
INPUTS = IDS, torch.ones_like(IDS), torch.zeros_like(IDS)


def test_a_teacher_stays_in_evaluation_mode_when_it_and_what_holds_it_are_trained(tiny_ranker):
    teacher = FrozenTeacher(tiny_ranker.train())
    for train in teacher.train, nn.ModuleList([teacher]).train:
        train()
        assert not any(part.training for part in teacher.modules())


def test_a_teacher_gives_the_scores_of_the_ranker_it_was_made_of_without_dropout(tiny_ranker):
    expected = tiny_ranker(*INPUTS).logits
    teacher = FrozenTeacher(tiny_ranker.train()).train()
    assert torch.equal(teacher(*INPUTS).logits, expected)


def test_no_weight_of_a_teacher_is_learnt(tiny_ranker):
    teacher = FrozenTeacher(tiny_ranker)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(*INPUTS).logits.requires_grad
