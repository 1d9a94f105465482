"""Verdict on a ranker: against its first stage, its start and its teacher, with what it costs; how many candidates it is worth.

Differences are named by test, never by their sign. What makes a ranker useless is said in capitals, with the likely cures.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rankdistil.metrics.comparing import Comparison, describe_test, randomisation_test, shown_p
from rankdistil.metrics.ranking import CUTOFF, MAIN, is_collapsed
from rankdistil.report.results import TIME, Result

COLLAPSE_CURES = ("a lower stage.lr", "another seed")


class Difference(NamedTuple):
    """A tested difference between two rows.

    Attributes:
        difference: mean over queries.
        p_value: of this test alone.
        adjusted: by Holm over its family.
        interval: ends of its 95 % confidence interval, see ``bootstrap_interval``.
        detectable: smallest difference that this test alone finds with 80 % probability, see ``detectable``.
        over_seeds: p value with seeds as a random effect, too, see ``over_seeds``; None where no row has several.
    """

    difference: float
    p_value: float
    adjusted: float
    interval: tuple[float, float] | None = None
    detectable: float | None = None
    over_seeds: float | None = None


class Depth(NamedTuple):
    """One number of candidates.

    Attributes:
        candidates: re-ranked of each query; the others follow in the first stage's order.
        value: mean nDCG@10 over queries.
        below: the deepest one minus this one; None for the deepest.
        ms: that so many take, see ``milliseconds``; None where no time is shown.
    """

    candidates: int
    value: float
    below: Difference | None
    ms: float | None


class Depths(NamedTuple):
    """What each number of candidates brings.

    Attributes:
        points: by rising depth.
        ends: the smallest depth from which on none is found worse than the deepest one: where the gain ends.
        peak: the best of the depths that are found better than the deepest one; None where there is none.
    """

    points: list[Depth]
    ends: int
    peak: int | None

    def at(self, candidates: int) -> Depth:
        """Return the point of a depth."""
        return next(point for point in self.points if point.candidates == candidates)

    @property
    def worth(self) -> Depth:
        """The depth to re-rank: the peak, if the curve decays behind it, else where the gain ends."""
        return self.at(self.ends if self.peak is None else self.peak)

    def told(self) -> str:
        """Say where the gain ends, in words."""
        last, worth = self.points[-1], self.worth
        saved = "" if worth.ms is None or worth is last else f"; {worth.ms:.0f} ms a query, not {last.ms:.0f}"
        if worth is last:
            return f"every candidate counts: fewer than {last.candidates} are found to be worse"
        within = "" if worth.below.interval is None else f" ({shown_interval(worth.below.interval)})"
        gap = f"{last.candidates} bring {worth.below.difference:+.4f}{within}, {shown_p(worth.below.adjusted)}"
        if self.peak == 1:
            return f"RE-RANKING LOSES at every depth: {gap}"
        if self.peak is not None:
            return f"PEAKS at {worth.candidates} candidates ({MAIN} {worth.value:.4f}) and decays: {gap}{saved}"
        if worth.candidates == 1:
            return f"no gain is found at any depth up to {last.candidates} candidates ({gap})"
        return f"no gain is found beyond {worth.candidates} candidates ({MAIN} {worth.value:.4f}): {gap}{saved}"


def shown_interval(interval: tuple[float, float]) -> str:
    """Write the ends of an interval of a difference."""
    return f"{interval[0]:+.4f} .. {interval[1]:+.4f}"


class Verdict(NamedTuple):
    """Attributes: text: one sentence; alarms: what makes the ranker useless, usually nothing."""

    text: str
    alarms: list[str]

    @property
    def lines(self) -> list[str]:
        """The alarms, then the sentence."""
        return [*self.alarms, self.text]


def verdict(
    first: Result, own: Result, teacher: Result | None = None, start: Result | None = None, cures: Sequence[str] = (),
    seed: int = 0,
) -> Verdict:  # fmt: skip
    """Judge a ranker by nDCG@10.

    Args:
        first: the first stage's order of the same queries.
        own: the ranker.
        teacher: its teacher; None for a ranker without one.
        start: the ranker before its training, where that ranks.
        cures: of a ranker that is no better than chance, or worse than the first stage, see ``likely_cures``.
        seed: of the tests.
    """

    def against(a: Result, b: Result) -> Comparison:
        return randomisation_test(a.values(), b.values(), seed=seed, clusters=own.topics)

    versus_first = against(own, first)
    tests = [(first.name, versus_first)]
    tests += [("its start", against(own, start))] if start is not None else []
    tests += [(teacher.name, against(own, teacher))] if teacher is not None else []
    parts = [", ".join(f"{_word(test)} {name} ({_shown(test)})" for name, test in tests)]
    alone = None if teacher is None else against(teacher, first)
    if alone is not None:
        parts.append(_kept(first, own, teacher, alone))
        parts += _cost(own, teacher)
    if own.tied is not None and own.tied.queries:
        parts.append(_tied(own))
    parts += [f"{one.name}: {_tied(one)}" for one in (start, teacher) if one is not None and _collapsed(one)]
    if not versus_first.can_find:
        what = "queries" if own.topics is None else "topics"
        parts.append(f"{versus_first.units} {what} are too few for any test to find a difference")
    tested = describe_test(versus_first.queries, own.topics)
    text = f"{own.name}: {MAIN} {own.measures[MAIN]:.4f}, {'; '.join(parts)} ({tested})"
    if alone is not None and not _above(alone):
        cures = (f"a better teacher ({teacher.name} isn't above {first.name} itself)", *cures[:1])
    return Verdict(text, [*_leaks(own), *_alarms(first, own, versus_first, cures, seed)])


def likely_cures(learns: str, started_from: str) -> tuple[str, str]:
    """Name the two likeliest cures of a ranker that ranks badly.

    Args:
        learns: ``teacher`` or ``student``: what was trained.
        started_from: what it started from, in words (``roles.start_in_words``).
    """
    if learns == "student" and not started_from.startswith("cut out of"):
        return "more steps (stage.steps)", "a start that ranks already (student.init_from=subclone)"
    return "more steps (stage.steps)", "another stage.lr"


def depth_note(depth: int) -> list[str]:
    """Say so if the measure looks at every candidate there is."""
    if depth > CUTOFF:
        return []
    return [
        f"data.depth={depth}: {MAIN} looks at all candidates of a query, so no ranker can bring one in or lose one. Set "
        f"data.depth above {CUTOFF} to see more than their order."
    ]


def _alarms(first: Result, own: Result, versus_first: Comparison, cures: Sequence[str], seed: int) -> list[str]:
    """Say the worst that is true, as it explains the rest."""
    if _collapsed(own):
        return [_alarm(_tied(own), own, "", COLLAPSE_CURES)]
    if own.chance is not None:
        test = randomisation_test(own.values(), own.chance, seed=seed, clusters=own.topics)
        if test.can_find and not _above(test):
            chance = own.measures[MAIN] - test.difference
            numbers = f" ({MAIN} {own.measures[MAIN]:.4f} against {chance:.4f}, {shown_p(test.p_value)})"
            return [_alarm("no better than a random order of the same candidates", own, numbers, cures)]
    if versus_first.found and versus_first.difference < 0:
        return [_alarm(f"worse than {first.name}, the order it was given", own, f" ({_shown(versus_first)})", cures)]
    return []


def _leaks(own: Result) -> list[str]:
    """Say which answers a ranker has seen: its numbers say little about others."""
    lines = []
    if own.leak is not None and own.leak.queries:
        found = own.leak.told().partition(",")
        told = f"{found[0].upper()}{''.join(found[1:])}"
        lines.append(f"{own.name}: TRAINED ON {told}. Its numbers don't tell how it ranks for other questions.")
    if own.leak is not None and own.leak.other_text:
        lines.append(
            f"{own.name}: {own.leak.other_text} of {own.leak.of} test queries have the id of a training query with another "
            "text. See that they are other questions."
        )
    return lines


def _alarm(what: str, own: Result, numbers: str, cures: Sequence[str]) -> str:
    likely = f". Likely cures: {', or '.join(cures)}" if cures else ""
    return f"{own.name}: {what.upper()}{numbers}{likely}."


def _kept(first: Result, own: Result, teacher: Result, alone: Comparison) -> str:
    """Say how much of its teacher a ranker has kept; a share of a gain that may be none says nothing."""
    own_value, above = own.measures[MAIN], teacher.measures[MAIN]
    share = f"{own_value / above:.1%} of its {MAIN}" if above else f"no share of its {MAIN}, which is 0"
    if not _above(alone):
        return f"share of the teacher's gain: none can be given, as {teacher.name} is {_word(alone)} {first.name} " + (
            f"({_shown(alone)}); keeps {share}"
        )
    gain = (own_value - first.measures[MAIN]) / alone.difference
    return f"keeps {gain:.0%} of the teacher's gain over {first.name} ({_shown(alone)}) and {share}"


def _cost(own: Result, teacher: Result) -> list[str]:
    """Compare size, and time where it was measured on a machine that wasn't busy."""
    told = []
    for key, better, worse in ((TIME, "faster", "slower"), ("parameters", "smaller", "larger")):
        if key in own.speed and key in teacher.speed:
            ratio = teacher.speed[key] / own.speed[key]
            told.append(f"{ratio:.2f}x {better}" if ratio >= 1 else f"{1 / ratio:.2f}x {worse}")
    return [f"{' and '.join(told)} than {teacher.name}"] if told else []


def _tied(one: Result) -> str:
    return f"all scores of {one.tied.queries} of {one.tied.of} queries are equal: the order is by id"


def _collapsed(one: Result) -> bool:
    return one.tied is not None and is_collapsed(*one.tied)


def _above(test: Comparison) -> bool:
    return test.found and test.difference > 0


def _word(test: Comparison) -> str:
    if not test.found:
        return "no different from"
    return "better than" if test.difference > 0 else "worse than"


def _shown(test: Comparison) -> str:
    return f"{test.difference:+.4f}, {shown_p(test.p_value)}"
