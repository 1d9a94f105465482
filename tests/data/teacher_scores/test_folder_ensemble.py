"""An ensemble of teachers: each one's scores brought to one scale over what is trained on, and averaged."""

import numpy as np
import pytest

from rankdistil.data.collections.texts import Collection, LiveTexts
from rankdistil.data.teacher_scores.folder import TeacherScores, keys_of, mean_on_one_scale

TRAINED = {(0, 0): 1.5, (0, 1): -0.25, (1, 0): 3.0e-7, (1, 2): -7.125}
FURTHER = {(2, 0): 40.0}
PAIRS = np.array(sorted(TRAINED))


@pytest.fixture
def member():
    """Make a teacher's scores of pairs of rows."""
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))
    for each, letter in zip(texts, "qp", strict=True):
        each.rows([f"{letter}{number}" for number in range(3)])

    def member(scores: dict[tuple[int, int], float], name: str = "one", logits: bool = True) -> TeacherScores:
        pairs = np.array(sorted(scores))
        values = np.array([scores[pair] for pair in sorted(scores)], np.float32)
        return TeacherScores(keys_of(pairs[:, 0], pairs[:, 1]), values, texts, name, logits)

    return member


def read(scores: TeacherScores) -> np.ndarray:
    return scores.of(PAIRS[:, 0], PAIRS[:, 1])


@pytest.mark.parametrize("times", [1, 2, 3, 7, 49])
def test_a_teacher_beside_itself_is_that_teacher(member, times: int) -> None:
    random = np.random.default_rng(5)
    for scores in (TRAINED, {pair: 1e3 * random.standard_cauchy() - 30 for pair in TRAINED}):
        alone = member(scores)
        assert read(mean_on_one_scale([alone] * times, PAIRS)).tolist() == read(alone).tolist()


def test_two_members_meet_on_the_mean_of_their_scales(member) -> None:
    """Means 5 and 100, deviations 3 and 30, so the average is brought to mean 52.5 and deviation 16.5.

    Standardised: 1, -1, 1, -1 and 1, 1, -1, -1, on average 1, 0, 0, -1.
    """
    one = member(dict(zip(map(tuple, PAIRS.tolist()), (8, 2, 8, 2), strict=True)))
    other = member(dict(zip(map(tuple, PAIRS.tolist()), (130, 130, 70, 70), strict=True)))
    assert read(mean_on_one_scale([one, other], PAIRS)).tolist() == [69, 52.5, 52.5, 36]
    assert read(mean_on_one_scale([other, one], PAIRS)).tolist() == [69, 52.5, 52.5, 36]


def test_cosines_and_products_of_words_count_as_much_as_logits_and_leave_these_their_scale(member) -> None:
    """Logits of mean 5 and deviation 3; standardised the three are 1, -1, 1, -1 twice, and 1, 1, -1, -1."""
    logits, cosines, words = (
        dict(zip(map(tuple, PAIRS.tolist()), row, strict=True))
        for row in ((8, 2, 8, 2), (0.75, 0.75, 0.25, 0.25), (30, 10, 30, 10))
    )
    members = [member(cosines, logits=False), member(logits), member(words, logits=False)]
    found = mean_on_one_scale(members, PAIRS)
    assert read(found).tolist() == pytest.approx([8, 4, 6, 2])
    assert found.logits
    alone = mean_on_one_scale([members[0], members[2]], PAIRS)
    assert read(alone).tolist() == pytest.approx([10.25 + 5.125, 10.25, 10.25, 10.25 - 5.125])
    assert not alone.logits


def test_members_of_one_scale_have_their_plain_mean(member) -> None:
    one, other = (dict(zip(TRAINED, row, strict=True)) for row in ((-4, 1, 6, 1), (6, 1, 1, -4)))
    assert read(mean_on_one_scale([member(one), member(other)], PAIRS)).tolist() == pytest.approx([1, 1, 3.5, -1.5])


def test_scores_of_pairs_that_are_not_trained_on_change_no_target(member) -> None:
    """A store knows held-out queries too, and without one they aren't loaded."""
    other = member({pair: 2 * score**2 for pair, score in TRAINED.items()})
    found = [read(mean_on_one_scale([member(scores), other], PAIRS)).tolist() for scores in (TRAINED, TRAINED | FURTHER)]
    assert found[0] == found[1]


def test_targets_do_not_depend_on_the_order_of_rows(member) -> None:
    random = np.random.default_rng(3)
    pairs = np.array([(query, passage) for query in range(40) for passage in range(50)])
    values = (random.standard_cauchy(len(pairs)) * 1e3).astype(np.float32)
    scores = dict(zip(map(tuple, pairs.tolist()), values.tolist(), strict=True))
    turned = {(39 - query, 49 - passage): score for (query, passage), score in scores.items()}
    one, other = (
        mean_on_one_scale([member(row), member({pair: score**2 for pair, score in row.items()})], pairs)
        for row in (scores, turned)
    )
    one, other = one.of(*pairs.T), other.of(39 - pairs[:, 0], 49 - pairs[:, 1])
    assert one.tolist() == other.tolist()


def test_a_member_without_the_score_of_a_pair_is_named(member) -> None:
    members = [member(TRAINED), member({pair: score for pair, score in TRAINED.items() if pair != (1, 2)}, "other")]
    with pytest.raises(ValueError, match=r"^other holds no score of query q1 and passage p2 \(1 of 4 pairs asked"):
        mean_on_one_scale(members, PAIRS)


@pytest.mark.fault("D3")
def test_a_teacher_that_scores_all_pairs_alike_is_refused_before_training(member) -> None:
    alike = member(dict.fromkeys(TRAINED, 0.1) | FURTHER, "teacher.scores=other")
    with pytest.raises(ValueError) as caught:
        mean_on_one_scale([member(TRAINED), alike], PAIRS)
    assert str(caught.value) == (
        "teacher.scores=other: all 4 pairs that are trained on have the score 0.1. A teacher that tells no pairs apart has no "
        "scale to bring to that of the others. Take it out of teacher.scores, or score again."
    )
