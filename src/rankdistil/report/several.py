"""Several first stages in one table, and several collections in another, with the mean over them.

A ranker may gain much on BM25's candidates and nothing on those of a better first stage, so the gain is told for each. Over
collections the mean is that of their means, as benchmarks of many collections report it: each counts alike, however many
queries it has. The test of such a mean draws signs by query or topic, and weighs a query by its share in its collection's mean.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rankdistil.data.batches.datamodule import RerankingTask
from rankdistil.files import write_json, write_text
from rankdistil.metrics.comparing import Comparison, bootstrap_interval, holm, randomisation_test, shown_p, unit_sums
from rankdistil.metrics.ranking import MAIN
from rankdistil.report.comparison import Member, Row, compare
from rankdistil.report.results import Result, average
from rankdistil.report.tables import Column, Section, names_column, to_markdown
from rankdistil.report.verdict import Difference, shown_interval
from rankdistil.runs.entries import Entry


class Compared(NamedTuple):
    """Rankers on the candidates of one first stage.

    Attributes:
        task: with the candidates.
        entries: the rankers, but for a run file that is the first stage itself.
        members: the first stage, then they.
        teacher: name of its row, if there is one.
        baseline: name of the row that all are compared with.
        rows: of the table.
    """

    task: RerankingTask
    entries: list[Entry]
    members: list[Member]
    teacher: str | None
    baseline: str
    rows: list[Row]


class Staged(NamedTuple):
    """What rankers make of one first stage.

    Attributes:
        name: of the first stage.
        measures: of its own order.
        rows: of the rankers, with their depth and fusion on it; the first is its own.
        gains: by row, the ranker less the first stage; only of rows that re-rank its candidates.
    """

    name: str
    measures: dict[str, float]
    rows: list[Row]
    gains: dict[str, Difference]


def coverage_notes(tasks: Sequence[RerankingTask]) -> list[str]:
    """Say which first stages lack candidates for queries: there any ranker's gain is 0."""
    counts = [(task, sum(map(bool, task.candidates.values()))) for task in tasks]
    return [
        f"{task.first_stage}: {count} of {len(task.qrels)} judged queries have candidates; the others count as 0."
        for task, count in counts
        if count < len(task.qrels)
    ]


def staged(one: Compared, seed: int = 0) -> Staged:
    """Take the gains over the first stage out of a comparison."""
    first = one.members[0].row
    rows = one.rows if one.baseline == first else compare(one.members, None, first, seed=seed)
    own = {member.row for member in one.members[1:] if not member.own_candidates}
    gains = {row.name: row.against_baseline for row in rows if row.name in own}
    return Staged(first, one.rows[0].measures, one.rows, gains)


def adjusted(staged: Sequence[Staged]) -> list[Staged]:
    """Adjust the gains by Holm over all rankers and first stages: they are one family, of one table."""
    found = holm({(one.name, row): gain.p_value for one in staged for row, gain in one.gains.items()})
    return [
        one._replace(gains={row: gain._replace(adjusted=found[one.name, row]) for row, gain in one.gains.items()})
        for one in staged
    ]


def first_stages_section(staged: Sequence[Staged]) -> list[Section]:
    """Make the table of gains by first stage; none of a single one."""
    if len(staged) < 2:
        return []
    names = list(dict.fromkeys(row for one in staged for row in one.gains))
    rows = [{row.name: row for row in one.rows} for one in staged]
    shown = {name: row.shown for of in rows for name, row in of.items()}
    columns = [names_column("ranker", ["first stage alone", *(shown[name] for name in names)])]
    for one, of in zip(staged, rows, strict=True):
        own = [of[name] if name in one.gains else None for name in names]
        alone = f"{one.measures[MAIN]:.4f}"
        columns.append(Column(one.name, [alone, *("-" if row is None else f"{row.measures[MAIN]:.4f}" for row in own)]))
        columns.append(Column("gain", ["-", *(_gain(one.gains.get(name)) for name in names)]))
        ends = ["-" if row is None or row.depth is None else f"{row.depth.worth.candidates}" for row in own]
        if any(end != "-" for end in ends):
            columns.append(Column("worth\nre-ranking", ["-", *ends]))
    notes = [
        f"{MAIN} of each ranker on the candidates of each first stage; a pair that several have was scored once",
        "gain: ranker less first stage; p: randomisation test as above, Holm-adjusted over "
        f"{sum(len(one.gains) for one in staged)} gains",
        "worth re-ranking: candidates, as the verdict on depth says",
        f"all else in this report is on the candidates of {staged[0].name}; report.json has each first stage's rows",
    ]
    if any(row.fusion is not None for one in staged for row in one.rows):
        notes.append(
            "fusion weights come from each run's own validation and its first stage, on other scores maybe: RRF needs none"
        )
    return [Section("First stages", columns, notes)]


class Collected(NamedTuple):
    """One collection, tested.

    Attributes:
        folder: with its own report, below the one of all.
        title: what was tested.
        first_stage: name of the first stage's row.
        rows: of its table.
        results: by row, with the values of each query, mean over seeds.
    """

    folder: str
    title: str
    first_stage: str
    rows: list[Row]
    results: dict[str, Result]


def collected(one: Compared, folder: str) -> Collected:
    """Take out of a comparison what the table over collections needs."""
    belonging = {row.name: [member.result for member in one.members if member.row == row.name] for row in one.rows}
    results = {name: average(members, name) for name, members in belonging.items()}
    return Collected(folder, f"{one.task.name}, {len(one.task.qrels)} queries", one.members[0].row, one.rows, results)


class Mean(NamedTuple):
    """A row over several collections.

    Attributes:
        name: of the row; ``first stage`` where each collection has another one.
        values: nDCG@10 by collection, of those that have the row.
        measures: all of them, by collection.
        mean: of the values; None where one of the collections lacks the row.
        gain: of the mean, over that of the first stages; None for them, and without a mean.
        leaked: collections of which it was trained on test queries.
    """

    name: str
    values: dict[str, float]
    measures: dict[str, dict[str, float]]
    mean: float | None
    gain: Difference | None
    leaked: list[str]


FIRST = "first stage"


def over_collections(found: Mapping[str, Collected], seed: int = 0) -> list[Mean]:
    """Make the rows over collections; the first stages share the first one.

    Args:
        found: by name.
        seed: of the randomisation tests.
    """
    firsts = {one.first_stage for one in found.values()}
    first = firsts.pop() if len(firsts) == 1 else FIRST
    results = {name: {first: one.results[one.first_stage]} | one.results for name, one in found.items()}
    names = [first, *dict.fromkeys(row for one in found.values() for row in one.results if row != one.first_stage)]
    rows, tests, intervals = [], {}, {}
    for row in names:
        there = {name: of[row] for name, of in results.items() if row in of}
        measures = {name: one.measures for name, one in there.items()}
        values = {name: of[MAIN] for name, of in measures.items()}
        whole = len(there) == len(found)
        leaked = [name for name, one in there.items() if one.leak is not None and one.leak.queries]
        if whole and row != first:
            against = {name: of[first] for name, of in results.items()}
            tests[row], intervals[row] = mean_test(there, against, seed), mean_interval(there, against, seed)
        rows.append(Mean(row, values, measures, fmean(values.values()) if whole else None, None, leaked))
    corrected = holm({row: test.p_value for row, test in tests.items()})
    gains = {row: Difference(test.difference, test.p_value, corrected[row], intervals[row]) for row, test in tests.items()}
    return [row._replace(gain=gains.get(row.name)) for row in rows]


def mean_test(a: Mapping[str, Result], b: Mapping[str, Result], seed: int = 0) -> Comparison:
    """Test the difference of two means over collections; signs are drawn by query, or by topic where topics are known.

    Args:
        a: by collection.
        b: on the same queries of the same collections.
        seed: of the test.
    """
    whole, sides, units = sum(len(one.per_query) for one in a.values()), ({}, {}), {}
    for name, one in a.items():
        weight = whole / (len(a) * len(one.per_query))
        topics = _topics(one, b[name])
        for query in one.per_query:
            units[f"{name}\t{query}"] = f"{name}\t{query if topics is None else topics[query]}"
        for side, result in zip(sides, (one, b[name]), strict=True):
            side.update({f"{name}\t{query}": value * weight for query, value in result.values().items()})
    return randomisation_test(*sides, seed=seed, clusters=units)


def mean_interval(a: Mapping[str, Result], b: Mapping[str, Result], seed: int = 0) -> tuple[float, float] | None:
    """Give the 95 % interval of the difference that ``mean_test`` tests: queries or topics are drawn within each collection."""
    gaps = []
    for name, one in a.items():
        base = b[name].values()
        gaps.append(unit_sums({query: value - base[query] for query, value in one.values().items()}, _topics(one, b[name])))
    return bootstrap_interval(gaps, seed=seed)


def _topics(own: Result, other: Result) -> Mapping[str, str] | None:
    return other.topics or own.topics


def collections_section(rows: Sequence[Mean], found: Mapping[str, Collected], failed: Mapping[str, str]) -> Section:
    """Make the table of all collections.

    Args:
        rows: see ``over_collections``.
        found: by name.
        failed: why the others have no column, by name.
    """
    tests = sum(row.gain is not None for row in rows)
    columns = [
        names_column("ranker", [f"{row.name} (!)" if row.leaked else row.name for row in rows]),
        Column("mean", ["-" if row.mean is None else f"{row.mean:.4f}" for row in rows]),
        Column(f"vs {rows[0].name}", [_gain(row.gain) for row in rows]),
        Column("95 % interval", ["-" if row.gain is None or row.gain.interval is None else shown_interval(row.gain.interval)
                                 for row in rows]),
    ]  # fmt: skip
    for name in found:
        cells = [f"{row.values[name]:.4f}" + " (!)" * (name in row.leaked) if name in row.values else "-" for row in rows]
        columns.append(Column(name, cells))
    units = "query, or by topic where topics are known" if any(_has_topics(one) for one in found.values()) else "query"
    notes = [f"mean: of the {len(found)} collections' {MAIN}, each counting alike"]
    if tests:
        notes.append(
            f"vs {rows[0].name}: difference of the means; p: paired randomisation test by {units}, Holm-adjusted over {tests} "
            f"comparison{'s' * (tests > 1)}"
        )
        notes.append("95 % interval: bootstrap (BCa) of that difference; queries, or topics, are drawn within each collection")
    notes += [f"FAILED, and not in the mean: {name}: {told}" for name, told in failed.items()]
    if any(row.leaked for row in rows):
        notes.append("(!): trained on test queries of the collection; its report says how many")
    return Section(f"{MAIN} on {len(found)} collections", columns, notes)


def write_collections(
    folder: Path, section: Section, rows: Sequence[Mean], found: Mapping[str, Collected], failed: Mapping[str, str],
    origin: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write ``collections.md`` and ``collections.json``, each in one step.

    Args:
        folder: where the files go, beside the collections' own folders.
        section: see ``collections_section``.
        rows: see ``over_collections``.
        found: by name.
        failed: by name, why.
        origin: as ``rankdistil.runs.record.origin`` gives it.
    """
    written = datetime.now().isoformat(sep=" ", timespec="seconds")
    content = {
        "title": section.title, "written": written, "origin": dict(origin),
        "collections": [
            {"name": name, "folder": one.folder, "title": one.title, "first_stage": one.first_stage,
             "queries": len(one.results[one.first_stage].per_query)}
            for name, one in found.items()
        ],
        "failed": dict(failed),
        "rows": [row._asdict() | {"gain": None if row.gain is None else row.gain._asdict()} for row in rows],
        "notes": list(section.notes),
    }  # fmt: skip
    machine = f"on {origin['device']}, {origin['threads']} threads"
    text = f"# {section.title}\n\nWritten {written}, commit {origin['commit']}, {machine}.\n\n"
    text += f"{to_markdown(section.columns)}\n" + "".join(f"- {note}\n" for note in section.notes)
    text += "\n## Each collection\n\n"
    text += "".join(f"- [{name}]({one.folder}/report.md): {one.title}, {one.first_stage}\n" for name, one in found.items())
    write_json(folder / "collections.json", content)
    write_text(folder / "collections.md", text)


def _has_topics(one: Collected) -> bool:
    return any(result.topics is not None for result in one.results.values())


def _gain(test: Difference | None) -> str:
    return "-" if test is None else f"{test.difference:+.4f} ({shown_p(test.adjusted)})"
