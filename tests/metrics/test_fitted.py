"""What validation fits: fusions against pytrec_eval, probabilities and bins against scikit-learn, thresholds by hand."""

import math
import random

import numpy as np
import pytest
import pytrec_eval
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import precision_score, recall_score
from sklearn.preprocessing import minmax_scale

from rankdistil.data.records import Candidate
from rankdistil.metrics.fitted import (
    BINS,
    INTERPOLATION,
    LEAST,
    RRF,
    Fusion,
    Pairs,
    Platt,
    Precision,
    Split,
    calibration,
    calibration_error,
    fit,
    fit_platt,
    fit_threshold,
    reliability,
    restored,
    stored,
)
from rankdistil.metrics.ranking import fit_fusion, fused_values, ranked


def split(seed: int, queries: int = 12, passages: int = 30) -> Split:
    """Score candidates of which a tenth is relevant; ranker and first stage each see a part of what makes them so."""
    source = random.Random(seed)
    own, first, qrels = {}, {}, {}
    for query in map(str, range(queries)):
        worth = {f"p{number}": source.gauss(0, 1) for number in range(passages)}
        own[query] = {passage: value + source.gauss(0, 1) for passage, value in worth.items()}
        first[query] = {passage: 10 + 3 * value + source.gauss(0, 4) for passage, value in worth.items()}
        qrels[query] = {passage: int(value > 1.2) for passage, value in worth.items()}
    return Split(ranked(own), ranked(first), qrels)


ONE = split(0)


def expected_ndcg(one: Split, fuse) -> dict[str, float]:
    run = {}
    for query, row in one.first.items():
        own = {hit.passage_id: hit.score for hit in one.own[query]}
        values = fuse(np.array([own[hit.passage_id] for hit in row]), np.array([hit.score for hit in row]))
        run[query] = {hit.passage_id: float(value) for hit, value in zip(row, values, strict=True)}
    found = pytrec_eval.RelevanceEvaluator(one.qrels, {"ndcg_cut.10"}).evaluate(run)
    return {query: row["ndcg_cut_10"] for query, row in found.items()}


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_an_interpolation_is_that_of_scores_between_nothing_and_one(weight: float) -> None:
    expected = expected_ndcg(ONE, lambda own, first: weight * minmax_scale(own) + (1 - weight) * minmax_scale(first))
    assert fused_values(ONE, Fusion(INTERPOLATION, weight))[0] == pytest.approx(expected)


def test_reciprocal_rank_fusion_sums_one_over_sixty_and_the_rank() -> None:
    assert Fusion(RRF).fuse([3.0, 1.0, 2.0], [0.1, 0.2, 0.3]).tolist() == [1 / 61 + 1 / 63, 1 / 63 + 1 / 62, 1 / 62 + 1 / 61]

    def fuse(own, first):
        return sum(1 / (61 + (-scores).argsort().argsort()) for scores in (own, first))

    assert fused_values(ONE, Fusion(RRF))[0] == pytest.approx(expected_ndcg(ONE, fuse))


def test_a_weight_of_one_is_the_ranker_and_of_none_the_first_stage_whatever_their_scales() -> None:
    own, first = [5.0, -2.0, 1.0], [100.0, 300.0, 200.0]
    assert np.argsort(-Fusion(INTERPOLATION, 1.0).fuse(own, first)).tolist() == [0, 2, 1]
    assert np.argsort(-Fusion(INTERPOLATION, 0.0).fuse(own, first)).tolist() == [1, 2, 0]
    shifted = Fusion(INTERPOLATION, 0.4).fuse(np.array(own) * 7 - 3, np.array(first) / 9)
    assert shifted == pytest.approx(Fusion(INTERPOLATION, 0.4).fuse(own, first))


def test_equal_scores_leave_the_order_to_the_other_side_and_equal_values_to_the_first_stage() -> None:
    assert Fusion(INTERPOLATION, 0.5).fuse([2.0, 2.0], [1.0, 4.0]).tolist() == [0.0, 0.5]
    one = Split(
        {"q": [Candidate("a", 1.0), Candidate("b", 1.0)]}, {"q": [Candidate("a", 3.0), Candidate("b", 3.0)]}, {"q": {"a": 1}}
    )
    assert fused_values(one, Fusion(RRF))[0] == {"q": 1.0}


def test_the_weight_is_the_best_of_validation_and_the_method_too() -> None:
    found = fit_fusion(ONE)
    means = {way: np.mean([*fused_values(ONE, Fusion(INTERPOLATION, way))[0].values()]) for way in np.arange(11) / 10}
    assert found.interpolation.weight == max(means, key=means.get)
    assert 0 < found.interpolation.weight < 1
    assert found.best in (found.interpolation, Fusion(RRF))


def test_where_fusing_gains_nothing_the_ranker_stays_alone() -> None:
    useless = ONE._replace(first={query: [Candidate(hit.passage_id, 1.0) for hit in row] for query, row in ONE.own.items()})
    assert fit_fusion(useless) == (Fusion(INTERPOLATION, 1.0), Fusion(INTERPOLATION, 1.0))


class Given(ClassifierMixin, BaseEstimator):
    """A classifier that takes the scores it is given for its own."""

    def fit(self, scores, relevant):
        self.classes_ = np.array([False, True])
        return self

    def decision_function(self, scores):
        return np.asarray(scores)[:, 0]

    def predict(self, scores):
        return self.decision_function(scores) > 0


@pytest.mark.parametrize(("seed", "scale", "shift"), [(0, 1.0, 0.0), (1, 40.0, 900.0), (2, 0.01, -3.0)])
def test_the_probability_is_that_of_scikit_learn_on_any_scale(seed: int, scale: float, shift: float) -> None:
    pairs = Pairs.of(split(seed, 40))
    scores = pairs.scores * scale + shift
    theirs = CalibratedClassifierCV(FrozenEstimator(Given().fit(None, None)), method="sigmoid")
    expected = theirs.fit(scores[:, None], pairs.relevant).predict_proba(scores[:, None])[:, 1]
    assert fit_platt(scores, pairs.relevant).of(scores) == pytest.approx(expected, abs=1e-3)


def test_scores_that_separate_and_many_equal_ones_end_at_finite_probabilities() -> None:
    found = fit_platt(np.array([-50.0] * 30 + [60.0] * 4), np.array([False] * 30 + [True] * 4))
    assert found.of([-50.0, 60.0]) == pytest.approx([1 / 32, 5 / 6])  # what Platt's targets say of so few
    assert found.slope > 0


@pytest.mark.parametrize(
    ("scores", "relevant"), [([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False]), ([1.0, 1.0], [True, False])]
)
def test_judgments_of_one_kind_or_one_score_give_no_probability(scores: list[float], relevant: list[bool]) -> None:
    assert fit_platt(np.array(scores), np.array(relevant)) is None


def test_bins_and_their_error_are_those_of_scikit_learn() -> None:
    pairs = Pairs.of(split(3, 60))
    found = expit(pairs.scores)
    share, mean = calibration_curve(pairs.relevant, found, n_bins=BINS)
    bins = reliability(found, pairs.relevant)
    assert [one.relevant for one in bins] == pytest.approx(share)
    assert [one.predicted for one in bins] == pytest.approx(mean)
    counts = np.histogram(found, BINS, (0, 1))[0]
    assert [one.pairs for one in bins] == counts[counts > 0].tolist()
    assert calibration_error(bins) == pytest.approx(np.abs(share - mean) @ counts[counts > 0] / counts.sum())


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    assert reliability(np.array([1.0, 0.95]), np.array([True, False])) == [(pytest.approx(0.975), 0.5, 2)]


def test_a_fitted_probability_is_nearer_to_the_truth_than_the_score_s_sigmoid() -> None:
    found = calibration(fit(split(4, 80), 0.9, None), split(5, 80))
    assert found.error < 0.03 < 0.1 < found.plain_error


def test_the_threshold_is_the_lowest_score_with_the_precision_wished_for() -> None:
    pairs = Pairs.of(split(6, 80))
    found = fit_threshold(pairs, 0.7)
    above = pairs.scores >= found.score
    assert precision_score(pairs.relevant, above) == pytest.approx(found.valid.share)
    assert recall_score(pairs.relevant, above) == pytest.approx(found.valid.recall)
    assert found.valid.share >= 0.7
    assert found.valid.pairs == above.sum() >= LEAST
    lower = [pairs.relevant[pairs.scores >= score].mean() for score in pairs.scores if score < found.score]
    assert max(lower) < 0.7
    low, high = found.valid.interval
    assert low < found.valid.share < high


def test_no_score_separates_where_too_few_pairs_or_none_are_so_precise() -> None:
    pairs = Pairs(np.arange(100.0), np.arange(100) >= 100 - LEAST + 1, np.arange(100))
    assert fit_threshold(pairs, 0.99) is None  # one pair fewer than are asked for
    assert fit_threshold(pairs, 0.95).score == 80.0
    assert fit_threshold(Pairs.of(split(7)), 0.9) is None
    assert fit_threshold(Pairs.of(ONE._replace(own={})), 0.9) is None


def test_equal_scores_stand_on_one_side_of_a_threshold() -> None:
    pairs = Pairs(np.array([2.0] * 30 + [1.0] * 30), np.array([True] * 30 + [True] * 10 + [False] * 20), np.arange(60))
    assert fit_threshold(pairs, 0.8).score == 2.0


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_none_or_all_has_the_exact_interval_of_its_queries(share: int) -> None:
    found = Pairs(np.ones(40), np.full(40, share == 1), np.arange(40) // 4).precision(1.0)
    exact = binomtest(10 * share, 10).proportion_ci(method="exact")
    assert found == Precision(share, pytest.approx((exact.low, exact.high)), 40, share)


def test_what_nobody_judged_is_not_relevant_and_queries_without_judgments_are_left_out() -> None:
    one = Split(ranked({"a": {"x": 2.0, "y": 1.0}, "b": {"x": 0.5}}), {}, {"a": {"x": 1, "z": 1}}, level=1)
    assert [part.tolist() for part in Pairs.of(one)] == [[2.0, 1.0], [True, False], [0, 0]]
    assert Pairs.of(one._replace(level=2)).relevant.tolist() == [False, False]


def test_topics_are_what_intervals_draw() -> None:
    one = split(8, 4)
    assert len({*Pairs.of(one._replace(topics={"0": "a", "1": "a", "2": "b", "3": "b"})).units.tolist()}) == 2


def test_what_an_export_keeps_comes_back() -> None:
    fitted = fit(split(9, 40), 0.6, fit_fusion(split(9)))
    assert restored(stored(fitted)) == (fitted.fusions.best, fitted.platt)
    assert restored(stored(fit(ONE, 0.9, None))) == (None, fit(ONE, 0.9, None).platt)
    assert stored(fitted)["threshold"]["valid"]["pairs"] == fitted.threshold.valid.pairs


@pytest.mark.parametrize(
    "held",
    [
        {"fusion": {"method": "sum", "weight": 0.5}, "probability": None},
        {"fusion": {"method": INTERPOLATION, "weight": 2.0}, "probability": None},
        {"fusion": {"method": INTERPOLATION}, "probability": None},
        {"fusion": None, "probability": {"slope": math.inf, "offset": 0.0}},
        {"fusion": None, "probability": {"slope": 1.0}},
        {"fusion": None},
    ],
)
def test_what_no_export_keeps_is_refused(held: dict) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        restored(held)


def test_a_probability_is_the_sigmoid_of_a_line() -> None:
    assert Platt(2.0, -1.0).of([0.5, 1.0]) == pytest.approx([0.5, 1 / (1 + math.exp(-1))])


def test_a_ranker_whose_higher_scores_are_less_often_relevant_has_a_falling_probability_and_no_threshold() -> None:
    one = split(3, 40)
    turned = one._replace(own=ranked({query: {hit.passage_id: -hit.score for hit in row} for query, row in one.own.items()}))
    rising, falling = fit(one, 0.05, None), fit(turned, 0.05, None)
    assert (rising.platt.falls, falling.platt.falls) == (False, True)
    assert rising.threshold is not None
    assert falling.threshold is None
    assert calibration(falling, turned).error == pytest.approx(calibration(rising, one).error, abs=1e-6)
