"""Modules order calls: who trains, who is frozen, what a step asks for."""

from copy import deepcopy

import pytest
import torch
from support import random_student
from transformers import BertConfig

from rankdistil.data.records import PairBatch
from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LabelLoss, LogitLoss, Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers
from rankdistil.models.student import StudentSize, map_layers
from rankdistil.modules.stage import DistillModule, FinetuneModule, OptimSettings
from rankdistil.stages.test import ScoringModule

OPTIM = OptimSettings(lr=1e-3, steps=10, warmup_steps=1)
ALL = {"embedding": EmbeddingLoss(), "hidden": HiddenLoss(), "attention": AttentionLoss(), "logits": LogitLoss()}


def distill(teacher: CrossEncoder, losses: dict, heads: int = 3) -> DistillModule:
    student = random_student(StudentSize("tiny", 2, 12, heads, 24), teacher)
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
    shape: BertConfig = random_student(StudentSize("tiny", 1, 6, 2, 8), tiny_ranker).config
    assert (shape.vocab_size, shape.max_position_embeddings) == (50, 40)


HEADLESS = {name: ALL[name] for name in ("embedding", "hidden", "attention")}


def test_a_stage_whose_losses_read_no_logits_leaves_pooler_and_classifier_alone_and_trains_the_rest(
    tiny_ranker: CrossEncoder, batch: PairBatch
) -> None:
    module = distill(tiny_ranker, HEADLESS)
    module.loss(batch).total.backward()
    for name, parameter in module.named_parameters():
        head = "pooler" in name or "classifier" in name
        assert parameter.requires_grad is not head, name
        assert (parameter.grad is None) is head, name


def test_a_head_that_a_loss_trains_is_trained_with_its_pooler(tiny_ranker: CrossEncoder) -> None:
    assert all(parameter.requires_grad for parameter in distill(tiny_ranker, ALL).parameters())


def test_validation_without_a_trained_head_logs_the_losses_over_all_pairs_and_scores_nothing(
    tiny_ranker: CrossEncoder, batch: PairBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, logged = distill(tiny_ranker, HEADLESS).eval(), {}
    monkeypatch.setattr(module, "log_dict", lambda rows: logged.update(rows))
    few = PairBatch(*(field[:1] for field in batch if field is not None))
    for gathered in (lambda sums: sums, lambda sums: torch.stack([sums, sums])):  # one process, and two alike
        monkeypatch.setattr(module, "all_gather", gathered)
        module.on_validation_epoch_start()
        assert [module.validation_step(rows, 0) for rows in (batch, few)] == [None, None]
        module.on_validation_epoch_end()
        values = [module.loss(rows) for rows in (batch, few)]
        for name in ("loss", *values[0].parts):
            whole, alone = (value.total if name == "loss" else value.parts[name] for value in values)
            torch.testing.assert_close(logged[f"val/{name}"], (4 * whole + alone) / 5)
        assert len(logged) == len(values[0].parts) + 1


def test_validation_beside_a_teacher_brings_the_teacher_s_scores_and_asks_for_them_once(
    tiny_ranker: CrossEncoder, batch: PairBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, asked = distill(tiny_ranker, ALL).eval(), []
    forward = type(module.teacher).forward
    monkeypatch.setattr(type(module.teacher), "forward", lambda *inputs, **more: asked.append(1) or forward(*inputs, **more))
    for _ in range(2):
        scored = module.validation_step(batch, 0)
        assert torch.equal(scored.teacher_scores, tiny_ranker(*batch[:3]).logits)
        assert torch.equal(scored.scores, module.ranker(*batch[:3]).logits)
    assert len(asked) == 1


def test_a_batch_that_counts_for_nothing_is_run_and_leaves_no_score(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    module, nothing = distill(tiny_ranker, ALL).eval(), batch.uncounted()
    for scored in (module.validation_step(nothing, 0), ScoringModule(tiny_ranker).test_step(nothing, 0)):
        assert (scored.query_ids, scored.passage_ids, scored.scores.tolist()) == ((), (), [])
    assert module.validation_step(nothing, 0).teacher_scores.tolist() == []


def test_every_validation_batch_has_its_own_teacher_scores(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    module, turned = distill(tiny_ranker, ALL).eval(), batch._replace(input_ids=batch.input_ids.flip(0))
    for number, rows in enumerate((batch, turned, batch, turned)):
        scores = module.validation_step(rows, number % 2).teacher_scores
        assert torch.equal(scores, tiny_ranker(*rows[:3]).logits)


def test_a_student_learns_from_labels_alone_where_there_is_no_teacher(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    student = random_student(StudentSize("tiny", 2, 12, 3, 24), tiny_ranker)
    module = FinetuneModule(student, WeightedSum({"labels": LabelLoss()}, {"labels": 1.0}), OPTIM).eval()
    value = module.loss(batch)
    value.total.backward()
    better, worse = student(*batch[:3]).logits.view(2, 2).unbind(1)
    assert torch.allclose(value.total, (1 + (worse - better).exp()).log().mean())
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert module.validation_step(batch, 0).teacher_scores is None


@pytest.mark.parametrize("kind", ["shared", "per_layer"])
def test_a_projection_between_a_network_and_its_copy_starts_at_no_distance(
    tiny_ranker: CrossEncoder, batch: PairBatch, kind: str
) -> None:
    losses = WeightedSum({"hidden": HiddenLoss()}, {"hidden": 1.0}, Projection(kind, 24, 24, 5))
    twin = deepcopy(tiny_ranker)
    module = DistillModule(twin, losses, OPTIM, FrozenTeacher(tiny_ranker), map_layers("uniform", 4, 4))
    far = module.loss(batch).total
    module.fit_projection([batch, batch._replace(input_ids=batch.input_ids.flip(1))])
    assert module.eval().loss(batch).total < 1e-4 * far  # a map from 24 units to 24, through 66 rows


def test_padding_has_no_say_in_where_a_projection_starts(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    padded = [batch, batch._replace(input_ids=torch.where(batch.attention_mask > 0, batch.input_ids, 49))]
    starts = []
    for text in padded:
        module = distill(tiny_ranker, HEADLESS)
        module.fit_projection([text])
        starts.append(module.losses.projection.maps[0].weight)
    assert torch.allclose(*starts, atol=1e-5)


@pytest.mark.parametrize("projection", [None, Projection("none", 24, 24, 5)], ids=["no states compared", "equal widths"])
def test_where_nothing_is_projected_no_network_is_asked(
    tiny_ranker: CrossEncoder, batch: PairBatch, monkeypatch: pytest.MonkeyPatch, projection: Projection | None
) -> None:
    losses = WeightedSum({"logits": LogitLoss()}, {"logits": 1.0}, projection)
    module = DistillModule(deepcopy(tiny_ranker), losses, OPTIM, FrozenTeacher(tiny_ranker), map_layers("uniform", 4, 4))
    asked = []
    monkeypatch.setattr(CrossEncoder, "forward", lambda network, *_: asked.append(network))
    module.fit_projection([batch])
    assert asked == []
