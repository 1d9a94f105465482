"""Modules order calls: who trains, who is frozen, what a step asks for."""

import pytest
import torch
from transformers import BertConfig

from rankdistil.data.batch import PairBatch
from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LabelLoss, LogitLoss, Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.layers import map_layers
from rankdistil.models.student import StudentSize, build_student
from rankdistil.models.teacher import FrozenTeacher
from rankdistil.models.trace import Layers
from rankdistil.modules import DistillModule, FinetuneModule
from rankdistil.optim import OptimSettings

OPTIM = OptimSettings(lr=1e-3, steps=10, warmup_steps=1)
ALL = {"embedding": EmbeddingLoss(), "hidden": HiddenLoss(), "attention": AttentionLoss(), "logits": LogitLoss()}


@pytest.fixture
def batch() -> PairBatch:
    """Two triples, four pairs of unequal length."""
    ids = torch.randint(5, 50, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    types = torch.zeros_like(ids)
    return PairBatch(ids, mask, types, torch.tensor([1.0, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), ("q",) * 4, tuple("abcd"))


def distill(teacher: CrossEncoder, losses: dict, heads: int = 3) -> DistillModule:
    student = build_student(StudentSize("tiny", 2, 12, heads, 24), teacher)
    projection = Projection("auto", 12, 24, 3)
    summed = WeightedSum(losses, dict.fromkeys(losses, 1.0), projection)
    return DistillModule(student, summed, OPTIM, FrozenTeacher(teacher), map_layers("uniform", 2, 4))


def test_the_student_and_its_projection_get_gradients_and_the_teacher_none(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    module = distill(tiny_ranker, ALL)
    module.loss(batch).total.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in tiny_ranker.parameters())


def test_the_teacher_is_no_part_of_the_checkpoint(tiny_ranker: CrossEncoder) -> None:
    keys = distill(tiny_ranker, ALL).state_dict()
    assert keys
    assert all(key.startswith(("ranker.", "losses.")) for key in keys)


def test_fitting_switches_the_students_dropout_on_and_leaves_the_teachers_off(tiny_ranker: CrossEncoder) -> None:
    module = distill(tiny_ranker, ALL)
    module.eval()
    module.on_fit_start()
    assert all(part.training for part in module.ranker.modules())
    assert not any(part.training for part in module.teacher.modules())


def test_a_teacher_compared_with_itself_costs_nothing_beyond_its_own_entropy(
    tiny_ranker: CrossEncoder, batch: PairBatch
) -> None:
    summed = WeightedSum({k: ALL[k] for k in ("embedding", "hidden", "attention")}, dict.fromkeys(ALL, 1.0), None)
    module = DistillModule(tiny_ranker, summed, OPTIM, FrozenTeacher(tiny_ranker), map_layers("uniform", 4, 4))
    assert float(module.loss(batch).total) == 0.0


@pytest.mark.parametrize(
    ("names", "student", "teacher"),
    [
        (("logits",), Layers(), Layers()),
        (("embedding",), Layers((0,), ()), Layers((0,), ())),
        (("attention",), Layers((), (0, 1)), Layers((), (1, 3))),
        (("hidden", "logits"), Layers((0, 1, 2), ()), Layers((0, 2, 4), ())),
    ],
)
def test_only_the_layers_that_the_losses_need_are_recorded(
    tiny_ranker: CrossEncoder, names: tuple[str, ...], student: Layers, teacher: Layers
) -> None:
    module = distill(tiny_ranker, {name: ALL[name] for name in names})
    assert module._layers.student == student
    assert module._layers.teacher == teacher


def test_fine_tuning_lowers_the_label_loss_of_the_batch_it_steps_on(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    module = FinetuneModule(tiny_ranker, WeightedSum({"labels": LabelLoss()}, {"labels": 1.0}), OPTIM).eval()
    before = module.loss(batch).total
    before.backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= 1e-3 * parameter.grad
    assert module.loss(batch).total < before  # the gradient's own direction: no luck involved


def test_validation_scores_are_float32_logits_with_their_ids(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    module = FinetuneModule(tiny_ranker, WeightedSum({"labels": LabelLoss()}, {"labels": 1.0}), OPTIM).eval()
    scored = module.validation_step(batch, 0)
    assert scored.scores.dtype == torch.float32
    assert (scored.query_ids, scored.passage_ids) == (batch.query_ids, batch.passage_ids)
    assert torch.equal(scored.scores, tiny_ranker(*batch[:3]).logits)


def test_a_student_takes_vocabulary_and_positions_from_its_teacher(tiny_ranker: CrossEncoder) -> None:
    shape: BertConfig = build_student(StudentSize("tiny", 1, 6, 2, 8), tiny_ranker).config
    assert (shape.vocab_size, shape.max_position_embeddings) == (50, 40)
