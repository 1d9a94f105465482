"""The command ``evaluate.py``: finished rankers compared in one table, one plot, one folder."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, ListConfig, OmegaConf

from rankdistil.cli import console
from rankdistil.config.checks import check_data, check_evaluation
from rankdistil.config.choices import choose_test
from rankdistil.config.schema import listed, plain
from rankdistil.data.batches.datamodule import RankingDataModule, RerankingTask
from rankdistil.data.collections.reader import is_ordered, require_used
from rankdistil.data.records import Ranking
from rankdistil.files import filled, write_json
from rankdistil.inference.stopwatch import Processes, Timed, TimingSettings, time_rankers, wanted_queries
from rankdistil.metrics.fitted import Split, fit
from rankdistil.metrics.ranking import (
    fit_fusion,
    means,
    passage_ids,
    per_query,
    random_order,
    read_run,
    tied_queries,
    with_choice,
)
from rankdistil.models.checkpoints import load_tokenizer, read_config
from rankdistil.models.families import max_positions
from rankdistil.planning.plan import what_is_tested
from rankdistil.planning.unread import unread_by_test
from rankdistil.processes import ranks
from rankdistil.report.comparison import Member, Row, add_depths, add_fitted, check_names, compare, harm_of_best, judge
from rankdistil.report.document import (
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
from rankdistil.report.results import (
    Result,
    Tied,
    Timing,
    is_busy,
    measured_row,
    read_first_stage,
    read_result,
    speed,
    speed_columns,
    timing_notes,
)
from rankdistil.report.run import data_notes
from rankdistil.report.tables import print_plain, to_table
from rankdistil.report.verdict import Harm, depth_note, likely_cures
from rankdistil.runs.entries import Entry, find_entries
from rankdistil.runs.record import origin
from rankdistil.stages import data as run_data
from rankdistil.stages import test as stage_test
from rankdistil.stages.test import find_split
from rankdistil.stages.train import finish_wandb, quieten


def evaluate(cfg: DictConfig) -> None:
    """Compare finished rankers with each other, the teacher and the first stage.

    Raises:
        FileNotFoundError: if a model isn't there.
        ValueError: if models were tested on different queries, or can't rank.
    """
    check_evaluation(cfg)
    quieten()
    ranks.require_alone(cfg.trainer)
    out, job = Path(cfg.paths.evaluations, cfg.folder), HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        out /= str(job.job.num)
    with filled(out):
        _evaluate(cfg, out)


def _evaluate(cfg: DictConfig, out: Path) -> None:
    timed = run_data.timing_settings(cfg)
    entries, notes = find_entries(plain(cfg.models) if isinstance(cfg.models, ListConfig) else [str(cfg.models)])
    screen = console()
    print_plain(screen, notes)
    entries = [each for entry in entries for each in _in_windows(cfg, entry)]
    settings = _test_settings(cfg, entries)
    run_data.fetch_data(settings, train=False)
    data = run_data.build_data(settings, *_tokens(entries), cfg.seed, train=False)
    if cfg.get("data") and "candidates" in cfg.data:
        require_used(listed(cfg.data.candidates), [reader.run for reader in data.readers])
    first_stage = _first_stage(data, settings.data.test_relevance_level)
    print_plain(screen, data_notes(data.account()))
    entries, told = _without_first_stage(entries, first_stage, settings)
    print_plain(screen, told)
    notes += told
    teacher, baseline = _against(cfg, entries, first_stage.row)
    read = [_settings_of(cfg, entry, settings) for entry in entries]
    tested = [_tested(cfg, entry, own, out) for entry, own in zip(entries, read, strict=True)]
    members = [_member(entry, test, first_stage, data, settings) for entry, test in zip(entries, tested, strict=True)]
    members, unfitted = _fitted(members, entries, read, cfg.precision, is_ordered(data.task("test").candidates))
    told = [*_told_windows(entries, read), *_unknown_training(members), *unfitted]
    print_plain(screen, told)
    notes += told
    rows = compare([first_stage, *members], teacher, baseline, seed=cfg.seed)
    timing = _time(cfg, timed, entries, settings, data)
    rows = [row._replace(speed=speed(timing, row.name)) for row in rows]
    rows = judge(rows, [first_stage, *members], first_stage.row, teacher, cfg.seed)
    task = data.task("test")
    rows = add_depths(rows, [first_stage, *members], task.qrels, timing, cfg.seed)
    test = Split({}, task.candidates, task.qrels, settings.data.test_relevance_level, task.topics)
    rows = add_fitted(rows, members, test, cfg.seed)
    harm = harm_of_best(rows, [first_stage, *members], teacher, test, partial(data.pairs, "test"))
    sources = {first_stage.row: [f"the candidates of {task.name}"]}
    for entry in entries:
        sources.setdefault(entry.row, []).append(entry.path)
    _report(cfg, rows, teacher, baseline, task, settings.data.depth, timing, notes, sources, harm, out)


def _report(
    cfg: DictConfig, rows: Sequence[Row], teacher: str | None, baseline: str, task: RerankingTask, depth: int,
    timing: Timing | None, notes: Sequence[str], sources: Mapping[str, Sequence[str]], harm: Harm | None, out: Path,
) -> None:  # fmt: skip
    """Print the tables and the verdicts, write report and plot (with the notes that were printed before), log the same."""
    screen, title = console(), f"{task.name}, {len(task.qrels)} queries"
    times = speed_columns(timing, {row.name: row.name for row in rows}, teacher)
    sections = [*difference_section(rows, teacher, baseline), *depth_section(rows), *fusion_section(rows)]
    likely, *bins = calibration_sections({row.shown: row.calibration for row in rows if row.calibration is not None}) or [None]
    sections += [] if likely is None else [likely]
    lines = [*legend(rows, teacher, baseline, len(task.qrels), task.topics, timing), *depth_note(depth)]
    setup, pictures = None, []
    if timing is not None:
        setup = timing["setup"]
        write_json(out / "latency.json", timing)
        pictures = draw_frontier(rows[1:], rows[0], out, passages=measured_row(timing)["passages"])
    elif cfg.callbacks.inference_time is None:
        lines += timing_notes(None)
    if is_busy(timing):
        lines.append("frontier: not drawn, as it shows quality over time.")
    pictures += [*draw_depths(rows[1:], rows[0], out), *draw_reliability(rows, out)]
    first = [*tables(rows, title, teacher, baseline, screen.width)]
    first += [to_table(times, "inference time", framed=False)] if times else []
    for found, told in [(first, lines), *((section.tables(screen.width), section.notes) for section in sections)]:
        for table in found:
            screen.print(table)
            screen.print()
        print_plain(screen, [*told, ""])
    chapters = [*sections, *bins, *harm_section(harm)]  # the last two are to be read or looked at, not to scroll by
    write_report(
        out, rows, teacher, baseline, title, [*notes, *lines], setup, origin(), sources, pictures, times, chapters, harm
    )
    named = ["report.md", "report.json", *(["latency.json"] if timing else []), *(file.name for file in pictures)]
    files = f"files: {out}/  {'  '.join(named)}"
    print_plain(screen, [files, *harm_note(harm), *(f"verdict: {line}" for row in rows for line in row.verdict)])
    _log(cfg, markdown(rows, teacher, baseline), rows, pictures, out)


def _test_settings(cfg: DictConfig, entries: Sequence[Entry]) -> DictConfig:
    """The data that the first run was tested on (the default collection if there is none), changed by what the command says."""
    run = next((entry.run for entry in entries if entry.run), None)
    base = OmegaConf.load(run / ".hydra" / "config.yaml") if run else _default()
    given = cfg.get("data") or OmegaConf.create()
    settings = choose_test(base.data, given)
    check_data(settings)
    if complaints := unread_by_test(HydraConfig.get().overrides.task, settings):
        raise ValueError("\n".join(complaints))
    if all(entry.kind == "ranking" for entry in entries):
        settings.store = settings.max_tokens = None  # nothing is tokenised
    return OmegaConf.create({"data": settings})


def _tokens(entries: Sequence[Entry]) -> tuple[Any, int]:
    """Tokenizer and positions of the first ranker; those of one vocabulary share them.

    Files that rank need none: where there are only such, those of the default teacher stand in, and nothing is tokenised.
    """
    source = next((entry.export for entry in entries if entry.kind != "ranking"), None)
    if source is None:
        source = str(_default().teacher.path)
    return load_tokenizer(source), max_positions(read_config(source))


def _in_windows(cfg: DictConfig, entry: Entry) -> list[Entry]:
    """Give a ranker a row for each of the command's ``windows``; a ranking file is what it is."""
    if cfg.windows is None or entry.kind == "ranking":
        return [entry]
    return [entry.read_in(name) for name in cfg.windows]


def _settings_of(cfg: DictConfig, entry: Entry, settings: DictConfig) -> DictConfig:
    """Return what an entry is tested with: in a row for the command's ``windows``, those."""
    if entry.windows is None:
        return settings
    return OmegaConf.create({"data": plain(settings.data) | {"windows": plain(cfg.windows[entry.windows])}})


def _told_windows(entries: Sequence[Entry], read: Sequence[DictConfig]) -> list[str]:
    """Say of each row how documents are read, unless all are cut."""
    found = {
        entry.row: run_data.read_windows(own.data) for entry, own in zip(entries, read, strict=True) if entry.kind != "ranking"
    }
    if not any(found.values()):
        return []
    return [f"{row}: a longer document is {f'read in {own.told()}' if own else 'cut'}." for row, own in found.items()]


def _default() -> DictConfig:
    return hydra.compose("train", overrides=["stage=teacher"])


def _tested(cfg: DictConfig, entry: Entry, settings: DictConfig, out: Path) -> Path | None:
    """Return the folder with an entry's test: the run's own where the data are the same, else one made now."""
    if entry.kind == "ranking":
        return None
    if entry.run is not None and not cfg.rescore:
        now = what_is_tested(settings.data)
        for number, made in enumerate(entry.record.get("tests", [])):
            if made == now:
                return find_split(entry.run, number)
    folder = out / entry.label
    fitting = run_data.build_data(settings, *_tokens([entry]), cfg.seed, train=False)
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


def _first_stage(data: RankingDataModule, relevance_level: int) -> Member:
    task = data.task("test")
    values = per_query(task.candidates, task.qrels, relevance_level)
    result = Result(task.first_stage, means(values), values, {}, task.topics)
    return Member(task.first_stage, result, passage_ids(task.candidates))


def _without_first_stage(entries: Sequence[Entry], first_stage: Member, settings: DictConfig) -> tuple[list[Entry], list[str]]:
    """Leave out a ranking file that is the first stage itself, which has its row already; say so.

    Raises:
        ValueError: for another ranker of the same name.
    """
    kept, told = [], []
    for entry in entries:
        if entry.row != first_stage.row:
            kept.append(entry)
            continue
        if entry.kind == "ranking":
            order = passage_ids(_ranking(entry, settings))
            if all(order.get(query) == row for query, row in first_stage.ranking.items()):
                told.append(f"left out: {entry.path} is the first stage, whose row is {first_stage.row} already.")
                continue
        raise ValueError(
            f"{entry.path} has the name of the first stage ({first_stage.row}), but ranks otherwise. Rename one of the files."
        )
    return kept, told


def _ranking(entry: Entry, settings: DictConfig) -> Ranking:
    return {query: row[: settings.data.depth] for query, row in read_run(Path(entry.path)).items()}


def _member(entry: Entry, folder: Path | None, first_stage: Member, data: RankingDataModule, settings: DictConfig) -> Member:
    """Read a tested ranker, or measure a ranking file.

    Raises:
        ValueError: if it re-ranked another first stage's candidates, or ranks none of the queries.
    """
    if folder is None:
        qrels, ranking = data.task("test").qrels, _ranking(entry, settings)
        ranking = {query: row for query, row in ranking.items() if query in qrels}
        if not ranking:
            raise ValueError(
                f"{entry.path} ranks none of the {len(qrels)} queries of {data.task('test').name}. Name a run of these queries."
            )
        if len(ranking) < len(qrels):
            print_plain(console(), [f"{entry.path} ranks {len(ranking)} of {len(qrels)} queries: the others count as 0."])
        values = per_query(ranking, qrels, settings.data.test_relevance_level)
        scores = {query: {hit.passage_id: hit.score for hit in row} for query, row in ranking.items()}
        tied = Tied(tied_queries(scores), with_choice(scores))
        result = Result(entry.row, means(values), values, {}, chance=random_order(ranking, qrels), tied=tied)
        return Member(entry.row, result, passage_ids(ranking), own_candidates=True)
    if read_first_stage(folder).per_query != first_stage.result.per_query:
        raise ValueError(
            f"{folder} was tested on other queries, judgments or candidates than {data.task('test').name} has now. "
            "Add rescore=true to test all rankers again."
        )
    result, scores = read_result(folder, entry.row, timed=False), read_run(folder / "test.run")
    cures = likely_cures(entry.record["settings"]["stage.learns"], entry.record["started_from"]) if entry.record else ()
    return Member(entry.row, result, passage_ids(scores), start=_start(folder), cures=cures, size=entry.size, scores=scores)


def _fitted(
    members: Sequence[Member], entries: Sequence[Entry], read: Sequence[DictConfig], wished: float, ordered: bool
) -> tuple[list[Member], list[str]]:
    """Add what is fitted to each ranker's scores on its run's validation; and say why, where that can't be."""
    opened: dict[str, RankingDataModule] = {}
    found, told = [], {}
    for member, entry, settings in zip(members, entries, read, strict=True):
        if entry.kind == "run":
            try:
                _require_validated(entry, settings)
                valid, _ = stage_test.read_validation(entry.run, opened)
            except (FileNotFoundError, ValueError) as error:
                told[f"no fusion and no probability of {member.row}: {error}"] = None
            else:
                fusions = fit_fusion(valid) if ordered and is_ordered(valid.first) else None
                member = member._replace(fitted=fit(valid, wished, fusions))
        found.append(member)
    return found, [*told]


def _require_validated(entry: Entry, settings: DictConfig) -> None:
    """See that a run was validated with the windows that it is tested with.

    Raises:
        ValueError: if it wasn't: its scores there say nothing of those here.
    """
    own, now = map(run_data.read_windows, (OmegaConf.load(entry.run / ".hydra" / "config.yaml").data, settings.data))
    if own != now:
        told = [f"read in {one.told()}" if one else "cut" for one in (own, now)]
        raise ValueError(f"in its validation documents were {told[0]}, and here they are {told[1]}.")


def _unknown_training(members: Sequence[Member]) -> list[str]:
    """Name the rows of which nobody knows whether they were trained on test queries."""
    rows = dict.fromkeys(one.row for one in members if one.result.leak is None and not one.own_candidates)
    if not rows:
        return []
    return [f"not known whether test queries were trained on: {', '.join(rows)}."]


def _start(folder: Path) -> Result | None:
    """Read the test of a run's start, where it was tested beside the run."""
    place = folder / "start"
    return read_result(place, "its start", timed=False) if (place / "metrics.json").is_file() else None


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


def _log(cfg: DictConfig, text: str, rows: Sequence[Row], pictures: Sequence[Path], out: Path) -> None:
    """Give W&B the same table and plot."""
    if cfg.get("logger") is None:
        return
    logger = run_data.build_logger(cfg, out)
    if isinstance(logger, WandbLogger):
        header, _, *lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()]
        logger.log_table("comparison", columns=header, data=lines)
        logger.log_image("frontier", [str(file) for file in pictures if file.suffix == ".png"])
    logger.log_metrics({f"test/{row.name}/{name}": value for row in rows for name, value in row.measures.items()})
    logger.finalize("success")
    finish_wandb()
