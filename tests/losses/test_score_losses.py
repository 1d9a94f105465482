"""What all losses over scores keep to: groups, padding, types, gradients; and the values that other libraries give."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rankdistil.losses.labels import generalised_binary_cross_entropy, label_cross_entropy
from rankdistil.losses.lists import adr_mse, list_mle, list_net
from rankdistil.losses.logits import group_divergence, logit_mse, soft_cross_entropy
from rankdistil.losses.pairs import lambda_loss, margin_mse, ranknet, soft_ranknet

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of the student's scores, the teacher's, and groups


def from_labels(loss: Callable[..., Tensor]) -> Loss:
    """Take what the teacher puts above 0 for judgments."""
    return lambda student, teacher, groups: loss(student, (teacher.detach() > 0).float(), groups)


OVER_GROUPS: dict[str, Loss] = {
    "margin_mse": lambda student, teacher, groups: margin_mse(student, teacher, groups, (teacher.detach() > 0).float()),
    "margin_mse of all": margin_mse,
    "ranknet": ranknet,
    "soft_ranknet": soft_ranknet,
    "lambda_loss": lambda_loss,
    "listwise_kl": partial(group_divergence, temperature=2.0),
    "list_net": list_net,
    "list_mle": list_mle,
    "list_mle by position": partial(list_mle, position_aware=True),
    "adr_mse": adr_mse,
    "infonce": from_labels(label_cross_entropy),
}
POINTWISE: dict[str, Loss] = {
    "gbce": from_labels(partial(generalised_binary_cross_entropy, sampled_from=10)),
    "logit_mse": lambda student, teacher, groups: logit_mse(student, teacher),
    "soft_cross_entropy": lambda student, teacher, groups: soft_cross_entropy(student, teacher),
}
ALL = OVER_GROUPS | POINTWISE
every = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
over_groups = pytest.mark.parametrize("loss", OVER_GROUPS.values(), ids=OVER_GROUPS)

STUDENT, TEACHER = torch.tensor([2.0, -1.0, 0.5, 0.1, 0.3, -0.2]), torch.tensor([9.0, -8.0, 1.5, 3.0, -2.0, 0.0])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1])
FIRST, AS_THEY_STAND = torch.tensor([1.0, 0, 0, 1, 0, 0]), torch.tensor([3.0, 2, 1, 3, 2, 1])


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (partial(margin_mse, labels=FIRST), 66.58250),  # sentence-transformers
        (margin_mse, 56.09666),  # lightning-ir
        (ranknet, 0.46300),  # lightning-ir
        (soft_ranknet, 0.45537),  # written out
        (group_divergence, 0.55400),  # lightning-ir
        (list_net, 0.67047),  # sentence-transformers
        (adr_mse, 0.29037),  # both
        (partial(adr_mse, discount="none"), 0.41168),  # lightning-ir
        (partial(adr_mse, discount="reciprocal"), 0.24988),  # lightning-ir
        (lambda_loss, 1.50574),  # sentence-transformers
        (lambda student, _, groups: list_mle(student, AS_THEY_STAND, groups), 1.75137),  # sentence-transformers
        (lambda student, _, groups: list_mle(student, AS_THEY_STAND, groups, True), 0.76966),  # sentence-transformers
        (lambda student, teacher, groups: label_cross_entropy(student, FIRST, groups), 0.66363),  # lightning-ir
    ],
)
def test_values_are_those_observed_with_lightning_ir_0_0_6_and_sentence_transformers_6_2_0(loss: Loss, value: float):
    assert float(loss(STUDENT, TEACHER, GROUPS)) == pytest.approx(value, abs=6e-6)


def groups_of(*sizes: int) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def scores(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make scores of student and teacher; the teacher scores some passages alike."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(number, generator=random), torch.randint(-2, 3, (number,), generator=random).float()


@every
def test_the_order_in_which_passages_stand_in_a_batch_has_no_say(loss: Loss):
    groups = groups_of(4, 1, 6, 3)
    student, teacher = scores(len(groups))
    student[7] = student[8]
    order = torch.randperm(len(groups))
    assert_close(loss(student[order], teacher[order], groups[order]), loss(student, teacher, groups))


@every
def test_batches_of_as_many_groups_give_in_the_mean_what_one_batch_of_all_gives(loss: Loss):
    groups = groups_of(5, 5, 5, 5)
    student, teacher = scores(20)
    teacher[::5] = 3  # a positive in each group
    teacher[1::5] = teacher[2::5] = teacher[3::5] = -torch.tensor([1.0, 2, 1, 0])
    teacher[4::5] = 0
    parts = [loss(student[at : at + 10], teacher[at : at + 10], groups[:10]) for at in (0, 10)]
    assert_close(torch.stack(parts).mean(), loss(student, teacher, groups))


@pytest.mark.parametrize("loss", [OVER_GROUPS[name] for name in OVER_GROUPS if name != "infonce"])
def test_every_group_weighs_as_much_as_any_other_whatever_its_size(loss: Loss):
    groups = groups_of(2, 7, 3)
    student, teacher = scores(12)
    alone = [loss(student[groups == group], teacher[groups == group], groups[groups == group] * 0) for group in range(3)]
    assert_close(loss(student, teacher, groups), torch.stack(alone).mean())


@over_groups
@pytest.mark.fault("D5")
def test_a_group_of_one_adds_nothing_and_gives_a_gradient_of_zero(loss: Loss):
    student = torch.tensor([3.0, -1.0], requires_grad=True)
    value = loss(student, torch.tensor([0.5, 2.0]), torch.tensor([0, 1]))
    value.backward()
    assert value == 0
    assert student.grad.tolist() == [0, 0]


@over_groups
@pytest.mark.fault("D3")
def test_a_group_that_the_teacher_scores_all_alike_costs_a_number_with_a_finite_gradient(loss: Loss):
    student = torch.tensor([3.0, -1.0, -1.0], requires_grad=True)
    value = loss(student, torch.ones(3), torch.zeros(3, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@every
@pytest.mark.fault("D4")
def test_half_precision_scores_are_compared_in_float32(loss: Loss):
    groups, (student, teacher) = groups_of(4, 5), scores(9)
    student = student.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(student, teacher.bfloat16(), groups)
    assert found.dtype == torch.float32
    assert_close(found, loss(student.float(), teacher, groups))


@every
def test_gradients_are_those_of_the_loss_and_none_reaches_the_teacher(loss: Loss):
    groups, (student, teacher) = groups_of(4, 1, 3), scores(8)
    student = student.double().requires_grad_()
    wanted = teacher.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda student: loss(student, teacher.double(), groups), student)
    loss(student, wanted, groups).backward()
    assert wanted.grad is None


@pytest.fixture(scope="module")
def theirs():
    """Compute a loss of sentence-transformers from given scores, query by query."""
    losses = pytest.importorskip("sentence_transformers.cross_encoder.losses")

    def compute(name: str, student: Tensor, teacher: Tensor, groups: Tensor, **settings: object) -> Tensor:
        found = []
        for group in groups.unique():
            own, labels = student[groups == group], teacher[groups == group]
            model = SimpleNamespace(num_labels=1, device="cpu", preprocess=lambda *_, own=own, **__: {"scores": own})
            loss = getattr(losses, name)(Scored(model), mini_batch_size=-1, **settings)
            found.append(loss([["q"], [["p"] * len(own)]], [labels]))
        return torch.stack(found).mean()

    return compute


class Scored:
    """What a loss of sentence-transformers asks of a model, which gives the scores it was made with."""

    def __init__(self, model: SimpleNamespace) -> None:
        self.__dict__ = model.__dict__

    def __call__(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


@pytest.mark.parametrize(
    ("name", "settings", "ours"),
    [
        ("LambdaLoss", {}, lambda_loss),
        ("RankNetLoss", {"reduction_log": "natural"}, ranknet),
        ("ListNetLoss", {}, list_net),
        ("ListMLELoss", {"respect_input_order": False}, list_mle),
        ("PListMLELoss", {"respect_input_order": False}, partial(list_mle, position_aware=True)),
        ("ADRMSELoss", {"alpha": 1.5}, partial(adr_mse, sharpness=1.5)),
    ],
)
def test_lists_of_unequal_length_cost_what_sentence_transformers_takes_query_by_query(theirs, name, settings, ours):
    groups, (student, teacher) = groups_of(9, 2, 5), scores(16)
    if "MLE" in name:  # which breaks ties by chance
        teacher = torch.randn(16)
    wanted = student.clone().requires_grad_()
    found = student.clone().requires_grad_()
    expected, loss = theirs(name, wanted, teacher, groups, **settings), ours(found, teacher, groups)
    assert_close(loss, expected)
    expected.backward()
    loss.backward()
    assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-6)


@every
@pytest.mark.fault("D4")
def test_scores_far_apart_cost_a_number_with_a_finite_gradient(loss: Loss):
    student = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    value = loss(student, torch.tensor([20.0, -20.0, 1.0]), torch.zeros(3, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in OVER_GROUPS if name != "list_mle by position"])
def test_a_constant_added_to_all_scores_of_a_query_changes_nothing(name: str):
    groups, (student, teacher) = groups_of(4, 5), scores(9)
    moved = student + torch.tensor([5.0, -7.0])[groups]
    assert_close(OVER_GROUPS[name](moved, teacher, groups), OVER_GROUPS[name](student, teacher, groups), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("loss", [group_divergence, list_net, soft_cross_entropy])
@pytest.mark.fault("D5")
def test_temperatures_far_from_one_cost_a_number_with_a_finite_gradient(loss: Loss, temperature: float):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER
    groups = () if loss is soft_cross_entropy else (GROUPS,)
    value = loss(student, teacher, *groups, temperature=temperature)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", [ALL[name] for name in ALL if name != "lambda_loss"])  # which is handed grades or ranks
@pytest.mark.fault("D4")
def test_scores_beyond_half_precision_cost_a_number_with_a_finite_gradient(loss: Loss):
    """7e4 is infinite in float16: autocast must not bring it there."""
    student = torch.tensor([3.0, -1.0, 0.5], requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        value = loss(student, torch.tensor([7e4, -7e4, 1.0]), torch.zeros(3, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@over_groups
@pytest.mark.fault("D3")
def test_a_student_that_scores_all_alike_gets_a_finite_gradient(loss: Loss):
    student = torch.zeros(3, requires_grad=True)
    value = loss(student, torch.tensor([3.0, -1.0, 0.5]), torch.zeros(3, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
