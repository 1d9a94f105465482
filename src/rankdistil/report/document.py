"""Report of a comparison: the wide table, ``report.md`` to read, ``report.json`` to compute with.

All columns in one table need about 180 characters. So columns come in blocks that belong together, and a terminal gets as
many tables as its width makes necessary, each opening with the rankers' names; Markdown gets one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from rankdistil.files import write_json, write_text
from rankdistil.metrics.comparing import LEVEL, POWER, RESAMPLES, describe_test, shown_p
from rankdistil.metrics.fitted import BINS, LEAST, Bin, Calibration, Precision
from rankdistil.metrics.ranking import MAIN
from rankdistil.report.comparison import DEPTH_SAMPLES, Row
from rankdistil.report.results import Timing, is_busy, time_columns, timing_notes
from rankdistil.report.several import Staged
from rankdistil.report.tables import Column, Section, names_column, paged, to_markdown
from rankdistil.report.verdict import Difference, Harm, shown_interval


def tables(rows: Sequence[Row], title: str, teacher: str | None, baseline: str, width: int = 120) -> list[Table]:
    """Build as few tables as fit into a width; together they hold every column.

    Args:
        rows: of the comparison.
        title: of the first table.
        teacher: name of its row; without one there is no agreement and no speed-up.
        baseline: name of its row.
        width: characters of a line. A block of columns wider than that is folded by rich.
    """
    names, *blocks = _blocks(rows, teacher, baseline)
    return paged(names, blocks, title, width)


def markdown(rows: Sequence[Row], teacher: str | None, baseline: str) -> str:
    """Give the table in Markdown, all columns in one."""
    return to_markdown(all_columns(rows, teacher, baseline))


def all_columns(rows: Sequence[Row], teacher: str | None, baseline: str) -> list[Column]:
    """Make the columns of the whole table."""
    return [column for block in _blocks(rows, teacher, baseline) for column in block]


def legend(
    rows: Sequence[Row],
    teacher: str | None,
    baseline: str,
    queries: int,
    topics: Mapping[str, str] | None,
    timing: Timing | None = None,
) -> list[str]:
    """Say how the numbers were made, one line for each kind of number in the table.

    Args:
        rows: of the comparison.
        teacher: name of its row, if there is one.
        baseline: name of its row.
        queries: number of queries tested.
        topics: query id -> topic, where the tests are made by topic.
        timing: content of ``latency.json``; None if nothing was timed.
    """
    columns = ["vs teacher"] * (teacher is not None) + [f"vs {baseline}"]
    whose = "each column's " if len(columns) > 1 else ""
    tests = f"{len(rows) - 1} comparison{'s' * (len(rows) != 2)}"
    leaks = [f"{row.shown}: TRAINED ON {row.leak.told()}" for row in rows if row.shown != row.name]
    lines = [
        f"{', '.join(columns)}: difference in {MAIN}; p: {describe_test(queries, topics)}, Holm-adjusted over {whose}{tests}"
    ]
    if any(row.spread for row in rows):
        lines.append("±: sample standard deviation over seeds; tests take each query's mean over seeds")
    lines.append("p in a verdict: of each test by itself, not adjusted")
    if teacher is not None:
        lines.append(
            f"tau, top-10: agreement with {teacher} on the same candidates: Kendall's tau of the whole order, and the share of "
            f"its first ten passages found in the ranker's first ten; means over queries"
        )
    if timing is not None:
        lines += timing_notes(timing)
        if teacher is not None and not is_busy(timing):
            lines.append("speed-up: the teacher's ms / query over the ranker's own")
    return [*leaks, *lines]


def difference_section(rows: Sequence[Row], teacher: str | None, baseline: str) -> list[Section]:
    """Make the table of differences with their intervals and what the tests could have seen; none of one row alone."""
    pairs = [(row, name, test) for name, key in ((teacher, "against_teacher"), (baseline, "against_baseline")) if name
             for row in rows if (test := getattr(row, key)) is not None]  # fmt: skip
    if not pairs:
        return []
    names = names_column("difference", [f"{row.shown} - {name}" for row, name, _ in pairs])
    columns = [
        names,
        Column(MAIN, [f"{test.difference:+.4f}" for *_, test in pairs]),
        Column("95 % interval", ["-" if test.interval is None else shown_interval(test.interval) for *_, test in pairs]),
        Column("p", [shown_p(test.p_value)[2:] for *_, test in pairs]),
        Column("Holm", [shown_p(test.adjusted)[2:] for *_, test in pairs]),
        Column("detectable", ["-" if test.detectable is None else f"{test.detectable:.4f}" for *_, test in pairs]),
    ]
    notes = [
        f"95 % interval: bootstrap (BCa, {RESAMPLES} samples) of what the tests take for independent; of a few tens it is too "
        f"short: where it leaves 0 out and p is above {LEVEL:g}, go by p",
        f"detectable: the smallest true difference that such a test alone finds with a probability of {POWER:.0%}; a "
        "smaller one may be there unseen",
    ]
    if any(test.over_seeds is not None for *_, test in pairs):
        values = ["-" if test.over_seeds is None else shown_p(test.over_seeds)[2:] for *_, test in pairs]
        columns.append(Column("p, other seeds", values))
        notes.append("p, other seeds: t-test with questions and seeds as random effects: would trainings with other seeds show "
                     "it, too? Not adjusted")  # fmt: skip
    return [Section("Differences", columns, notes)]


def depth_section(rows: Sequence[Row]) -> list[Section]:
    """Make the table of quality and time by the number of candidates; none where no row has one."""
    known = [row for row in rows if row.depth is not None]
    if not known:
        return []
    columns = [names_column("ranker", [row.shown for row in known])]
    for number, point in enumerate(known[0].depth.points):
        points = [row.depth.points[number] for row in known]
        times = ["" if one.ms is None else f" ({one.ms:.0f} ms)" for one in points]
        columns.append(Column(f"{point.candidates}", [f"{one.value:.4f}{ms}" for one, ms in zip(points, times, strict=True)]))
    columns.append(Column("no gain\nfound from", [f"{row.depth.ends}" for row in known]))
    notes = [
        f"{MAIN} if only so many candidates are re-ranked and the others follow as the first stage has them, from the same "
        "scores"
        + ("; ms: in proportion to what was timed" if any(row.depth.points[0].ms is not None for row in known) else ""),
        f"no gain found from: the first depth that isn't found worse than the deepest (randomisation tests in turn, "
        f"{DEPTH_SAMPLES} samples); there may still be a gain that these tests can't see",
    ]
    if any(row.depth.peak is not None for row in known):
        columns.append(Column("decays from", ["-" if row.depth.peak is None else f"{row.depth.peak}" for row in known]))
        notes.append("decays from: the best depth that is found better than the deepest (Holm-adjusted over a row's depths)")
    return [Section("Depth", columns, notes)]


def fusion_section(rows: Sequence[Row]) -> list[Section]:
    """Make the table of fusions with the first stage; none where nothing was fitted."""
    known = [(row, row.fusion) for row in rows if row.fusion is not None]
    if not known:
        return []
    columns = [
        names_column("ranker", [row.shown for row, _ in known]),
        Column("alone", [_value(row, MAIN) for row, _ in known]),
        Column("weight", [_range(one.weights) for _, one in known]),
        Column("interpolation", [f"{one.interpolation:.4f}" for _, one in known]),
        Column("vs alone", [_difference(one.interpolation_gain) for _, one in known]),
        Column("RRF", [f"{one.rrf:.4f}" for _, one in known]),
        Column("vs alone", [_difference(one.rrf_gain) for _, one in known]),
    ]
    notes = [
        f"{MAIN} of the test; interpolation: weight times the ranker's score plus the rest times the first stage's, each from "
        "0 to 1 among a query's candidates, the weight chosen on validation; RRF: reciprocal rank fusion, of ranks alone",
        f"p: randomisation test as above, Holm-adjusted over {2 * len(known)} comparisons",
    ]
    return [Section("Fusion with the first stage", columns, notes)]


def calibration_sections(found: Mapping[str, Calibration]) -> list[Section]:
    """Make the tables of probabilities and of how they hold, by ranker; none where none was fitted."""
    if not found:
        return []
    known = list(found.items())
    wished, names = known[0][1].wished, names_column("ranker", list(found))
    columns = [
        names,
        Column("probability", [f"sigmoid({one.platt.slope:.3g} score {one.platt.offset:+.3g})" for _, one in known], text=True),
        Column("ECE", [f"{one.error:.4f}" for _, one in known]),
        Column("ECE of the\nplain sigmoid", [f"{one.plain_error:.4f}" for _, one in known]),
    ]
    without = [name for name, one in known if one.threshold is None]
    falling = [name for name, one in known if one.platt.falls]
    lost = [name for name in without if name not in falling]
    notes = [
        "probability that a pair is judged relevant: Platt's fit to validation; what nobody judged counts as not relevant",
        f"ECE: expected calibration error on the test, {BINS} bins of equal width, mean over pairs, so that the fullest bins "
        "decide; beside it that of the score's plain sigmoid",
    ]
    if falling:
        notes.append(
            f"{', '.join(falling)}: a higher score is not a sign of relevance here: the fitted probability falls as the score "
            "rises, so there is no threshold"
        )
    if len(without) < len(known):
        columns += [
            Column("threshold", ["none" if one.threshold is None else f"{one.threshold.score:.3g}" for _, one in known]),
            Column("precision on\nvalidation", [_precision(one.threshold and one.threshold.valid) for _, one in known]),
            Column("precision on\nthe test", [_precision(one.test) for _, one in known]),
        ]
        notes.append(
            f"threshold: the lowest score from which on {wished:.0%} of the validation's pairs are relevant (precision=...); "
            "precision: the share that is, there and on the test, with its 95 % interval, pairs, and the share of all relevant "
            "pairs among them"
        )
    if lost:
        which = "no ranker has" if len(lost) == len(known) else f"{', '.join(lost)}: not"
        notes.append(
            f"no clean separation at {wished:.0%} (precision=...): {which} a score from which on so many of the validation's "
            f"pairs, {LEAST} at least, are relevant"
        )
    bins = [names]
    for number in range(BINS):
        held = [next((one for one in each.bins if _place(one) == number), None) for _, each in known]
        cells = ["-" if one is None else f"{one.relevant:.3f} ({one.pairs})" for one in held]
        if any(held):
            bins.append(Column(f"to {(number + 1) / BINS:.1f}", cells))
    told = ["share of the test's pairs that is relevant, and how many there are, by their probability"]
    return [Section("Probability of relevance", columns, notes), Section("Reliability", bins, told)]


SHOWN = 10  # queries and passages of each kind; report.json has all
CHARACTERS = 240  # of a passage


def harm_section(harm: Harm | None) -> list[Section]:
    """Make the chapter on where a ranker hurts; none without one."""
    if harm is None:
        return []
    columns = [
        names_column("queries", [group.name for group in harm.groups]),
        Column("number", [f"{group.queries}" for group in harm.groups]),
        Column("worse", [f"{group.worse} ({group.worse / group.queries:.0%})" for group in harm.groups]),
        Column("better", [f"{group.better} ({group.better / group.queries:.0%})" for group in harm.groups]),
        Column(f"change of {MAIN}", [f"{group.change:+.4f}" for group in harm.groups]),
    ]
    notes = [
        f"of {harm.ranker}, against the first stage; {len(harm.queries)} queries got worse, the worst of them (answer: the "
        "candidate of the highest grade; of several the first stage's first):"
    ]
    notes += [
        f"{one.query!r} ({one.query_id}): {one.before:.4f} -> {one.after:.4f}; the answer went from place {one.places[0]} to "
        f"{one.places[1]}: {_cut(one.answer)!r}; first is now, from place {one.raised_from}: {_cut(one.raised)!r}"
        for one in harm.queries[:SHOWN]
    ]
    if harm.suspects is not None:
        unjudged = sum(not one.judged for one in harm.suspects)
        notes.append(
            f"answers that judgments may have missed: for {len(harm.suspects)} queries teacher and ranker put the same passage "
            f"first, and it isn't judged relevant ({unjudged} of them nobody judged). Look at these before trusting a loss:"
        )
        notes += [
            f"{one.query!r} ({one.query_id}), {one.passage_id}, {'' if one.judged else 'not '}judged: {_cut(one.passage)!r}"
            for one in harm.suspects[:SHOWN]
        ]
    return [Section("Where it hurts", columns, notes)]


def harm_note(harm: Harm | None) -> list[str]:
    """Say in a line how many queries a ranker hurts."""
    if harm is None:
        return []
    worse, queries = len(harm.queries), sum(group.queries for group in harm.groups if group.name.startswith("query of"))
    return [f"where it hurts: {harm.ranker} answers {worse} of {queries} queries worse than the first stage did: see report.md"]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}..."


def _place(one: Bin) -> int:
    return min(int(one.predicted * BINS), BINS - 1)


def _precision(found: Precision | None) -> str:
    if found is None:
        return "-"
    low, high = found.interval or (0.0, 1.0)
    return f"{found.share:.3f} ({low:.3f} .. {high:.3f}), {found.pairs} pairs, {found.recall:.0%}"


def _range(numbers: Sequence[float]) -> str:
    return " .. ".join(f"{number:g}" for number in sorted({min(numbers), max(numbers)}))


def _blocks(rows: Sequence[Row], teacher: str | None, baseline: str) -> list[list[Column]]:
    base = next((row.speed for row in rows if row.name == teacher), {})
    quality = [Column("seeds", [str(row.seeds) for row in rows])]
    quality += [Column(name, [_value(row, name) for row in rows]) for name in rows[0].measures]
    versus = [Column(f"vs {baseline}", [_difference(row.against_baseline) for row in rows])]
    agreement = []
    timing = time_columns([row.speed for row in rows], None if teacher is None else base)
    if teacher is not None:
        versus.insert(0, Column("vs teacher", [_difference(row.against_teacher) for row in rows]))
        agreement.append(Column("tau", ["-" if row.tau is None else f"{row.tau:.3f}" for row in rows]))
        agreement.append(Column("top-10", ["-" if row.overlap is None else f"{row.overlap:.3f}" for row in rows]))
    names = [names_column("ranker", [row.shown for row in rows])]
    if any(row.shown != row.name for row in rows):
        names.append(Column("trained on", [_leaked(row) for row in rows]))
    return [names, quality, versus, agreement, timing]


def _leaked(row: Row) -> str:
    return "-" if row.leak is None else f"{row.leak.queries} of {row.leak.of}"


def _value(row: Row, name: str) -> str:
    return f"{row.measures[name]:.4f}" + (f" ±{row.spread[name]:.4f}" if row.spread else "")


def _difference(test: Difference | None) -> str:
    if test is None:
        return "-"
    return f"{test.difference:+.4f} ({shown_p(test.adjusted)})"


def write_report(
    folder: Path, rows: Sequence[Row], teacher: str | None, baseline: str, title: str, notes: Sequence[str],
    setup: Mapping[str, Any] | None, origin: Mapping[str, Any], sources: Mapping[str, Sequence[str]],
    pictures: Sequence[Path] = (), times: Sequence[Column] = (), sections: Sequence[Section] = (), harm: Harm | None = None,
    first_stages: Sequence[Staged] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write ``report.md`` and ``report.json``, each in one step.

    Args:
        folder: where the files go.
        rows: of the comparison.
        teacher: name of its row, if there is one.
        baseline: name of its row.
        title: what was ranked.
        notes: the table's legend.
        setup: ``setup`` of ``latency.json``; None if nothing was timed.
        origin: commit, versions, device and threads, as ``rankdistil.runs.record.origin`` gives them.
        sources: for each row's name the folders or commands that its rankers come from.
        pictures: files in the folder, shown in ``report.md`` if they are PNG.
        times: columns of a second table, of inference time; none if the first says it all.
        sections: what follows the verdicts.
        harm: where the best row hurts, for the numbers.
        first_stages: what the rows are on each of several first stages, for the numbers.

    Returns:
        The content of ``report.json``.

    Raises:
        ValueError: for a row without a source, or a number that is NaN.
    """
    unknown = [row.name for row in rows if not sources.get(row.name)]
    if unknown:
        raise ValueError(f"no source is given for {', '.join(unknown)}. A report says where every row comes from.")
    written = datetime.now().isoformat(sep=" ", timespec="seconds")
    content = {
        "title": title, "written": written, "origin": dict(origin), "setup": None if setup is None else dict(setup),
        "teacher": teacher, "baseline": baseline,
        "rows": [_plain(row) | {"sources": list(sources[row.name])} for row in rows],
        "notes": list(notes), "harm": _plain(harm), "first_stages": _plain(first_stages),
    }  # fmt: skip
    text = f"# {title}\n\nWritten {written}, commit {origin['commit']}, on {origin['device']}, {origin['threads']} threads.\n\n"
    text += markdown(rows, teacher, baseline) + "\n" + "".join(f"- {note}\n" for note in notes)
    text += f"\n{to_markdown(times)}" if times else ""
    judged = "".join(f"- {line}\n" for row in rows for line in row.verdict)
    text += f"\n## Verdicts\n\n{judged}" if judged else ""
    text += "".join(section.markdown() for section in sections)
    text += "".join(f"\n![{file.stem}]({file.name})\n" for file in pictures if file.suffix == ".png")
    text += "\n## Where the rows come from\n\n"
    text += "".join(f"- {row.name}: {', '.join(f'`{source}`' for source in sources[row.name])}\n" for row in rows)
    write_json(folder / "report.json", content)
    write_text(folder / "report.md", text)
    return content


def _plain(value: Any) -> Any:
    """Give tuples with named fields as objects, at any depth."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
