"""Hidden-state, embedding and [CLS] losses: which positions count, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from rankdistil.losses.hidden import EmbeddingLoss, FirstTokenLoss, HiddenLoss, first_token_gap, hidden_mse
from rankdistil.models.bert import Trace

LOGITS = torch.zeros(1)


def test_identical_states_cost_nothing():
    states = torch.randn(2, 3, 5)
    assert hidden_mse(states, states, torch.ones(2, 3)) == 0


def test_real_tokens_and_units_weigh_equally():
    student = torch.zeros(2, 2, 4)
    student[0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # the only real token of its text; three real tokens in all
    loss = hidden_mse(student, torch.zeros_like(student), torch.tensor([[1, 0], [1, 1]]))
    assert_close(loss, torch.tensor((1 + 4 + 9 + 16) / (3 * 4)))


def test_padding_never_changes_the_loss():
    student, teacher, mask = torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.tensor([[1, 1, 1], [1, 1, 0]])
    longer = F.pad(student, (0, 0, 0, 4), value=99.0), F.pad(teacher, (0, 0, 0, 4), value=-7.0)
    padded = hidden_mse(*longer, F.pad(mask, (0, 4)))
    assert_close(padded, hidden_mse(student, teacher, mask))


def test_counted_padding_is_the_mean_over_all_positions():
    student = torch.tensor([[[1.0, 1.0], [3.0, 3.0]]])
    loss = hidden_mse(student, torch.zeros_like(student), torch.tensor([[1, 0]]), count_padding=True)
    assert_close(loss, torch.tensor((1.0 + 9.0) / 2))


def test_a_batch_without_real_tokens_costs_zero_and_gives_zero_gradient():
    student = torch.randn(1, 3, 2, requires_grad=True)
    loss = hidden_mse(student, torch.randn(1, 3, 2), torch.zeros(1, 3))
    loss.backward()
    assert loss == 0
    assert_close(student.grad, torch.zeros_like(student))


def test_gradient_reaches_real_tokens_of_the_student_and_never_the_teacher():
    student, teacher = torch.ones(1, 2, 2, requires_grad=True), torch.zeros(1, 2, 2, requires_grad=True)
    hidden_mse(student, teacher, torch.tensor([[1, 0]])).backward()
    assert_close(student.grad, torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
    assert teacher.grad is None


def test_half_precision_states_are_compared_in_float32():
    gap = torch.full((1, 2, 2), 300.0, dtype=torch.float16)  # 300 squared is beyond float16
    loss = hidden_mse(gap, torch.zeros_like(gap), torch.ones(1, 2))
    assert loss.dtype == torch.float32
    assert loss == 90_000


def test_different_widths_name_the_projection():
    with pytest.raises(ValueError, match=r"\(1, 4, 2\).*\(1, 4, 3\).*Set stage\.projection=auto"):
        hidden_mse(torch.zeros(1, 4, 2), torch.zeros(1, 4, 3), torch.ones(1, 4))


def test_the_loss_of_a_trace_sums_over_layers_without_the_embedding(batch_of):
    zeros = torch.zeros(1, 2, 3)
    student, teacher = Trace(LOGITS, (zeros + 100, zeros + 1, zeros + 2)), Trace(LOGITS, (zeros, zeros, zeros))
    assert_close(HiddenLoss()(student, teacher, batch_of([[1, 1]])), torch.tensor(1.0 + 4.0))


def test_the_module_passes_count_padding_on(batch_of):
    states = torch.tensor([[[1.0], [3.0]]])
    student, teacher = Trace(LOGITS, (states, states)), Trace(LOGITS, (states, torch.zeros_like(states)))
    assert HiddenLoss(count_padding=True)(student, teacher, batch_of([[1, 0]])) == 5
    assert HiddenLoss(count_padding=False)(student, teacher, batch_of([[1, 0]])) == 1


@pytest.mark.parametrize("loss", [HiddenLoss, FirstTokenLoss])
@pytest.mark.parametrize(("layers", "teacher_layers"), [(0, 0), (0, 2), (1, 2), (2, 1)])
def test_no_layer_or_unequal_layers_are_refused_instead_of_costing_zero(batch_of, layers, teacher_layers, loss):
    state = torch.zeros(1, 2, 3)
    student, teacher = Trace(LOGITS, (state,) * (layers + 1)), Trace(LOGITS, (state,) * (teacher_layers + 1))
    with pytest.raises(RuntimeError, match=f"over {layers} student and {teacher_layers} teacher layers"):
        loss()(student, teacher, batch_of([[1, 1]]))


def test_a_relative_loss_is_1_for_a_student_that_always_answers_the_mean_and_0_for_the_teacher():
    teacher, mask = torch.randn(3, 4, 5), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    mean = teacher[mask.bool()].mean(0).expand_as(teacher)
    assert_close(hidden_mse(mean, teacher, mask, relative=True), torch.tensor(1.0))
    assert hidden_mse(teacher, teacher, mask, relative=True) == 0


def test_a_relative_loss_does_not_depend_on_the_scale_of_a_layer_and_takes_the_mean_over_layers():
    states = [torch.randn(6, 5) for _ in range(4)]
    student, teacher = Trace(LOGITS, (states[0], states[1])), Trace(LOGITS, (states[2], states[3]))
    loud = [trace._replace(hidden_states=tuple(7 * state for state in trace.hidden_states)) for trace in (student, teacher)]
    batch = SimpleNamespace(attention_mask=torch.ones(2, 3), tokens=None)
    loss = HiddenLoss(relative=True)(student, teacher, batch)
    assert_close(loss, ((states[1] - states[3]) ** 2).mean() / states[3].var(0, correction=0).mean())
    assert_close(HiddenLoss(relative=True)(*loud, batch), loss)


def test_only_the_embedding_output_counts(batch_of):
    zeros = torch.zeros(1, 2, 3)
    student, teacher = Trace(LOGITS, (zeros + 3, zeros + 100)), Trace(LOGITS, (zeros, zeros))
    assert EmbeddingLoss()(student, teacher, batch_of([[1, 1]])) == 9


def test_padding_counts_only_where_asked_for_in_a_trace_that_holds_the_embedding_alone(batch_of):
    student, teacher = Trace(LOGITS, (torch.tensor([[[1.0], [3.0]]]),)), Trace(LOGITS, (torch.zeros(1, 2, 1),))
    assert EmbeddingLoss()(student, teacher, batch_of([[1, 0]])) == 1
    assert EmbeddingLoss(count_padding=True)(student, teacher, batch_of([[1, 0]])) == (1 + 9) / 2


@pytest.mark.parametrize("empty", ["student", "teacher"])
def test_a_trace_without_hidden_states_is_refused(batch_of, empty):
    full = Trace(LOGITS, (torch.zeros(1, 2, 3),))
    traces = {"student": full, "teacher": full, empty: Trace(LOGITS)}
    with pytest.raises(RuntimeError, match="without hidden states"):
        EmbeddingLoss()(traces["student"], traces["teacher"], batch_of([[1, 1]]))


def test_only_the_direction_of_cls_counts_with_padding_or_without():
    student, teacher = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    cosine = F.cosine_similarity(student[:, 0], teacher[:, 0])
    loss = first_token_gap(student, teacher, mask)
    assert_close(loss, (2 - 2 * cosine).mean())
    assert_close(first_token_gap(student[mask.bool()], 3 * teacher[mask.bool()], mask), loss)
    assert first_token_gap(student, 7 * student, mask) == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_cls_is_right_and_stays_with_the_student_s_first_tokens():
    student, teacher = (torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.ones(2, 2, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda states: first_token_gap(states, teacher, mask), student)
    first_token_gap(student, teacher, mask).backward()
    assert student.grad[:, 1].abs().sum() == 0 < student.grad[:, 0].abs().sum()
    assert teacher.grad is None


def test_cls_costs_a_mean_over_layers_without_the_embedding(batch_of):
    away, same = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[2.0, 0.0]]])
    student, teacher = Trace(LOGITS, (away, away, same)), Trace(LOGITS, (same, same, same))
    assert_close(FirstTokenLoss()(student, teacher, batch_of([[1]])), torch.tensor((2.0 + 0.0) / 2))
