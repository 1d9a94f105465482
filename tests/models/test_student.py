"""Students: their shape, and the checks against their teacher."""

import pytest
import torch
from support import random_student
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.models.bert import CrossEncoder, parameter_count
from rankdistil.models.student import StudentSize, check_match

SMALL = StudentSize("small", layers=2, hidden_size=12, heads=3, intermediate_size=20)


@pytest.mark.parametrize(
    ("size", "millions"),
    [
        (StudentSize("6l", 6, 768, 12, 3072), 67.0),
        (StudentSize("4l", 4, 312, 12, 1200), 14.4),
        (StudentSize("3l", 3, 384, 12, 1536), 17.4),
        (StudentSize("2l", 2, 128, 2, 512), 4.4),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_students_of_bert_base_have_the_published_sizes(size, millions):
    with torch.device("meta"):
        student = random_student(size, CrossEncoder(BertForSequenceClassification(BertConfig(num_hidden_layers=1))))
    assert round(parameter_count(student.bert.bert) / 1e6, 1) == millions


def test_shape_is_the_size_s_and_everything_else_the_teacher_s(tiny_ranker):
    tiny_ranker.config.hidden_dropout_prob = 0.3
    config = random_student(SMALL, tiny_ranker).config
    assert (config.num_hidden_layers, config.hidden_size) == (2, 12)
    assert (config.num_attention_heads, config.intermediate_size) == (3, 20)
    assert (config.vocab_size, config.max_position_embeddings, config.hidden_dropout_prob) == (50, 40, 0.3)


def test_a_teacher_keeps_its_shape(tiny_ranker):
    before = tiny_ranker.config.to_dict()
    random_student(SMALL, tiny_ranker)
    assert tiny_ranker.config.to_dict() == before


def test_a_student_has_one_logit_whatever_head_its_teacher_has(tiny_ranker):
    tiny_ranker.config.num_labels = 2
    ids = torch.tensor([[2, 7, 3, 9, 3]])
    student = random_student(SMALL, tiny_ranker)
    assert student(ids, torch.ones_like(ids), torch.zeros_like(ids)).logits.shape == (1,)


@pytest.mark.parametrize(("heads", "fix"), [(12, "120 or 132"), (3, "126 or 129"), (200, "200 or 400")])
def test_a_width_that_heads_do_not_divide_names_the_nearest_that_they_do(heads, fix):
    with pytest.raises(ValueError, match=rf"128 is not a multiple of student\.heads={heads}\..* to {fix}\."):
        StudentSize("odd", layers=2, hidden_size=128, heads=heads, intermediate_size=512)


@pytest.mark.parametrize("field", ["layers", "hidden_size", "heads", "intermediate_size"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", None], ids=repr)
def test_a_size_that_is_no_positive_whole_number_names_its_key(field, value):
    values = {"layers": 1, "hidden_size": 4, "heads": 2, "intermediate_size": 4, field: value}
    with pytest.raises(ValueError, match=rf"student\.{field} is {value!r}; expected a whole number of at least 1"):
        StudentSize("broken", **values)


def test_two_heads_under_twelve_name_both_sides_and_two_ways_out():
    size = StudentSize("2l", layers=2, hidden_size=128, heads=2, intermediate_size=512)
    with pytest.raises(ValueError, match=r"student 2l has student\.heads=2, its teacher 12") as error:
        check_match(size, BertConfig(), frozenset({"attention", "hidden"}))
    assert "Set student.heads=12 (hidden_size must be a multiple)" in str(error.value)
    assert "or drop the loss: '~stage.losses.attention'" in str(error.value)


def test_heads_may_differ_where_attention_is_not_compared():
    check_match(StudentSize("2l", 2, 128, 2, 512), BertConfig(), frozenset({"hidden", "embedding"}))
    with pytest.raises(ValueError, match=r"student\.heads=2"):  # the same pair, so the line above says something
        check_match(StudentSize("2l", 2, 128, 2, 512), BertConfig(), frozenset({"attention"}))
