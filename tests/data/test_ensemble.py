"""An ensemble of teachers: each one's scores standardised over what is trained on, and averaged."""

import numpy as np
import pytest

from rankdistil.data.collection import Collection
from rankdistil.data.ensemble import standardised_mean
from rankdistil.data.scores import TeacherScores, keys_of
from rankdistil.data.texts import LiveTexts

TRAINED = {(0, 0): 1.5, (0, 1): -0.25, (1, 0): 3.0e-7, (1, 2): -7.125}
FURTHER = {(2, 0): 40.0}
PAIRS = np.array(sorted(TRAINED))


@pytest.fixture
def member():
    """Make a teacher's scores of pairs of rows."""
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None, 1) for _ in range(2)))
    for each, letter in zip(texts, "qp", strict=True):
        each.rows([f"{letter}{number}" for number in range(3)])

    def member(scores: dict[tuple[int, int], float], name: str = "one") -> TeacherScores:
        pairs = np.array(sorted(scores))
        values = np.array([scores[pair] for pair in sorted(scores)], np.float32)
        return TeacherScores(keys_of(pairs[:, 0], pairs[:, 1]), values, texts, name)

    return member


def read(scores: TeacherScores) -> np.ndarray:
    return scores.of(PAIRS[:, 0], PAIRS[:, 1])


def test_an_ensemble_is_the_mean_of_standardised_scores(member) -> None:
    one, turned = member(TRAINED), member({pair: 100 - 10 * score for pair, score in TRAINED.items()})
    assert np.abs(read(standardised_mean([one, turned], PAIRS))).max() < 1e-6  # one is the other turned round, on another scale
    alone = read(standardised_mean([one], PAIRS))
    assert (alone.mean(), alone.std()) == pytest.approx((0, 1), abs=1e-6)
    values = np.array([TRAINED[pair] for pair in sorted(TRAINED)])
    assert alone.tolist() == pytest.approx(((values - values.mean()) / values.std()).tolist(), abs=1e-6)


def test_scores_of_pairs_that_are_not_trained_on_change_no_target(member) -> None:
    """A store knows held-out queries too, and without one they aren't loaded."""
    found = [read(standardised_mean([member(scores)] * 2, PAIRS)).tolist() for scores in (TRAINED, TRAINED | FURTHER)]
    assert found[0] == found[1]


def test_targets_do_not_depend_on_the_order_of_rows(member) -> None:
    random = np.random.default_rng(3)
    pairs = np.array([(query, passage) for query in range(40) for passage in range(50)])
    values = (random.standard_cauchy(len(pairs)) * 1e3).astype(np.float32)
    scores = dict(zip(map(tuple, pairs.tolist()), values.tolist(), strict=True))
    turned = {(39 - query, 49 - passage): score for (query, passage), score in scores.items()}
    one = standardised_mean([member(scores)], pairs).of(*pairs.T)
    other = standardised_mean([member(turned)], pairs).of(39 - pairs[:, 0], 49 - pairs[:, 1])
    assert one.tolist() == other.tolist()


def test_a_member_without_the_score_of_a_pair_is_named(member) -> None:
    members = [member(TRAINED), member({pair: score for pair, score in TRAINED.items() if pair != (1, 2)}, "other")]
    with pytest.raises(ValueError, match=r"^other holds no score of query q1 and passage p2 \(1 of 4 pairs asked"):
        standardised_mean(members, PAIRS)


def test_a_teacher_that_scores_all_pairs_alike_is_refused_before_training(member) -> None:
    alike = member(dict.fromkeys(TRAINED, 0.1) | FURTHER, "teacher.scores=other")
    with pytest.raises(ValueError) as caught:
        standardised_mean([member(TRAINED), alike], PAIRS)
    assert str(caught.value) == (
        "teacher.scores=other: all 4 pairs that are trained on have the score 0.1. A teacher that tells no pairs apart has no "
        "scale to bring to that of the others. Take it out of teacher.scores, or score again."
    )
