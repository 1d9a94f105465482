"""A frozen teacher stays frozen whatever happens around it."""

import torch
from torch import nn

from rankdistil.models.bert import FrozenTeacher, Layers

IDS = torch.tensor([[2, 7, 9, 3, 11, 3]])
INPUTS = IDS, torch.ones_like(IDS), torch.zeros_like(IDS)

ALL = Layers((0, 2, 4), (1, 3))


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


def test_under_autocast_its_body_is_converted_once_and_for_all_and_its_scores_stay_float32(tiny_ranker):
    expected = tiny_ranker(*INPUTS, ALL)
    teacher = FrozenTeacher(tiny_ranker)
    with torch.autocast("cpu", torch.bfloat16):
        trace = teacher(*INPUTS, ALL)
        dense, weight = teacher.bert.bert.encoder.layer[0].output.dense, teacher.bert.bert.embeddings.LayerNorm.weight
        teacher(*INPUTS)
    assert teacher.bert.bert.encoder.layer[0].output.dense is dense
    assert teacher.bert.bert.embeddings.LayerNorm.weight.data_ptr() == weight.data_ptr()
    for name, part in teacher.named_parameters():
        assert part.dtype == (torch.float32 if "pooler" in name or "classifier" in name else torch.bfloat16), name
    assert trace.logits.dtype == torch.float32
    assert {part.dtype for part in (*trace.hidden_states, *trace.attention_scores)} == {torch.bfloat16}
    torch.testing.assert_close(trace.logits, expected.logits, rtol=1e-2, atol=1e-3)
    for own, other in zip(trace.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(own.float(), other, rtol=0, atol=0.05)
