"""The command ``evaluate.py``: finished rankers compared in one table, one plot, one folder."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from rankdistil.cli import console, describe, full_disk
from rankdistil.config.checks import check_data, check_evaluation
from rankdistil.config.choices import collections, named_tests, of_collection, refuse_beside, without_default
from rankdistil.config.schema import listed, plain
from rankdistil.data.batches.datamodule import RankingDataModule, RerankingTask, pooled
from rankdistil.data.collections.reader import is_ordered, require_used
from rankdistil.files import filled, write_json
from rankdistil.inference.stopwatch import Processes, Timed, TimingSettings, time_rankers, wanted_queries
from rankdistil.metrics.fitted import Fitted, Split
from rankdistil.metrics.ranking import MAIN
from rankdistil.models.checkpoints import load_tokenizer, read_config
from rankdistil.models.families import max_positions
from rankdistil.planning.plan import what_is_tested
from rankdistil.planning.unread import unread_by_test
from rankdistil.processes import ranks
from rankdistil.report.comparison import add_depths, add_fitted, check_names, compare, harm_of_best, judge
from rankdistil.report.document import (
    all_columns,
    calibration_sections,
    depth_section,
    difference_section,
    fusion_section,
    harm_note,
    harm_section,
    legend,
    markdown,
    tables,
    write_report,
)
from rankdistil.report.frontier import draw_depths, draw_frontier, draw_reliability
from rankdistil.report.page import by_query, write_page
from rankdistil.report.results import Timing, is_busy, measured_row, speed, speed_columns, timing_notes
from rankdistil.report.run import data_notes
from rankdistil.report.several import (
    Collected,
    Compared,
    Staged,
    adjusted,
    collected,
    collections_section,
    coverage_notes,
    first_stages_section,
    over_collections,
    staged,
    write_collections,
)
from rankdistil.report.tables import Section, print_plain, to_markdown, to_table
from rankdistil.report.verdict import Harm, depth_note
from rankdistil.runs.entries import Entry, find_entries, in_windows, told_windows, windows_of
from rankdistil.runs.record import origin, run_config
from rankdistil.stages import data as run_data
from rankdistil.stages import test as stage_test
from rankdistil.stages.test import (
    find_split,
    first_stage_member,
    fit_members,
    read_member,
    read_ranking,
    unknown_training,
    without_first_stage,
)
from rankdistil.stages.train import log_table, quieten
from rankdistil.words import key_of


class Models(NamedTuple):
    """What is compared, on each collection.

    Attributes:
        entries: runs, exports and run files.
        notes: what finding them told.
        timing: what is timed; None where nothing is, or once it was.
        fitted: what was fitted to each run's validation, or why nothing was; by label, added to.
        several: whether there are several collections; a run file that ranks no query of one is no row of it then.
    """

    entries: list[Entry]
    notes: list[str]
    timing: TimingSettings | None
    fitted: dict[str, Fitted | str]
    several: bool


class Done(NamedTuple):
    """What became of a collection. Attributes: first: on its first first stage; pictures: drawn; used: runs of candidates."""

    first: Compared
    pictures: list[Path]
    used: list[str | None]


def evaluate(cfg: DictConfig) -> None:
    """Compare finished rankers with each other, the teacher and the first stage; on one collection, or on several.

    Raises:
        FileNotFoundError: if a model isn't there.
        ValueError: if models were tested on different queries, or can't rank, or one of several collections failed.
    """
    check_evaluation(cfg)
    quieten()
    ranks.require_alone(cfg.trainer)
    out, job = Path(cfg.paths.evaluations, cfg.folder), HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        out /= str(job.job.num)
    with filled(out):
        timing = run_data.timing_settings(cfg)
        entries, notes = find_entries(plain(cfg.models) if isinstance(cfg.models, ListConfig) else [str(cfg.models)])
        print_plain(console(), notes)
        entries = in_windows(entries, plain(cfg.windows))
        tests = _tests(cfg, entries)
        models = Models(entries, notes, timing, {}, len(tests) > 1)
        if models.several:
            failed = _test_each(cfg, models, tests, out)
        else:
            failed, done = {}, _test(cfg, models, *tests.values(), out)
            one = done.first
            told = {f"test/{row.name}/{name}": value for row in one.rows for name, value in row.measures.items()}
            log_table(cfg, markdown(one.rows, one.teacher, one.baseline), told, done.pictures, out)
    if failed:
        told = "".join(f"\n  {name}: {message}" for name, message in failed.items())
        raise ValueError(f"{len(failed)} of {len(tests)} collections failed; {out} has what the others gave:{told}")


def _test_each(cfg: DictConfig, models: Models, tests: Mapping[str, DictConfig], out: Path) -> dict[str, str]:
    """Test on several collections, each into a folder of its own, and tell all in one table; return why some failed."""
    screen, kinds = console(), {name: of_collection(settings.data) for name, settings in tests.items()}
    left, used = Counter(kinds.values()), defaultdict(list)
    found: dict[str, Collected] = {}
    failed: dict[str, str] = {}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        left[kind] -= 1
        print_plain(screen, ["", f"collection {number} of {len(tests)}: {name}"])
        place = out / f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.')}"
        try:
            with filled(place):
                done = _test(cfg, models, tests[name], place, None if left[kind] else used[kind])
        except (OSError, RuntimeError, ValueError) as error:
            if full_disk(error) is not None:
                raise
            failed[name], used[kind] = describe(error, "evaluate"), None
            print_plain(screen, [f"{name} FAILED: {failed[name]}"])
            continue
        found[name] = collected(done.first, place.name)
        used[kind] = None if used[kind] is None else [*used[kind], *done.used]
        if (place / "latency.json").is_file():
            models = models._replace(timing=None)  # one collection's texts will do
    if not found:
        raise ValueError("all collections failed:" + "".join(f"\n  {name}: {told}" for name, told in failed.items()))
    rows = over_collections(found, cfg.seed)
    section = collections_section(rows, found, failed)
    for table in section.tables(screen.width):
        screen.print(table)
        screen.print()
    write_collections(out, section, rows, found, failed, origin())
    print_plain(
        screen, [*section.notes, "", f"files: {out}/  collections.md  collections.json  and a folder of each collection"]
    )
    measured = {f"{name}/{row.name}/{MAIN}": value for row in rows for name, value in row.values.items()}
    log_table(cfg, to_markdown(section.columns), measured, [], out)
    return failed


def _test(cfg: DictConfig, models: Models, settings: DictConfig, out: Path, before: Sequence[str | None] | None = ()) -> Done:
    """Compare the models on one collection, on the candidates of each first stage, and report that.

    ``before`` holds runs that other splits of it used; None leaves it to a later split to see that all are used.
    """
    screen, notes = console(), [*models.notes]
    run_data.fetch_data(settings, train=False)
    data = run_data.build_data(settings, *_tokens(models.entries), cfg.seed, train=False)
    chosen = cfg.collections or "candidates" in (cfg.get("data") or ())  # else they are those that the run was tested on
    named = listed(settings.data.candidates) if chosen else []
    tasks, used = run_data.first_stages(data, named)
    if before is not None:
        require_used(named, [*before, *used])
    print_plain(screen, data_notes(data.account()))
    pool = pooled(tasks) if len(tasks) > 1 else None
    firsts = [first_stage_member(task, settings.data.test_relevance_level) for task in tasks]
    entries, told = without_first_stage(models.entries, firsts[0], settings)
    teacher, baseline = _against(cfg, entries, firsts[0].row)
    if models.several:
        asked, every = tasks[0].qrels.keys(), entries
        entries = [one for one in every if one.kind != "ranking" or not asked.isdisjoint(read_ranking(one, settings))]
        told += [f"left out: {one.path} ranks none of the queries of {tasks[0].name}." for one in every if one not in entries]
    told += coverage_notes(tasks[1:])
    print_plain(screen, told)
    notes += told
    ranked = [entries, *(without_first_stage(entries, first, settings)[0] for first in firsts[1:])]  # refused before the work
    read = {entry.label: _settings_of(cfg, entry, settings) for entry in models.entries}
    windows = {label: plain(one.data.windows) for label, one in read.items()}
    for entry in models.entries:
        if entry.kind != "ranking" and windows[entry.label] is not None:
            run_data.build_encoder(read[entry.label].data, *_tokens([entry]))  # those that don't fit are refused first
    folders = {entry.label: _tested(cfg, entry, read[entry.label], out, pool) for entry in models.entries}
    compared = []
    for task, first, kept in zip(tasks, firsts, ranked, strict=True):
        members = [read_member(entry, folders[entry.label], first, task, settings, pool is not None) for entry in kept]
        members, unfitted = fit_members(members, kept, read, models.fitted, cfg.precision, is_ordered(task.candidates))
        told = [*told_windows(kept, windows), *unknown_training(members), *unfitted] if task is tasks[0] else []
        print_plain(screen, told)
        notes += told
        names = {first.row, *(member.row for member in members)}
        above, beside = teacher if teacher in names else None, baseline if baseline in names else first.row
        rows = compare([first, *members], above, beside, seed=cfg.seed)
        compared.append(Compared(task, kept, [first, *members], above, beside, rows))
    timing = _time(cfg, models.timing, compared[0].entries, settings, data)
    compared = [_judged(cfg, one, timing, settings.data.test_relevance_level) for one in compared]
    first = compared[0]
    test = Split({}, first.task.candidates, first.task.qrels, settings.data.test_relevance_level, first.task.topics)
    harm = harm_of_best(first.rows, first.members, first.teacher, test, partial(data.pairs, "test"))
    sources = {firsts[0].row: [f"the candidates of {first.task.name}"]}
    for entry in first.entries:
        sources.setdefault(entry.row, []).append(entry.path)
    gains = adjusted([staged(one, cfg.seed) for one in compared]) if pool else []
    best = None if harm is None else harm.ranker
    queries = by_query(first.rows, first.members, test, first.teacher, best, partial(data.pairs, "test"))
    pictures = _report(cfg, first, gains, settings.data.depth, timing, notes, sources, harm, queries, out)
    return Done(first, pictures, used)


def _judged(cfg: DictConfig, one: Compared, timing: Timing | None, level: int) -> Compared:
    """Add to the rows of a comparison what follows from their scores and times."""
    task, members = one.task, one.members
    rows = [row._replace(speed=speed(timing, row.name)) for row in one.rows]
    rows = judge(rows, members, members[0].row, one.teacher, cfg.seed)
    rows = add_depths(rows, members, task.qrels, timing, cfg.seed)
    return one._replace(
        rows=add_fitted(rows, members[1:], Split({}, task.candidates, task.qrels, level, task.topics), cfg.seed)
    )


def _report(
    cfg: DictConfig, one: Compared, gains: Sequence[Staged], depth: int, timing: Timing | None, notes: Sequence[str],
    sources: Mapping[str, Sequence[str]], harm: Harm | None, queries: Mapping[str, Any], out: Path,
) -> list[Path]:  # fmt: skip
    """Print the tables and the verdicts, write report and plots (with the notes that were printed before); return the plots."""
    task, rows, teacher, baseline = one.task, one.rows, one.teacher, one.baseline
    screen, title = console(), f"{task.name}, {len(task.qrels)} queries"
    times = speed_columns(timing, {row.name: row.name for row in rows}, teacher)
    sections = [*first_stages_section(gains), *difference_section(rows, teacher, baseline)]
    sections += [*depth_section(rows), *fusion_section(rows)]
    likely, *bins = calibration_sections({row.shown: row.calibration for row in rows if row.calibration is not None}) or [None]
    sections += [] if likely is None else [likely]
    lines = [*legend(rows, teacher, baseline, len(task.qrels), task.topics, timing), *depth_note(depth)]
    setup, pictures, passages = None, [], None
    if timing is not None:
        setup, passages = timing["setup"], measured_row(timing)["passages"]
        write_json(out / "latency.json", timing)
        pictures = draw_frontier(rows[1:], rows[0], out, passages=passages)
    elif cfg.callbacks.inference_time is None:
        lines += timing_notes(None)
    if is_busy(timing):
        lines.append("frontier: not drawn, as it shows quality over time.")
    pictures += [*draw_depths(rows[1:], rows[0], out), *draw_reliability(rows, out)]
    first = [*tables(rows, title, teacher, baseline, screen.width)]
    timed = [Section("Inference time", times)] if times else []
    first += [to_table(times, "inference time", framed=False)] if times else []
    for found, told in [(first, lines), *((section.tables(screen.width), section.notes) for section in sections)]:
        for table in found:
            screen.print(table)
            screen.print()
        print_plain(screen, [*told, ""])
    chapters = [*sections, *bins, *harm_section(harm)]  # the last two are to be read or looked at, not to scroll by
    report = write_report(
        out, rows, teacher, baseline, title, [*notes, *lines], setup, origin(), sources, pictures, times, chapters, harm, gains
    )
    write_page(out, report, rows, all_columns(rows, teacher, baseline), [*timed, *chapters], queries, passages)
    named = [
        "report.md",
        "report.html",
        "report.json",
        *(["latency.json"] if timing else []),
        *(file.name for file in pictures),
    ]
    files = f"files: {out}/  {'  '.join(named)}"
    print_plain(screen, [files, *harm_note(harm), *(f"verdict: {line}" for row in rows for line in row.verdict)])
    return pictures


def _tests(cfg: DictConfig, entries: Sequence[Entry]) -> dict[str, DictConfig]:
    """Return the settings of each test, by name: those of the first run, or the default, changed by what the command says.

    Raises:
        ValueError: for settings that go without effect, or contradict each other.
    """
    run = next((entry.run for entry in entries if entry.run), None)
    base = plain((run_config(run) if run else _default()).data)
    base.pop("windows", None)  # each ranker has its own, unless the command says otherwise
    given, asked, typed = cfg.get("data") or OmegaConf.create(), plain(cfg.collections), HydraConfig.get().overrides.task
    given = given if "data.windows" in map(key_of, typed) else without_default(given)
    if asked:
        refuse_beside(given, HydraConfig.get().runtime.choices.get("data"))
        given = collections(asked, given, lambda kind: hydra.compose("evaluate", overrides=["models=none", f"data={kind}"]))
    found = named_tests(OmegaConf.create(base), given if asked else {"": given})
    complaints = [unread_by_test(typed, settings) for settings in found.values()]
    if unread := [each for each in complaints[0] if all(each in others for others in complaints)]:
        raise ValueError("\n".join(unread))
    for settings in found.values():
        check_data(settings)
        settings.max_tokens = None  # of training, and bound to its store
        if all(entry.kind == "ranking" for entry in entries):
            settings.store = None  # nothing is tokenised
        if len(found) > 1:
            run_data.open_reader(settings, "test").check()  # a mistyped name is told before anything is tested
    return {name: OmegaConf.create({"data": settings}) for name, settings in found.items()}


def _tokens(entries: Sequence[Entry]) -> tuple[Any, int]:
    """Tokenizer and positions of the first ranker; those of one vocabulary share them.

    Files that rank need none: where there are only such, those of the default teacher stand in, and nothing is tokenised.
    """
    source = next((entry.export for entry in entries if entry.kind != "ranking"), None)
    if source is None:
        source = str(_default().teacher.path)
    return load_tokenizer(source), max_positions(read_config(source))


def _settings_of(cfg: DictConfig, entry: Entry, settings: DictConfig) -> DictConfig:
    """Return what an entry is tested with: the collection's settings, in the windows of its row or, if nobody asks, its own."""
    data = plain(settings.data)
    return OmegaConf.create({"data": data | {"windows": windows_of(entry, plain(cfg.windows), data)}})


def _default() -> DictConfig:
    return hydra.compose("train", overrides=["stage=teacher"])


def _tested(cfg: DictConfig, entry: Entry, settings: DictConfig, out: Path, pool: RerankingTask | None) -> Path | None:
    """Return the folder with an entry's test: the run's own where the data are the same, else one made now.

    ``pool`` holds the candidates of several first stages, which are scored together.
    """
    if entry.kind == "ranking":
        return None
    if entry.run is not None and not cfg.rescore and pool is None:
        now = what_is_tested(settings.data)
        for number, made in enumerate(entry.record.get("tests", [])):
            if made == now:
                return find_split(entry.run, number)
    folder = out / entry.label
    fitting = run_data.build_data(settings, *_tokens([entry]), cfg.seed, train=False)
    if pool is not None:
        fitting.rerank(pool)
    stage_test.score_export(
        entry.export, fitting, folder, entry.label, settings.data.test_relevance_level, run_data.trainer_arguments(cfg), None
    )
    return folder


def _time(
    cfg: DictConfig, timing: TimingSettings | None, entries: Sequence[Entry], settings: DictConfig, data: RankingDataModule
) -> Timing | None:
    """Time one ranker of every row, all of them interleaved in this process; None where there is none, or none is to be."""
    device = torch.device("cuda" if cfg.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    chosen = {entry.row: entry for entry in reversed(entries) if entry.kind != "ranking"}
    if timing is None or not chosen:
        return None
    rankers = {
        row: Timed(entry.export, run_data.build_encoder(_settings_of(cfg, entry, settings).data, *_tokens([entry])))
        for row, entry in chosen.items()
    }
    print_plain(
        console(), [f"timing {len(rankers)} rankers side by side, {timing.queries} queries, for about {timing.seconds:.0f} s"]
    )
    return time_rankers(rankers, device, data.timed_pairs(*wanted_queries(timing)), timing, Processes(), origin())


def _against(cfg: DictConfig, entries: Sequence[Entry], first_stage: str) -> tuple[str | None, str]:
    """Name the rows that all are compared with: those of the command, else the one teacher there is, and the first stage.

    Raises:
        ValueError: for a name that is no row, before anything is tested or timed.
    """
    teachers = {entry.row for entry in entries if entry.record and entry.record["stage"] == "teacher"}
    teacher = cfg.against.teacher or (min(teachers) if len(teachers) == 1 else None)
    if teacher is None:
        found = f"{len(teachers)} are among the models" if teachers else "none is among the models"
        print_plain(console(), [f"no difference to the teacher: {found}. Name one: against.teacher=<row>."])
    baseline = cfg.against.baseline or first_stage
    check_names([first_stage, *(entry.row for entry in entries)], teacher, baseline)
    return teacher, baseline
