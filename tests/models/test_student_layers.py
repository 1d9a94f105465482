"""Layer maps: TinyBERT's pairing, its extension, and what is refused."""

import pytest

from rankdistil.models.student import at_depth, map_layers


@pytest.mark.parametrize(
    ("student", "attention", "hidden"),
    [
        (6, (1, 3, 5, 7, 9, 11), (0, 2, 4, 6, 8, 10, 12)),
        (4, (2, 5, 8, 11), (0, 3, 6, 9, 12)),
        (3, (3, 7, 11), (0, 4, 8, 12)),
        (2, (5, 11), (0, 6, 12)),
        (1, (11,), (0, 12)),
    ],
)
def test_uniform_is_the_pairing_of_tinybert(student, attention, hidden):
    pairs = map_layers("uniform", student, 12)
    assert pairs.teacher.attention == attention
    assert pairs.teacher.hidden == hidden


@pytest.mark.parametrize(("kind", "student"), [("uniform", 3), ("spread", 3), ("spread", 5), ("spread", 12)])
def test_every_student_layer_has_one_teacher_layer(kind, student):
    pairs = map_layers(kind, student, 12)
    assert pairs.student.attention == tuple(range(student))
    assert pairs.student.hidden == tuple(range(student + 1))
    assert len(pairs.teacher.attention) == student
    assert len(pairs.teacher.hidden) == student + 1


def test_four_layers_spread_under_six_learn_from_the_first_third_fourth_and_last():
    pairs = map_layers("spread", 4, 6)
    assert pairs.teacher.attention == (0, 2, 3, 5)
    assert pairs.teacher.hidden == (0, 1, 3, 4, 6)


@pytest.mark.parametrize("student", [1, 2, 3, 4, 6, 12])
def test_spread_is_uniform_where_the_division_is_exact(student):
    assert map_layers("spread", student, 12) == map_layers("uniform", student, 12)


@pytest.mark.parametrize("student", range(1, 13))
def test_spread_climbs_to_the_last_layer_without_repeating_one(student):
    layers = map_layers("spread", student, 12).teacher.attention
    assert layers[-1] == 11
    assert list(layers) == sorted(set(layers))


@pytest.mark.fault("A6")
def test_a_division_that_is_not_exact_lists_the_depths_that_are():
    message = r"student\.layers=5 with 12 teacher layers.*one of 1, 2, 3, 4, 6, 12, or student\.layer_map=spread"
    with pytest.raises(ValueError, match=message):
        map_layers("uniform", 5, 12)


@pytest.mark.parametrize("kind", ["uniform", "spread"])
def test_a_student_deeper_than_its_teacher_names_the_limit(kind):
    with pytest.raises(ValueError, match=r"12 layers and its teacher 6: .*Set student\.layers to 6 or less"):
        map_layers(kind, 12, 6)


def test_an_unknown_map_lists_the_known():
    with pytest.raises(ValueError, match=r"student\.layer_map is None; expected uniform"):
        map_layers(None, 2, 12)
    with pytest.raises(ValueError, match=r"student\.layer_map is 'top'; expected uniform, spread, or a list of teacher layers"):
        map_layers("top", 2, 12)


def test_a_list_names_a_teacher_layer_counted_from_one_for_each_of_the_students():
    assert map_layers([3, 6], 2, 6) == map_layers("uniform", 2, 6)
    pairs = map_layers([2, 3, 6], 3, 6)
    assert (pairs.teacher.attention, pairs.teacher.hidden) == ((1, 2, 5), (0, 2, 3, 6))


@pytest.mark.parametrize("layers", [[6], [6, 2], [6, 6], [0, 6], [2, 7], [2, 5], [1, 2, 6], ["2", "6"], [6, "x"], [2.5, 6]])
def test_a_list_that_is_no_map_is_answered_with_what_would_be(layers: list):
    """One for a teacher of 6 layers isn't silently taken for one of 12, of which it would leave out the upper half."""
    with pytest.raises(ValueError) as error:
        map_layers(layers, 2, 6)
    assert str(error.value) == (
        f"student.layer_map is {layers}; expected uniform, spread, or 2 rising numbers of 1 to 6, the last one 6: the teacher "
        "layer that each of the student's learns from."
    )


@pytest.mark.parametrize(
    ("named", "other", "found"),
    [
        ([2, 6], 6, [2, 6]), ([2, 6], 4, [2, 4]), ([2, 6], 3, [1, 3]), ([1, 3, 6], 4, [1, 2, 4]), ([1, 6], 2, [1, 2]),
        ([1, 4], 4, [1, 4]),  # of the other itself
        ([1, 2, 6], 3, [1, 2, 6]),  # two layers at one depth
        ("spread", 4, "spread"), (["2", 6], 4, ["2", 6]), ([], 4, []), (None, 4, None),
    ],
)  # fmt: skip
def test_a_list_of_a_teacher_s_layers_means_an_assistant_s_at_the_same_depth(named, other, found):
    assert at_depth(named, 6, other) == found
