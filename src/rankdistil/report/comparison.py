"""Comparison of many rankers: seeds averaged, differences tested, agreement with the teacher.

Rankers that differ by seed only share a row. Their values are averaged per query before the test, so the queries are its
sample: it says whether another set of questions would show the difference, not whether another seed would; the spread does.
Questions of one topic count as one, where topics are known.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from rankdistil.data.collections.splits import Leak
from rankdistil.data.records import Pair, Qrels, Ranking
from rankdistil.metrics.comparing import (
    LEVEL,
    SAMPLES,
    Orders,
    bootstrap_interval,
    detectable,
    holm,
    kendall_tau,
    over_seeds,
    overlap,
    randomisation_test,
    unit_sums,
)
from rankdistil.metrics.fitted import RRF, Calibration, Fitted, Fusion, Split, calibration
from rankdistil.metrics.ranking import MAIN, at_depths, depths, fused_values, main_measure
from rankdistil.report.results import Result, Timing, average, milliseconds
from rankdistil.report.verdict import Depth, Depths, Difference, Harm, find_harm, verdict


class Member(NamedTuple):
    """One tested ranker.

    Attributes:
        row: name of the row it belongs to; rankers that differ by seed only share it, e.g. ``ranker_distill 6l``.
        result: its measures.
        ranking: query id -> passage ids, best first.
        own_candidates: whether it ranks other candidates than the rest, as a supplied TREC run may; it has no agreement then.
        start: the same ranker before its training; None where that wasn't tested.
        cures: likely ones, should it rank badly.
        size: of its network, as the row's name has it; empty where it has none.
        scores: its scores of the candidates; None where it ranks others.
        fitted: what was fitted to its scores on validation; None without one.
    """

    row: str
    result: Result
    ranking: dict[str, list[str]]
    own_candidates: bool = False
    start: Result | None = None
    cures: Sequence[str] = ()
    size: str = ""
    scores: Ranking | None = None
    fitted: Fitted | None = None


class Fused(NamedTuple):
    """A row fused with the first stage.

    Attributes:
        weights: of the interpolation, of each seed.
        best: of each seed's ways the one that validation prefers.
        interpolation: mean nDCG@10 of the test over seeds and queries.
        rrf: the same of reciprocal rank fusion.
        interpolation_gain: interpolation less the row alone.
        rrf_gain: reciprocal rank fusion less the row alone.
    """

    weights: list[float]
    best: list[Fusion]
    interpolation: float
    rrf: float
    interpolation_gain: Difference
    rrf_gain: Difference


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        name: of the row.
        seeds: number of rankers in it.
        measures: mean over seeds by measure.
        spread: sample standard deviation over seeds by measure; empty with one seed.
        against_teacher: the row minus the teacher; None for the teacher itself, and without a teacher.
        against_baseline: the row minus the baseline; None for the baseline itself.
        tau: Kendall's tau with the teacher, mean over seeds; None for the teacher itself and where candidates differ.
        overlap: share of the first ten passages in common with the teacher; None as ``tau``.
        speed: of one ranker of the row, added once all are timed side by side; empty if none was.
        verdict: lines that say whether it was worth it, added then too; none for the first stage.
        size: of its rankers' networks, as the name has it; empty where it has none.
        leak: test queries that it was trained on, of several seeds the worst; None where that isn't known.
        depth: what each number of candidates brings; None for the first stage and where candidates differ.
        fusion: with the first stage; None where nothing was fitted.
        calibration: of one ranker of the row, as times are; None where no probability was fitted.
    """

    name: str
    seeds: int
    measures: dict[str, float]
    spread: dict[str, float]
    against_teacher: Difference | None
    against_baseline: Difference | None
    tau: float | None
    overlap: float | None
    speed: dict[str, float] = {}  # noqa: RUF012 - never written to
    verdict: Sequence[str] = ()
    size: str = ""
    leak: Leak | None = None
    depth: Depths | None = None
    fusion: Fused | None = None
    calibration: Calibration | None = None

    @property
    def shown(self) -> str:
        """Its name in tables and pictures, marked if it was trained on test queries."""
        return f"{self.name} (!)" if self.leak is not None and self.leak.queries else self.name


def compare(
    members: Sequence[Member], teacher: str | None, baseline: str, measure: str = "nDCG@10", seed: int = 0
) -> list[Row]:
    """Make the rows, in the order in which they first appear.

    Args:
        members: rankers tested on the same queries.
        teacher: name of the teacher's row; None if there is none. Of several seeds of a teacher, agreement is with each.
        baseline: name of the row that all others are compared with.
        measure: what is tested.
        seed: of the randomisation test.

    Raises:
        ValueError: for a name that is no row, a measure that wasn't computed, and rankers whose queries, measures or
            candidates differ.
    """
    rows: dict[str, list[Member]] = {}
    for member in members:
        rows.setdefault(member.row, []).append(member)
    _check(members, list(rows), teacher, baseline, measure)
    results = _results(rows)
    above = {} if teacher is None else _family(results, rows, teacher, measure, seed)
    beside = _family(results, rows, baseline, measure, seed)
    teachers = [] if teacher is None else rows[teacher]
    return [_row(results[name], row, above.get(name), beside.get(name), teachers) for name, row in rows.items()]


def judge(rows: Sequence[Row], members: Sequence[Member], first: str, teacher: str | None, seed: int = 0) -> list[Row]:
    """Add its verdict to every row but the first stage's.

    Args:
        rows: what ``compare`` made of the members, with their speed.
        members: as given to it.
        first: name of the first stage's row.
        teacher: name of the teacher's row; None if there is none.
        seed: of the randomisation tests.
    """
    belonging = {row.name: [member for member in members if member.row == row.name] for row in rows}
    speeds = {row.name: row.speed for row in rows}
    results = {name: one._replace(speed=speeds[name]) for name, one in _results(belonging).items()}
    judged = []
    for row in rows:
        starts = [member.start for member in belonging[row.name] if member.start is not None]
        start = average(starts, "its start") if len(starts) == row.seeds else None
        above = None if teacher in (None, row.name) else results[teacher]
        cures = belonging[row.name][0].cures
        lines = [] if row.name == first else verdict(results[first], results[row.name], above, start, cures, seed).lines
        judged.append(row._replace(verdict=lines))
    return judged


def add_fitted(rows: Sequence[Row], members: Sequence[Member], test: Split, seed: int = 0) -> list[Row]:
    """Add to each row what was fitted on validation, measured on the test; p values are Holm-adjusted over all of them.

    Args:
        rows: what ``compare`` made of the members.
        members: as given to it.
        test: its candidates and judgments; a member's scores take the place of ``own``.
        seed: of the randomisation tests.
    """
    added, tests = [], {}
    for row in rows:
        own = [one for one in members if one.row == row.name and one.fitted is not None and one.scores is not None]
        if not own or len(own) < row.seeds:
            added.append(row)
            continue
        splits = [test._replace(own=one.scores) for one in own]
        row = row._replace(calibration=calibration(own[0].fitted, splits[0]))
        fusions = [one.fitted.fusions for one in own]
        if None not in fusions:
            alone = average([one.result for one in own], row.name).values()
            ways = [fused_values(split, each.interpolation, Fusion(RRF)) for split, each in zip(splits, fusions, strict=True)]
            values = {}
            for name, of_seeds in zip(("interpolation", "rrf"), zip(*ways, strict=True), strict=True):
                values[name] = {query: fmean(one[query] for one in of_seeds) for query in alone}
                tests[row.name, name] = _difference(values[name], alone, test.topics, seed)
            found = {name: fmean(of.values()) for name, of in values.items()}
            gains = {f"{name}_gain": tests[row.name, name] for name in values}
            weights, best = [each.interpolation.weight for each in fusions], [each.best for each in fusions]
            row = row._replace(fusion=Fused(weights, best, **found, **gains))
        added.append(row)
    adjusted = holm({key: one.p_value for key, one in tests.items()})
    for place, row in enumerate(added):
        if row.fusion is not None:
            gains = {
                f"{name}_gain": tests[key, name]._replace(adjusted=adjusted[key, name])
                for key, name in tests
                if key == row.name
            }
            added[place] = row._replace(fusion=row.fusion._replace(**gains))
    return added


def harm_of_best(
    rows: Sequence[Row], members: Sequence[Member], teacher: str | None, test: Split, pairs: Callable[[Ranking], list[Pair]]
) -> Harm | None:
    """Look where the best student hurts, or the teacher where there is no other; of several seeds, the first one's order.

    Args:
        rows: what ``compare`` made of the members.
        members: as given to it, the first stage before all others.
        teacher: name of the teacher's row; None if there is none.
        test: its candidates and judgments.
        pairs: gives the texts of candidates.

    Returns:
        None where no row ranks the first stage's candidates.
    """
    first, *others = members
    able = {one.row: one for one in reversed(others) if one.scores is not None}
    best = max(
        (row for row in rows if row.name in able), key=lambda row: (row.name != teacher, row.measures[MAIN]), default=None
    )
    if best is None:
        return None
    result = average([one.result for one in others if one.row == best.name], best.name)
    above = able[teacher].ranking if teacher in able and teacher != best.name else None
    return find_harm(first.result, result, test.first, able[best.name].ranking, above, test.qrels, test.level, pairs)


DEPTH_SAMPLES = 10_000  # of the signs of a test between two depths: a row has up to a dozen


def add_depths(
    rows: Sequence[Row], members: Sequence[Member], qrels: Qrels, timing: Timing | None = None, seed: int = 0
) -> list[Row]:
    """Add to each row what every number of candidates brings, from the scores that are there, and say so in its verdict.

    Each depth is tested against the deepest, from the shallowest on until one isn't found worse: a fixed sequence needs no
    adjustment (Maurer, Hothorn & Lehmacher 1995). A decay may begin anywhere, and is Holm-adjusted over the depths of a row.

    Args:
        rows: what ``compare`` made of the members.
        members: as given to it, the first stage before all others.
        qrels: judgments of the queries.
        timing: content of ``latency.json``; None if nothing was timed.
        seed: of the randomisation tests.
    """
    first, *others = members
    wanted = depths(max(map(len, first.ranking.values()), default=1))
    topics = next((one.result.topics for one in members if one.result.topics is not None), None)
    measure, added = main_measure(qrels), []
    for row in rows:
        own = [member for member in others if member.row == row.name]
        if not own or any(member.own_candidates for member in own) or len(wanted) < 2:
            added.append(row)
            continue
        times = milliseconds(timing, row.name, wanted) or [None] * len(wanted)
        found = _depths([at_depths(first.ranking, one.ranking, wanted) for one in own], measure, times, topics, seed)
        added.append(row._replace(depth=found, verdict=[*row.verdict, f"{row.name}: {found.told()}"]))
    return added


def _depths(
    seeds: Sequence[Mapping[int, Orders]], measure: Callable[[Orders], dict[str, float]], times: Sequence[float | None],
    topics: dict[str, str] | None, seed: int,
) -> Depths:  # fmt: skip
    values = {}
    for depth in seeds[0]:
        of_seeds = [measure(one[depth]) for one in seeds]
        values[depth] = {query: fmean(one[query] for one in of_seeds) for query in of_seeds[0]}
    *shallow, last = values
    tests = {}  # at depth 1 the one against the first stage, whose p value the verdict has
    for depth in shallow:
        tests[depth] = randomisation_test(values[last], values[depth], DEPTH_SAMPLES if depth > 1 else SAMPLES, seed, topics)
    adjusted = holm({depth: test.p_value for depth, test in tests.items()})
    below = {depth: Difference(test.difference, test.p_value, adjusted[depth]) for depth, test in tests.items()}
    better = [depth for depth in shallow if adjusted[depth] < LEVEL and below[depth].difference < 0]
    means = {depth: fmean(row.values()) for depth, row in values.items()}
    points = [Depth(depth, means[depth], below.get(depth), ms) for depth, ms in zip(values, times, strict=True)]
    ends = next(depth for depth in values if depth == last or not tests[depth].found or below[depth].difference < 0)
    found = Depths(points, ends, max(better, key=means.__getitem__, default=None))
    if found.worth.below is not None:  # what it is said of; of all depths intervals would take longer than all tests
        seen = _difference(values[last], values[found.worth.candidates], topics, seed)
        below[found.worth.candidates] = found.worth.below._replace(interval=seen.interval, detectable=seen.detectable)
    return found._replace(points=[point._replace(below=below.get(point.candidates)) for point in points])


def check_names(names: Iterable[str], teacher: str | None, baseline: str) -> None:
    """Refuse to compare with a row that there isn't.

    Args:
        names: of the table's rows; repetitions don't matter.
        teacher: name of the teacher's row; None if there is none.
        baseline: name of the row that all others are compared with.

    Raises:
        ValueError: naming the key and the rows.
    """
    known = list(dict.fromkeys(names))
    for key, name in (("teacher", teacher), ("baseline", baseline)):
        if name is not None and name not in known:
            raise ValueError(f"against.{key}={name} is no row of the table. Its rows are: {', '.join(known)}.")


def _results(rows: Mapping[str, list[Member]]) -> dict[str, Result]:
    """Average each row over its seeds; all have the topics that one knows, for they are of the same queries."""
    results = {name: average([member.result for member in row], name) for name, row in rows.items()}
    topics = next((one.topics for one in results.values() if one.topics is not None), None)
    return {name: one._replace(topics=topics) for name, one in results.items()}


def _row(result: Result, row: list[Member], above: Difference | None, beside: Difference | None, teachers: list[Member]) -> Row:
    spread = {key: stdev(member.result.measures[key] for member in row) for key in result.measures} if len(row) > 1 else {}
    return Row(
        name=result.name,
        seeds=len(row),
        measures=result.measures,
        spread=spread,
        against_teacher=above,
        against_baseline=beside,
        tau=_agreement(row, teachers, kendall_tau),
        overlap=_agreement(row, teachers, overlap),
        size=row[0].size,
        leak=result.leak,
    )


def _family(
    results: Mapping[str, Result], rows: Mapping[str, Sequence[Member]], against: str, measure: str, seed: int
) -> dict[str, Difference]:
    base, found = results[against].values(measure), {}
    topics, seeds = results[against].topics, {name: [one.result.values(measure) for one in row] for name, row in rows.items()}
    for name, one in results.items():
        if name == against:
            continue
        random = over_seeds(seeds[name], seeds[against], topics)
        found[name] = _difference(one.values(measure), base, topics, seed)._replace(over_seeds=random)
    adjusted = holm({name: one.p_value for name, one in found.items()})
    return {name: one._replace(adjusted=adjusted[name]) for name, one in found.items()}


def _difference(values: dict[str, float], base: dict[str, float], topics: dict[str, str] | None, seed: int) -> Difference:
    """Test a difference, and say between which numbers it lies; nothing is adjusted yet."""
    test = randomisation_test(values, base, seed=seed, clusters=topics)
    units = unit_sums({query: value - base[query] for query, value in values.items()}, topics)
    return Difference(test.difference, test.p_value, test.p_value, bootstrap_interval([units], seed=seed), detectable(*units))


def _agreement(row: list[Member], teachers: list[Member], how: Callable[[Orders, Orders], float | None]) -> float | None:
    if not teachers or row is teachers or any(member.own_candidates for member in (*row, *teachers)):
        return None
    values = []
    for member in row:
        for teacher in teachers:
            try:
                values.append(how(member.ranking, teacher.ranking))
            except ValueError as error:
                raise ValueError(f"{member.row} and its teacher {teacher.row}: {error}") from None
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _check(members: Sequence[Member], names: list[str], teacher: str | None, baseline: str, measure: str) -> None:
    if not members:
        raise ValueError("there is no ranker to compare. Name run folders or export folders with models=<glob>.")
    check_names(names, teacher, baseline)
    first = members[0]
    if measure not in first.result.measures:
        raise ValueError(f"{measure} was not computed. Computed were: {_listed(first.result.measures)}.")
    for member in members[1:]:
        here, there = first.result.per_query.keys(), member.result.per_query.keys()
        if here != there:
            raise ValueError(
                f"{first.row} was tested on {len(here)} queries and {member.row} on {len(there)}; {len(here ^ there)} of them "
                f"are not in both. One table needs the same queries: test all with the same data.test settings."
            )
        if first.result.measures.keys() != member.result.measures.keys():
            raise ValueError(
                f"{first.row} has {_listed(first.result.measures)} and {member.row} {_listed(member.result.measures)}. "
                f"One table needs the same measures: test all with the same data.test_relevance_level."
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
