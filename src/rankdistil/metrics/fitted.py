"""What is fitted to a ranker's scores on validation: their fusion with the first stage's, and a probability of relevance.

Both are fitted on validation queries and measured on test queries: a weight or a threshold chosen on the test would look better
than it is. scikit-learn's ``CalibratedClassifierCV`` was rejected, as the base install doesn't have it; tests hold Platt's fit
against it. Isotonic regression was rejected, too: its steps tie scores, and need more judgments than most have.

A ranker that is loaded for use reads this module, so nothing here needs a library of measures.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankdistil.data.records import Qrels, Ranking
from rankdistil.metrics.comparing import LEVEL, bootstrap_interval

INTERPOLATION, RRF = "interpolation", "rrf"
WEIGHTS = tuple(number / 10 for number in range(10, -1, -1))  # of equally good ones the first, nearest to the ranker alone
RRF_PLACES = 60  # added to every rank, as in the source


class Split(NamedTuple):
    """A split that was scored.

    Attributes:
        own: the ranker's scores of the candidates.
        first: the first stage's ranking of the same candidates, with its scores.
        qrels: judgments of the queries.
        level: lowest grade that counts as relevant.
        topics: query id -> topic; None where topics aren't known.
    """

    own: Ranking
    first: Ranking
    qrels: Qrels
    level: int = 1
    topics: dict[str, str] | None = None


class Fusion(NamedTuple):
    """A way to unite a ranker's scores with the first stage's.

    Attributes:
        method: ``interpolation`` of scores that lie from 0 to 1 (min-max) among a query's candidates, or ``rrf``, reciprocal
            rank fusion, which knows ranks alone.
        weight: of the ranker, from 0 to 1, the rest being the first stage's; None of rrf.

    Source: Cormack, Clarke & Buettcher 2009, "Reciprocal rank fusion"; Wang, Zhuang & Zuccon 2021, "BERT-based dense retrievers
    require interpolation with BM25".
    """

    method: str
    weight: float | None = None

    def fuse(self, own: ArrayLike, first: ArrayLike) -> NDArray[np.float64]:
        """Unite the scores of a query's candidates.

        Args:
            own: the ranker's, (N,).
            first: the first stage's of the same candidates, (N,).

        Returns:
            A value of each, (N,): higher is better; values of different queries don't compare.
        """
        scores = np.asarray(own, float), np.asarray(first, float)
        if self.method == RRF:
            return sum(1 / (RRF_PLACES + _ranks(each)) for each in scores)
        return self.weight * _min_max(scores[0]) + (1 - self.weight) * _min_max(scores[1])

    def __str__(self) -> str:
        """Name it."""
        return self.method if self.weight is None else f"{self.method}, {self.weight:g} of it the ranker's"


ALONE = Fusion(INTERPOLATION, 1.0)


def _min_max(scores: NDArray) -> NDArray:
    """Put scores between 0 and 1; equal ones become 0, and leave the order to the other side."""
    length = np.ptp(scores)
    return (scores - scores.min()) / length if length else np.zeros(len(scores))


def _ranks(scores: NDArray) -> NDArray:
    """Return each one's rank from 1; equal scores stay in the order given."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


class Fusions(NamedTuple):
    """What validation says of fusing. Attributes: interpolation: with the best weight; best: of this and rrf the better one."""

    interpolation: Fusion
    best: Fusion


class Platt(NamedTuple):
    """Probability that a pair is judged relevant, by its score: the sigmoid of ``slope * score + offset``.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", with the targets that it smooths.
    """

    slope: float
    offset: float

    @property
    def falls(self) -> bool:
        """Whether a higher score makes a pair less probable, as with a ranker that is worse than chance."""
        return self.slope < 0

    def of(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities of scores, (N,)."""
        return _sigmoid(self.slope * np.asarray(scores, float) + self.offset)


def fit_platt(scores: NDArray, relevant: NDArray) -> Platt | None:
    """Fit a probability to judged pairs.

    Args:
        scores: (N,).
        relevant: whether each pair is, bool, (N,).

    Returns:
        The likeliest; None where all pairs are judged alike, or all scores are equal.

    Source: Lin, Lin & Weng 2007, "A note on Platt's probabilistic outputs", for Newton's steps with a line search.
    """
    yes, spread = int(relevant.sum()), scores.std()
    if yes in (0, len(relevant)) or not spread:
        return None
    no = len(relevant) - yes
    target = np.where(relevant, (yes + 1) / (yes + 2), 1 / (no + 2))
    rows = np.stack([(scores - scores.mean()) / spread, np.ones(len(scores))], axis=1)
    line = np.array([0.0, np.log((yes + 1) / (no + 1))])

    def cost(line: NDArray) -> float:
        value = rows @ line
        return float((np.logaddexp(0, value) - target * value).sum())

    for _ in range(100):
        found = _sigmoid(rows @ line)
        gradient = rows.T @ (found - target)
        if np.abs(gradient).max() < 1e-9 * len(scores):
            break
        step = np.linalg.solve(rows.T @ (rows * (found * (1 - found))[:, None]) + 1e-12 * np.eye(2), gradient)
        length = 1.0
        while cost(line - length * step) > cost(line) and length > 1e-10:
            length /= 2
        line = line - length * step
    slope = line[0] / spread
    return Platt(float(slope), float(line[1] - slope * scores.mean()))


def _sigmoid(values: NDArray) -> NDArray:
    return np.exp(-np.logaddexp(0, -values))


BINS = 10


class Bin(NamedTuple):
    """Pairs of similar probability. Attributes: predicted: their mean; relevant: share that is; pairs: how many."""

    predicted: float
    relevant: float
    pairs: int


def reliability(probabilities: NDArray, relevant: NDArray) -> list[Bin]:
    """Sort pairs into ``BINS`` of equal width by their probability, (N,); empty ones are left out."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    members = [place == number for number in range(BINS)]
    return [Bin(float(probabilities[one].mean()), float(relevant[one].mean()), int(one.sum())) for one in members if one.any()]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: how far probabilities and shares of bins are apart, mean over pairs."""
    return sum(each.pairs * abs(each.predicted - each.relevant) for each in bins) / sum(each.pairs for each in bins)


LEAST = 20  # validation pairs above a threshold: of fewer a share says little


class Precision(NamedTuple):
    """Pairs at or above a threshold.

    Attributes:
        share: of them that is relevant.
        interval: its 95 % confidence interval, by drawing queries or topics; None for one of them alone, unless
            all of its pairs, or none, are relevant.
        pairs: how many they are.
        recall: share of all relevant pairs that is among them.
    """

    share: float
    interval: tuple[float, float] | None
    pairs: int
    recall: float


class Threshold(NamedTuple):
    """A score from which on pairs count as relevant. Attributes: score: lowest; wished: precision asked for; valid: there."""

    score: float
    wished: float
    valid: Precision


class Pairs(NamedTuple):
    """The pairs of a split. Attributes: scores: (N,); relevant: bool, (N,); units: number of the query or topic, int, (N,)."""

    scores: NDArray
    relevant: NDArray
    units: NDArray

    @classmethod
    def of(cls, split: Split) -> "Pairs":
        """Take the ranker's scores of judged queries; what nobody judged counts as not relevant."""
        rows, numbers = [], {}
        for query, row in split.own.items():
            if query in split.qrels:
                unit = query if split.topics is None else split.topics[query]
                number, grades = numbers.setdefault(unit, len(numbers)), split.qrels[query]
                rows += [(hit.score, grades.get(hit.passage_id, 0) >= split.level, number) for hit in row]
        scores, relevant, units = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.array(scores, float), np.array(relevant, bool), np.array(units, int))

    def precision(self, score: float) -> Precision | None:
        """Tell what lies at or above a score; None if nothing does."""
        above = self.scores >= score
        if not above.any():
            return None
        units = self.units[above]
        size = int(self.units.max()) + 1
        hits, counts = np.bincount(units, self.relevant[above], size), np.bincount(units, minlength=size).astype(float)
        share, there = float(hits.sum() / counts.sum()), int((counts > 0).sum())
        interval = bootstrap_interval([(hits, counts)])
        if share in (0.0, 1.0):  # which all draws have: as if each unit were one of so many that all turned out alike
            low = (LEVEL / 2) ** (1 / there)
            interval = (low, 1.0) if share else (0.0, 1 - low)
        return Precision(share, interval, int(above.sum()), float(self.relevant[above].sum() / max(self.relevant.sum(), 1)))


def fit_threshold(valid: Pairs, wished: float) -> Threshold | None:
    """Find the lowest score from which on a share of the validation's pairs is relevant.

    Args:
        valid: its pairs.
        wished: the share, the precision.

    Returns:
        None where no score with ``LEAST`` pairs above it has it: there is no clean separation.
    """
    order = np.argsort(-valid.scores, kind="stable")
    scores, relevant = valid.scores[order], valid.relevant[order]
    shares = np.cumsum(relevant) / np.arange(1, len(scores) + 1)
    last_of_equals = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    fitting = np.flatnonzero((shares >= wished) & last_of_equals & (np.arange(len(scores)) >= LEAST - 1))
    if not len(fitting):
        return None
    score = float(scores[fitting[-1]])
    return Threshold(score, wished, valid.precision(score))


class Fitted(NamedTuple):
    """All that is fitted to a ranker's scores on validation.

    Attributes:
        fusions: with the first stage; None where that has no order.
        platt: probability of relevance; None where judgments don't allow one.
        threshold: of the precision wished for; None where no score separates so well, or a higher one is no sign of relevance.
        wished: that precision.
    """

    fusions: Fusions | None
    platt: Platt | None
    threshold: Threshold | None
    wished: float


def fit(valid: Split, wished: float, fusions: Fusions | None) -> Fitted:
    """Fit all of it.

    Args:
        valid: the validation, scored.
        wished: precision that a threshold is to have.
        fusions: what ``rankdistil.metrics.ranking.fit_fusion`` chose; None where the first stage has no order.
    """
    pairs = Pairs.of(valid)
    platt = fit_platt(pairs.scores, pairs.relevant)
    threshold = None if platt is not None and platt.falls else fit_threshold(pairs, wished)
    return Fitted(fusions, platt, threshold, wished)


class Calibration(NamedTuple):
    """A fitted probability, on a test.

    Attributes:
        platt: the fit.
        error: expected calibration error on the test.
        plain_error: that of the plain sigmoid of the score.
        bins: of the test's pairs.
        threshold: found on validation; None for no clean separation.
        test: what lies above it on the test; None without one, or if nothing does.
        wished: the precision wished for.
    """

    platt: Platt
    error: float
    plain_error: float
    bins: list[Bin]
    threshold: Threshold | None
    test: Precision | None
    wished: float


def calibration(fitted: Fitted, test: Split) -> Calibration | None:
    """Tell how well a fitted probability holds on a test; None where none was fitted, or the test has no pair."""
    pairs = Pairs.of(test)
    if fitted.platt is None or not len(pairs.scores):
        return None
    bins = reliability(fitted.platt.of(pairs.scores), pairs.relevant)
    plain = calibration_error(reliability(_sigmoid(pairs.scores), pairs.relevant))
    found = None if fitted.threshold is None else pairs.precision(fitted.threshold.score)
    return Calibration(fitted.platt, calibration_error(bins), plain, bins, fitted.threshold, found, fitted.wished)


def stored(fitted: Fitted) -> dict[str, Any]:
    """Give what an export keeps, as JSON."""
    threshold = fitted.threshold
    return {
        "fusion": None if fitted.fusions is None else fitted.fusions.best._asdict(),
        "probability": None if fitted.platt is None else fitted.platt._asdict(),
        "threshold": None if threshold is None else threshold._asdict() | {"valid": threshold.valid._asdict()},
        "wished": fitted.wished,
    }


def restored(held: Mapping[str, Any]) -> tuple[Fusion | None, Platt | None]:
    """Read what ``stored`` gave.

    Raises:
        KeyError: for a missing entry.
        TypeError: for one of another shape.
        ValueError: for a method or number that there isn't.
    """
    fusion = None if held["fusion"] is None else Fusion(**held["fusion"])
    platt = None if held["probability"] is None else Platt(**held["probability"])
    if fusion is not None and not (fusion == Fusion(RRF) or (fusion.method == INTERPOLATION and 0 <= fusion.weight <= 1)):
        raise ValueError(f"the fusion is {fusion}")
    if platt is not None and not np.isfinite(platt).all():
        raise ValueError(f"the probability is {platt}")
    return fusion, platt
