"""Comparison of two rankers: agreement of their orders; significance, interval and power of their difference.

Scores aren't compared: a distilled ranker may be on another scale than its teacher and still order passages alike. Kendall's
tau looks at the whole list, so most of it is about passages nobody will see; the overlap of the first ten is about the top.

Questions about one topic share its passages, and so their luck: they aren't independent. Where topics are known, all
differences of a topic change their sign together; the topics are the sample then, as the test by query would find too much.
"""

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Orders = Mapping[str, Sequence[str]]
"""Query id -> passage ids, best first."""


def kendall_tau(a: Orders, b: Orders) -> float | None:
    """Mean over queries of Kendall's tau: share of passage pairs in the same order minus the share in opposite orders.

    The orders have no ties, so tau-a and tau-b are one. Counting is O(n log n) comparisons a query.

    Args:
        a: passage ids of each query, best first.
        b: the same candidates of the same queries, in another order.

    Returns:
        From -1 (reversed) to 1 (equal). A query with fewer than two candidates has no pair and is left out of the mean; None
        if there is no other.

    Raises:
        ValueError: if queries or candidates differ, or a passage is listed twice.

    Source: Kendall 1938, "A new measure of rank correlation"; Knight 1966 for the counting.
    """
    _check(a, b)
    return _mean([_tau(order, b[query]) for query, order in a.items() if len(order) > 1])


def overlap(a: Orders, b: Orders, depth: int = 10) -> float | None:
    """Mean over queries of the share of the first passages that two orders have in common.

    Args:
        a: passage ids of each query, best first.
        b: the same candidates of the same queries, in another order.
        depth: how many passages count as the first. A query with fewer candidates has all of them in common, which is 1.

    Returns:
        From 0 to 1. A query without candidates is left out of the mean; None if there is no other.

    Raises:
        ValueError: if queries or candidates differ, or a passage is listed twice.
    """
    _check(a, b)
    return _mean(
        [len({*order[:depth]} & {*b[query][:depth]}) / min(depth, len(order)) for query, order in a.items() if len(order)]
    )


def _check(a: Orders, b: Orders) -> None:
    if a.keys() != b.keys():
        raise ValueError(f"agreement needs the same queries on both sides; {len(a.keys() ^ b.keys())} of them differ.")
    for query, order in a.items():
        first, second = set(order), set(b[query])
        if first != second:
            raise ValueError(
                f"query {query}: agreement needs the same candidates on both sides; of {len(first)} and {len(second)}, "
                f"{len(first ^ second)} are on one side only. Rank the same candidates with both."
            )
        if len(first) != len(order) or len(second) != len(b[query]):
            raise ValueError(f"query {query}: a passage is ranked twice. List each candidate once.")


def _tau(order: Sequence[str], other: Sequence[str]) -> float:
    place = {passage: rank for rank, passage in enumerate(other)}
    seen: list[int] = []
    inversions = 0
    for passage in order:
        at = bisect(seen, place[passage])
        inversions += len(seen) - at
        seen.insert(at, place[passage])
    return 1 - 4 * inversions / (len(order) * (len(order) - 1))


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


SAMPLES = 100_000
LEVEL = 0.05  # a p value below it is called a difference
BLOCK_BYTES = 1 << 20
KEPT_BYTES = 1 << 25  # of draws that are kept for further tests
_WHOLE = lru_cache(maxsize=4)(lambda draw, *how: list(draw(*how)))


class Comparison(NamedTuple):
    """A tested difference.

    Attributes:
        difference: mean over queries of a - b.
        p_value: two-sided.
        queries: number of pairs.
        units: number of independent signs: clusters, or queries where there are none.
    """

    difference: float
    p_value: float
    queries: int
    units: int

    @property
    def found(self) -> bool:
        """Whether the difference is more than chance at ``LEVEL``."""
        return self.p_value < LEVEL

    @property
    def can_find(self) -> bool:
        """Whether so few units could show any difference at ``LEVEL``: two of all sign assignments are always as extreme."""
        return 2.0 ** (1 - self.units) < LEVEL


def randomisation_test(
    a: Mapping[str, float],
    b: Mapping[str, float],
    samples: int = SAMPLES,
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> Comparison:
    """Paired randomisation test of the mean difference over queries (random signs).

    Every sign assignment is counted where there are at most ``samples`` of them; else so many are drawn.

    Args:
        a: value by query id.
        b: value of the same queries.
        samples: sign assignments; the smallest p value of drawn ones is 1 / (samples + 1).
        seed: seed of the signs that are drawn.
        clusters: query id -> cluster, whose queries get one sign; None gives each query its own.

    Raises:
        ValueError: if the queries differ, there is none, or one has no cluster.

    Source: Smucker, Allan & Carterette 2007, "A comparison of statistical significance tests for IR evaluation".
    """
    if a.keys() != b.keys() or not a:
        raise ValueError(f"a paired test needs the same queries on both sides; {len(a.keys() ^ b.keys())} of them differ.")
    sums, _ = unit_sums({query: a[query] - b[query] for query in a}, clusters)
    enough = abs(sums.sum()) - 1e-12 * len(a)  # sums that should be equal differ in the last digit
    if 2 ** len(sums) <= samples:
        p_value = float((np.abs(_all_sums(sums)) >= enough).mean())
    else:
        p_value = (_count_extreme(sums.tobytes(), float(enough), samples, seed) + 1) / (samples + 1)
    return Comparison(float(sums.sum()) / len(a), p_value, len(a), len(sums))


def unit_sums(values: Mapping[str, float], clusters: Mapping[str, str] | None = None) -> tuple[NDArray, NDArray]:
    """Sum the values of each independent unit.

    Args:
        values: by query id.
        clusters: query id -> cluster, a unit each; None makes each query one.

    Returns:
        Sum and number of queries of each unit, float64, (U,), in the order of their first query id.

    Raises:
        ValueError: if a query has no cluster.
    """
    if clusters is not None and (lost := sorted(values.keys() - clusters.keys())):
        raise ValueError(f"{len(lost)} queries have no cluster, for example {lost[0]}. Name one for each, or give no clusters.")
    found: dict[str, list[float]] = {}
    for query in sorted(values):
        found.setdefault(query if clusters is None else clusters[query], []).append(values[query])
    return np.array([*map(sum, found.values())], float), np.array([*map(len, found.values())], float)


RESAMPLES = 10_000


def bootstrap_interval(
    samples: Sequence[tuple[NDArray, NDArray]], level: float = 0.95, times: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """Confidence interval of a mean over queries or pairs that come in units: bias-corrected and accelerated bootstrap.

    Args:
        samples: sums and numbers of values of units, (U,) each, see ``unit_sums``. Units are drawn, with all that belongs to
            them; each sample by itself, if there are several: the interval is that of the mean of their means.
        level: probability that intervals made so hold the true mean.
        times: that units are drawn.
        seed: of the draws.

    Returns:
        Its ends; None where a sample has fewer than two units, of which nothing is known.

    Source: Efron 1987, "Better bootstrap confidence intervals"; Davison & Hinkley 1997, section 5.3.2, for several samples.
    """
    if min(len(sums) for sums, _ in samples) < 2:
        return None
    mean, draws, gaps = 0.0, np.zeros(times), []
    for number, (sums, counts) in enumerate(samples):
        units, even, drawn = len(sums), bool((counts == counts[0]).all()), []
        for often in _kept(_draws, 8 * units * times, units, times, (seed, number) if number else seed):
            of = units * counts[0] if even else often @ counts
            drawn.append(often @ sums / np.maximum(of, np.finfo(float).tiny))
        without = (sums.sum() - sums) / np.maximum(counts.sum() - counts, np.finfo(float).tiny)
        mean += sums.sum() / counts.sum() / len(samples)
        draws += np.concatenate(drawn) / len(samples)
        gaps.append((without.mean() - without) / len(samples))
    if np.ptp(draws) <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean
    normal, gaps = NormalDist(), np.concatenate(gaps)
    below = ((draws < mean).sum() + (draws <= mean).sum()) / 2 / times
    bias = normal.inv_cdf(min(max(below, 0.5 / times), 1 - 0.5 / times))
    spread = (gaps**2).sum() ** 1.5
    acceleration = (gaps**3).sum() / (6 * spread) if spread else 0.0
    tails = [bias + normal.inv_cdf(tail) for tail in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(draws, [normal.cdf(bias + tail / (1 - acceleration * tail)) for tail in tails])
    return float(low), float(high)


def _draws(units: int, samples: int, seed: int | tuple[int, int]) -> Iterator[NDArray[np.float64]]:
    """Draw units with replacement; yield how often each is in a sample, (S, U), in blocks."""
    random, block = np.random.default_rng(seed), max(1, BLOCK_BYTES // (8 * units))
    for start in range(0, samples, block):
        drawn = random.integers(0, units, (min(block, samples - start), units))
        drawn += units * np.arange(len(drawn))[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)


def _kept(draw: Callable[..., Iterator[NDArray]], size: int, *how: Any) -> Iterable[NDArray]:
    """Return the blocks of draws; those of a small size are kept, as all tests on the same queries take the same ones."""
    return _WHOLE(draw, *how) if size <= KEPT_BYTES else draw(*how)


POWER = 0.8


def detectable(sums: NDArray, counts: NDArray, power: float = POWER) -> float | None:
    """Smallest true difference that a test at ``LEVEL`` finds with some probability, as queries differ in these data.

    The paired t-test's power stands for the randomisation test's, which is the same but for the shape of the tails. It tells a
    difference that there isn't from one that so few queries can't show.

    Args:
        sums: of the differences of each unit, (U,), see ``unit_sums``.
        counts: number of queries of each unit, (U,).
        power: probability to find it.

    Returns:
        A difference of means, at least 0; None for units too few to find any.

    Source: Sakai 2016, "Statistical significance, power, and sample sizes", for paired tests of IR measures.
    """
    units = len(sums)
    if 2.0 ** (1 - units) >= LEVEL:
        return None
    error = sums.std(ddof=1) * units / counts.sum() / math.sqrt(units)
    return float(error * (_t_quantile(LEVEL, units - 1) + _t_quantile(2 * (1 - power), units - 1)))


def over_seeds(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]], clusters: Mapping[str, str] | None = None
) -> float | None:
    """Test a mean difference with queries and seeds as random effects: would other questions *and* other seeds show it?

    The variance of the mean is that over units of each unit's mean over seeds, and for each side with several seeds their own,
    what units and seeds do together taken out: the estimates of the balanced crossed model. It is a t-test with Satterthwaite's
    degrees of freedom; two or three seeds leave few.

    Args:
        a: values by query of each seed.
        b: values of the same queries of each seed of the other side.
        clusters: query id -> cluster, see ``randomisation_test``.

    Returns:
        Two-sided p value; None where no side has several seeds, or there is one unit only.

    Source: Raaijmakers, Schrijnemakers & Gremmen 1999, "How to deal with the language-as-fixed-effect fallacy" (quasi-F);
    Satterthwaite 1946 for the degrees of freedom.
    """
    sides = [np.stack([_even(seed, clusters) for seed in side]) for side in (a, b)]
    units = sides[0].shape[1]
    if units < 2 or max(map(len, sides)) < 2:
        return None
    gaps = sides[0].mean(0) - sides[1].mean(0)
    parts = [(gaps.var(ddof=1) / units, units - 1)]
    for side in sides:
        seeds = len(side)
        if seeds < 2:
            continue
        rest = side - side.mean(1, keepdims=True) - side.mean(0) + side.mean()
        own = side.mean(1).var(ddof=1) / seeds
        together = (rest**2).sum() / ((seeds - 1) * (units - 1)) / (units * seeds)
        if own > together:
            parts += [(own, seeds - 1), (-together, (seeds - 1) * (units - 1))]
    variance = sum(part for part, _ in parts)
    if not variance:
        return float(not gaps.mean())
    freedom = variance**2 / sum(part**2 / of for part, of in parts)
    return _t_tails(float(gaps.mean()) / math.sqrt(variance), freedom)


def _even(values: Mapping[str, float], clusters: Mapping[str, str] | None) -> NDArray:
    """Return a value of each unit, (U,), whose mean is that over queries."""
    sums, counts = unit_sums(values, clusters)
    return sums * len(sums) / counts.sum()


def _t_tails(t: float, freedom: float) -> float:
    """Return the probability that Student's t is as far from 0, by the trapezoid rule over the angle whose tangent it is."""
    angles = np.linspace(0, math.atan(abs(t) / math.sqrt(freedom)), 4001)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return float(min(max(1 - 2 * scale * np.trapezoid(np.cos(angles) ** (freedom - 1), angles), 0), 1))


@lru_cache(maxsize=64)
def _t_quantile(tails: float, freedom: float) -> float:
    """Return the t whose two tails have a probability, by bisection."""
    low, high = 0.0, 1e6
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_tails(middle, freedom) > tails else (low, middle)
    return low


def describe_test(queries: int, clusters: Mapping[str, str] | None) -> str:
    """Name the test that ``randomisation_test`` makes of so many queries, for legends."""
    units = queries if clusters is None else len(set(clusters.values()))
    over = f"over {queries} queries" if clusters is None else f"by topic ({units} topics)"
    how = "exact" if 2**units <= SAMPLES else f"{SAMPLES} samples"
    return f"paired randomisation test {over}, {how}, two-sided"


def shown_p(p_value: float) -> str:
    """Write a p value with as many digits as ``SAMPLES`` random samples give."""
    return "p <0.001" if p_value < 0.001 else f"p {p_value:.3f}"


def _all_sums(values: np.ndarray) -> np.ndarray:
    """Return the sum of every sign assignment that keeps the first sign: the others are their negatives, as extreme."""
    sums = values[:1]
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@lru_cache(maxsize=256)
def _count_extreme(sums: bytes, enough: float, samples: int, seed: int) -> int:
    """Draw sign assignments and count those as extreme; kept, as a table, verdicts and curves ask for the same difference."""
    values, count = np.frombuffer(sums), 0
    whole, wide = values.sum(), -(-len(values) // 8)  # bytes that hold one bit for each value
    padded = np.pad(values, (0, 8 * wide - len(values)))
    # Of eight values that share a byte, what each of its 256 patterns turns is added up once: a draw is one look-up a byte.
    tables = padded.reshape(wide, 8) @ np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).T.astype(float)
    for drawn in _kept(_signs, wide * samples, wide, samples, seed):
        turned = tables[0].take(drawn[0])
        for table, column in zip(tables[1:], drawn[1:], strict=True):
            turned += table.take(column)
        count += int((np.abs(whole - 2 * turned) >= enough).sum())  # what is turned is taken away twice
    return count


def _signs(wide: int, samples: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Draw sign assignments as bits, (``wide``, S); in blocks, so that memory stays flat for many queries."""
    random, block = np.random.default_rng(seed), max(1, BLOCK_BYTES // (8 * wide))
    for start in range(0, samples, block):
        yield np.ascontiguousarray(random.integers(0, 256, (min(block, samples - start), wide), np.uint8).T)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p values so that the chance of even one false finding among them stays below the level they are read at.

    Args:
        p_values: of one family of tests, by name.

    Returns:
        Adjusted values by name, in the order given: the smallest times the number of tests, the next one times one less, and
        so on; never below a smaller one's, at most 1.

    Raises:
        ValueError: for a value outside of 0 to 1, naming it.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value} is no p value; it must lie between 0 and 1.")
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}
