"""Verdict on a ranker: against first stage, start and teacher, with what it costs; how deep it is worth to look; whom it harms.

Differences are named by test, never by their sign. What makes a ranker useless is said in capitals, with the likely cures.
"""

import re
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from rankdistil.data.records import Candidate, Pair, Qrels, Ranking
from rankdistil.metrics.comparing import Comparison, Orders, describe_test, randomisation_test, shown_p
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
        ends: the smallest depth that isn't found worse than the deepest one: where the gain ends.
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
        p_value = worth.below.p_value if self.peak is None else worth.below.adjusted
        within = "" if worth.below.interval is None else f" ({shown_interval(worth.below.interval)})"
        gap = f"{last.candidates} bring {worth.below.difference:+.4f}{within}, {shown_p(p_value)}"
        unseen = f", where a gain below {worth.below.detectable:.4f} may go unseen" if worth.below.detectable else ""
        if self.peak == 1:
            return f"RE-RANKING LOSES at every depth: {gap}"
        if self.peak is not None:
            return f"PEAKS at {worth.candidates} candidates ({MAIN} {worth.value:.4f}) and decays: {gap}{saved}"
        if worth.candidates == 1:
            return f"no gain is found at any depth up to {last.candidates} candidates ({gap}{unseen})"
        return f"no gain is found beyond {worth.candidates} candidates ({MAIN} {worth.value:.4f}): {gap}{unseen}{saved}"


def shown_interval(interval: tuple[float, float]) -> str:
    """Write the ends of an interval of a difference."""
    return f"{interval[0]:+.4f} .. {interval[1]:+.4f}"


class Harmed(NamedTuple):
    """A query that a ranker answers worse than the first stage did.

    Attributes:
        query_id: its id.
        query: its text.
        before: nDCG@10 of the first stage.
        after: of the ranker.
        raised: text of the passage that the ranker puts first.
        raised_from: its place in the first stage, from 1.
        answer: text of the candidate of the highest grade; of several, the first stage's first.
        places: of the answer, before and after.
    """

    query_id: str
    query: str
    before: float
    after: float
    raised: str
    raised_from: int
    answer: str
    places: tuple[int, int]


class Group(NamedTuple):
    """Queries alike. Attributes: name; queries: how many; worse, better: of them than the first stage; change: mean."""

    name: str
    queries: int
    worse: int
    better: int
    change: float


class Suspect(NamedTuple):
    """A passage that ranker and teacher put first and judgments don't call relevant.

    Attributes:
        query_id: of the query.
        query: its text.
        passage_id: of the passage.
        passage: its text.
        judged: whether somebody judged it; else nobody looked.
    """

    query_id: str
    query: str
    passage_id: str
    passage: str
    judged: bool


class Harm(NamedTuple):
    """Where a ranker hurts.

    Attributes:
        ranker: name of the row.
        groups: of queries, by length, by the lead of the first stage's best candidate, by words in common with it.
        queries: that got worse, the worst first.
        suspects: likely gaps in the judgments; None without a teacher.
    """

    ranker: str
    groups: list[Group]
    queries: list[Harmed]
    suspects: list[Suspect] | None


def find_harm(
    first: Result, own: Result, before: Ranking, after: Orders, teacher: Orders | None, qrels: Qrels, level: int,
    pairs: Callable[[Ranking], list[Pair]],
) -> Harm:  # fmt: skip
    """Look for queries that a ranker makes worse, for what they share, and for passages that judgments may have missed.

    Args:
        first: the first stage's measures.
        own: the ranker's.
        before: the first stage's ranking.
        after: the ranker's order of the same candidates.
        teacher: the teacher's order of them; None without one.
        qrels: judgments.
        level: lowest grade that counts as relevant.
        pairs: gives the texts of candidates.
    """
    relevant = {query: {key for key, grade in row.items() if grade >= level} for query, row in qrels.items()}
    was, now = first.values(), own.values()
    change = {query: now[query] - was[query] for query in was if before.get(query)}
    worst = sorted((query for query in change if change[query] < -SAME), key=change.__getitem__)
    answers = {query: max(before[query], key=lambda hit: qrels[query].get(hit.passage_id, 0)) for query in worst}
    shown = {query: [before[query][0], Candidate(after[query][0], 0.0)] for query in change}
    shown |= {query: [*shown[query], hit] for query, hit in answers.items()}
    texts = {
        (pair.query_id, pair.passage_id): pair for pair in pairs({query: [*dict.fromkeys(row)] for query, row in shown.items()})
    }
    asked = {query: texts[query, before[query][0].passage_id].query for query in change}
    found: dict[str, list[float]] = {}
    for query, value in change.items():
        for name in _kinds(asked[query], texts[query, before[query][0].passage_id].passage, before[query]):
            found.setdefault(name, []).append(value)
    groups = [
        Group(name, len(row), sum(value < -SAME for value in row), sum(value > SAME for value in row), fmean(row))
        for name, row in sorted(found.items(), key=lambda item: KINDS.index(item[0]))
    ]
    harmed = []
    for query in worst:
        places = {hit.passage_id: place for place, hit in enumerate(before[query], 1)}
        top, answer = after[query][0], answers[query].passage_id
        moved = places[answer], after[query].index(answer) + 1
        raised, lowered = texts[query, top].passage, texts[query, answer].passage
        harmed.append(Harmed(query, asked[query], was[query], now[query], raised, places[top], lowered, moved))
    suspects = None if teacher is None else [
        Suspect(query, asked[query], after[query][0], texts[query, after[query][0]].passage, after[query][0] in qrels[query])
        for query in change
        if relevant[query] and after[query][0] == teacher[query][0] and after[query][0] not in relevant[query]
    ]  # fmt: skip
    return Harm(own.name, groups, harmed, suspects)


SAME = 1e-9  # values that should be equal differ in the last digit
KINDS = [
    "query of 1 to 4 words",
    "query of 5 to 8 words",
    "query of more than 8 words",
    "first stage's best leads by less than a tenth of its scores' range",
    "first stage's best leads by a tenth or more",
    "first stage's best has less than half of the query's words",
    "first stage's best has half or more of the query's words, not all",
    "first stage's best has all of the query's words",
]


def _kinds(query: str, best: str, candidates: Sequence[Candidate]) -> list[str]:
    """Say which groups a query is in, one of each kind."""
    words, there = (re.findall(r"\w+", text.casefold()) for text in (query, best))
    scores = [hit.score for hit in candidates]
    lead = (scores[0] - scores[1]) / (scores[0] - scores[-1]) if scores[0] > scores[-1] else 0.0
    share = fmean(word in there for word in {*words}) if words else 0.0
    at = [(len(words) > 4) + (len(words) > 8), 3 + (lead >= 0.1), 5 + (share >= 0.5) + (share == 1)]
    return [KINDS[place] for place in at]


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
        return "not told apart from"
    return "better than" if test.difference > 0 else "worse than"


def _shown(test: Comparison) -> str:
    return f"{test.difference:+.4f}, {shown_p(test.p_value)}"
