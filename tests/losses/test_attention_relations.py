"""Relations of queries, keys and values: across widths and head counts, without padding's say."""

import pytest
import torch
import torch.nn.functional as F
from families import NAMES, tiny
from torch import Tensor
from torch.testing import assert_close

from rankdistil.losses.attention import RelationLoss, attention_divergence, most_heads, relation_divergence, relation_scores
from rankdistil.models.bert import Layers, Trace

LOGITS = torch.zeros(2)
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def vectors(width: int, kind: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(2, 4, width, dtype=kind) for _ in range(3))


def test_relations_are_scaled_products_of_each_head_s_part():
    first, second = torch.randn(1, 2, 6), torch.randn(1, 2, 6)
    found = relation_scores(first, second, 3)
    assert found.shape == (1, 3, 2, 2)
    assert_close(found[0, 1, 0, 1], first[0, 0, 2:4] @ second[0, 1, 2:4] / 2**0.5)


@pytest.mark.parametrize("heads", [1, 3, 6])
def test_a_student_of_another_width_is_compared_over_any_number_of_heads_that_splits_both(heads):
    own, wanted = vectors(6), vectors(12)
    loss = relation_divergence(own[:2], wanted[:2], MASK, heads)
    costs = []
    for text, length in enumerate(MASK.sum(1).tolist()):  # written out, over real tokens alone
        scores = [
            relation_scores(a[text : text + 1, :length], b[text : text + 1, :length], heads)[0]
            for a, b in (own[:2], wanted[:2])
        ]
        p, q = scores[1].softmax(-1), scores[0].softmax(-1)
        costs += (p * (p / q).log()).sum(-1).mean(0).tolist()
    assert float(loss) == pytest.approx(sum(costs) / len(costs), rel=1e-4)


def test_padding_never_changes_the_loss():
    own, wanted = vectors(6), vectors(12)
    longer = [tuple(F.pad(part, (0, 0, 0, 3), value=9.0) for part in side[:2]) for side in (own, wanted)]
    loss = relation_divergence(own[:2], wanted[:2], MASK, 3)
    assert_close(relation_divergence(*longer, F.pad(MASK, (0, 3)), 3), loss)


def test_minilmv2_adds_up_queries_keys_and_values_and_minilm_attention_and_values(batch_of):
    student, teacher, batch = (
        Trace(LOGITS, vectors=(vectors(6),)),
        Trace(LOGITS, vectors=(vectors(12),)),
        batch_of(MASK.tolist()),
    )
    (own,), (wanted,) = student.vectors, teacher.vectors

    def part(first: int, second: int, heads: int) -> Tensor:
        return relation_divergence((own[first], own[second]), (wanted[first], wanted[second]), MASK, heads)

    assert_close(RelationLoss()(student, teacher, batch), part(0, 0, 6) + part(1, 1, 6) + part(2, 2, 6))
    assert_close(RelationLoss(heads=2)(student, teacher, batch), part(0, 0, 2) + part(1, 1, 2) + part(2, 2, 2))
    assert_close(RelationLoss("minilm", 3)(student, teacher, batch), part(0, 1, 3) + part(2, 2, 3))


def test_minilm_s_attention_is_that_of_the_network(tiny_ranker):
    ids = torch.tensor([[2, 7, 9, 3], [2, 8, 0, 0]])
    trace = tiny_ranker(ids, MASK, torch.zeros_like(ids), Layers(attention=(3,), vectors=(3,)))
    other = torch.randn(2, 3, 4, 4)
    query, key, _ = trace.vectors[0]
    expected = attention_divergence(trace.attention_scores[0], other, MASK)
    assert_close(attention_divergence(relation_scores(query, key, 3), other, MASK), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_student_of_any_family_learns_the_relations_of_a_teacher_of_another_width_and_head_count(name, batch_of):
    teacher, student = tiny("bert"), tiny(name, hidden_size=24, num_attention_heads=3)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    ids = torch.randint(5, 420, mask.shape) * mask + (1 - mask) * (student.config.pad_token_id or 0)
    inputs, last = (ids, mask, torch.zeros_like(ids)), student.config.num_hidden_layers - 1
    with torch.no_grad():
        wanted = teacher(*inputs, Layers(vectors=(1,)), False)
    seen = student(*inputs, Layers(vectors=(last,)), False)
    assert [part.shape for part in seen.vectors[0]] == [(2, 9, 24)] * 3
    loss = RelationLoss()(seen, wanted, batch_of(mask.tolist()))
    loss.backward()
    layer = student.encoder.layers[last]
    for part in (layer.query, layer.key, layer.value):
        assert part is None or part.weight.grad.abs().sum() > 0  # None: one layer gives all three
    assert loss > 0


def test_gradients_are_those_of_the_loss_and_none_reaches_the_teacher(batch_of):
    own, wanted = vectors(4, torch.float64), vectors(6, torch.float64)
    batch = batch_of(MASK.tolist())
    teacher = Trace(LOGITS, vectors=(tuple(part.requires_grad_() for part in wanted),))

    def loss(*parts: Tensor) -> Tensor:
        return RelationLoss()(Trace(LOGITS, vectors=(parts,)), teacher, batch)

    student = [part.requires_grad_() for part in own]
    assert torch.autograd.gradcheck(loss, student)
    loss(*student).backward()
    assert all(part.grad[1, 2:].abs().sum() == 0 for part in student)  # padding
    assert all(part.grad is None for part in wanted)


def test_half_precision_vectors_are_compared_in_float32_under_autocast():
    own, wanted = (tuple(part.bfloat16() for part in vectors(width)[:2]) for width in (6, 12))
    with torch.autocast("cpu", torch.bfloat16):
        loss = relation_divergence(own, wanted, MASK, 3)
    assert loss.dtype == torch.float32
    assert_close(loss, relation_divergence(*(tuple(part.float() for part in side) for side in (own, wanted)), MASK, 3))


@pytest.mark.parametrize(
    ("student", "teacher", "heads"), [(768, 768, 48), (312, 768, 24), (128, 768, 32), (384, 384, 48), (7, 9, 1)]
)
def test_by_default_there_are_as_many_relation_heads_as_split_both_widths(student, teacher, heads):
    assert most_heads(student, teacher) == heads


@pytest.mark.parametrize("layers", [(0, 0), (0, 1), (2, 2)])
def test_no_layer_or_several_are_refused_instead_of_costing_zero(batch_of, layers):
    student, teacher = (Trace(LOGITS, vectors=(vectors(6),) * number) for number in layers)
    with pytest.raises(RuntimeError, match=f"over {layers[0]} student and {layers[1]} teacher layers"):
        RelationLoss()(student, teacher, batch_of(MASK.tolist()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "v3"}, "kind is 'v3'; expected one of minilm, minilmv2."),
        ({"heads": 0}, "heads is 0; expected a whole number of at least 1, or null."),
        ({"teacher_layer": True}, "teacher_layer is True; expected a whole number of at least 1, or null."),
        ({"kind": "minilm"}, "heads is null; kind=minilm compares attention heads one by one, and expects their number."),
    ],
)
def test_what_the_loss_does_not_know_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        RelationLoss(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"heads": 5},
            "heads is 5; expected a number that the widths 12 of the student and 24 of its teacher can be split into, 12 for "
            "example.",
        ),
        (
            {"kind": "minilm", "heads": 3},
            "heads is 3; kind=minilm compares attention heads one by one, and the student has 3, its teacher 4. Expected all "
            "three alike; kind=minilmv2 compares networks of any number of heads.",
        ),
    ],
)
def test_networks_that_cannot_be_compared_are_refused_with_both_sides(settings, message):
    with pytest.raises(ValueError) as caught:
        RelationLoss(**settings).require_fitting((12, 3), (24, 4))
    assert str(caught.value) == message


def test_networks_that_can_be_compared_are_not_refused():
    assert RelationLoss().require_fitting((7, 1), (9, 3)) is None
    assert RelationLoss("minilm", 3).require_fitting((12, 3), (24, 3)) is None
