"""Test of an export on every test split, beside its teacher: the same at the end of training and in ``evaluate.py``.

What is tested is what the user gets: the export is loaded back from its folder. Scores are computed in float32.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

from rankdistil.callbacks.measurements import VALIDATED, InferenceTime, RankingMetrics
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.stopping import OwnSignals
from rankdistil.cli import console
from rankdistil.config.choices import each_test, takes_export, teacher_folder, teacher_name
from rankdistil.config.schema import listed, plain
from rankdistil.data.batches.datamodule import RankingDataModule, RerankingTask
from rankdistil.data.collections.reader import require_used
from rankdistil.data.collections.splits import find_leak
from rankdistil.data.fetch import missing
from rankdistil.data.files.trec_runs import forget_run
from rankdistil.data.records import PairBatch, Ranking, ScoredPairs
from rankdistil.inference.packed import PackedRanker, pack_padded
from rankdistil.inference.stopwatch import TimingSettings
from rankdistil.metrics.fitted import Fitted, Split
from rankdistil.metrics.ranking import fit_validation, means, passage_ids, per_query, read_run, restricted
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_ranker, load_tokenizer
from rankdistil.report.comparison import Member
from rankdistil.report.results import Result, measured, read_first_stage, read_result, same_test
from rankdistil.report.run import Tested
from rankdistil.report.tables import print_plain
from rankdistil.report.verdict import likely_cures
from rankdistil.runs.entries import Entry
from rankdistil.runs.record import origin, run_config, run_label
from rankdistil.stages import data as run_data

TEST_FILES = ("metrics.json", "per_query.jsonl", "test.run", "latency.json")
START = "start"  # folder of what a run started from: its export until it is tested, then its test

UNRANKED = ("batch", "eval", "max", "negatives", "test", "windows", "workers")  # data keys that decide no candidates, by word

Splits = Sequence[tuple[DictConfig, RankingDataModule]]
"""The settings of ``data`` for each test split, and its data."""


def open_splits(cfg: DictConfig, data: RankingDataModule) -> Splits:
    """Open every test split, so that bad data are answered before the first step.

    Args:
        cfg: the run's config.
        data: of the run, with the first split.

    Raises:
        ValueError: for data that can't be used.
    """
    first, *others = each_test(cfg.data)
    opened = [(first, data)]
    for settings in others:
        other, encoder = OmegaConf.create(plain(cfg) | {"data": plain(settings)}), data.encoder
        further = run_data.build_data(other, encoder.tokenizer, encoder.max_length, cfg.seed, train=False)
        further.open_test()
        opened.append((settings, further))
    readers = [*data.readers, *(reader for _, further in opened[1:] for reader in further.readers)]
    require_used(listed(cfg.data.candidates), [reader.run for reader in readers])
    forget_run()  # all candidates are read
    return opened


def leak_notes(folder: Path, data: RankingDataModule, splits: Splits) -> list[str]:
    """Say which queries of validation and of the test splits a run is about to be trained on, or what it learns from was.

    Args:
        folder: of the run, with what it is trained on.
        data: of the run.
        splits: opened.
    """
    asked = {"validation": data.asked("valid")} | {_title(splits, at): one.asked("test") for at, (_, one) in enumerate(splits)}
    found = {name: find_leak(folder, queries) for name, queries in asked.items()}
    return [
        f"leak: {leak.queries} of {leak.of} queries of {name} are trained on, for example {', '.join(leak.examples)}."
        for name, leak in found.items()
        if leak is not None and leak.queries
    ]


def teacher_validation(cfg: DictConfig, source: str, data: RankingDataModule) -> Ranking | None:
    """Return how the ranker that teaches ranks a run's validation candidates, if its own run left that; else it is asked.

    Args:
        cfg: the run's config.
        source: export of the ranker that teaches, the teacher's or an assistant's.
        data: of the run.
    """
    file = Path(source).parent / VALIDATED
    if takes_export(cfg) or not file.is_file():
        return None
    found = read_run(file)
    return found if _same_pairs(found, data.task("valid").candidates) else None


def read_validation(run: Path, opened: dict[str, RankingDataModule]) -> tuple[Split, RankingDataModule]:
    """Read how a run's best validation ranked, and its data: nothing is scored again.

    Args:
        run: its folder.
        opened: data of runs, by their settings; it is added to.

    Raises:
        FileNotFoundError: if the run left no validation, or its data aren't on this machine.
        ValueError: if its candidates aren't those that were scored, or data can't be used.
    """
    if not (run / VALIDATED).is_file():
        raise FileNotFoundError(f"{run / VALIDATED} is not there: the run's validation wasn't kept. Train it again.")
    cfg = run_config(run)
    data = {key: value for key, value in plain(cfg.data).items() if key.partition("_")[0] not in UNRANKED}
    key = json.dumps(data, sort_keys=True)
    if key not in opened:
        readers = [run_data.open_reader(each_test(cfg.data)[0], split) for split in ("valid", "test")]
        name = readers[0].source
        if isinstance(name, str) and missing(*run_data.wanted(cfg, train=False, valid=True)[name]):
            raise FileNotFoundError(f"{name} is not on this machine. Fetch it: python -m rankdistil.data.fetch {name}")
        settings = run_data.data_settings(cfg.data)
        encoder = run_data.build_encoder(cfg.data, load_tokenizer(str(run / "export")), sys.maxsize)
        opened[key] = RankingDataModule(None, *readers, encoder, settings, cfg.seed)
    task, found = opened[key].task("valid"), read_run(run / VALIDATED)
    if not _same_pairs(found, task.candidates):
        raise ValueError(f"{run / VALIDATED} has other candidates than {task.name} has now. Train the run again.")
    return Split(found, task.candidates, task.qrels, cfg.data.relevance_level, task.topics), opened[key]


def read_test(run: Path, data: RankingDataModule) -> Split | None:
    """Read how a run's own test ranked on its first split; None if it left none, or has other candidates now."""
    if not (run / "test.run").is_file():
        return None
    cfg, task, found = run_config(run), data.task("test"), read_run(run / "test.run")
    level = each_test(cfg.data)[0].test_relevance_level
    return Split(found, task.candidates, task.qrels, level, task.topics) if _same_pairs(found, task.candidates) else None


def first_stage_member(task: RerankingTask, relevance_level: int) -> Member:
    """Measure the first stage's own order."""
    values = per_query(task.candidates, task.qrels, relevance_level)
    result = Result(task.first_stage, means(values), values, {}, task.topics)
    return Member(task.first_stage, result, passage_ids(task.candidates))


def without_first_stage(entries: Sequence[Entry], first_stage: Member, settings: DictConfig) -> tuple[list[Entry], list[str]]:
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
            order = passage_ids(read_ranking(entry, settings))
            if all(order.get(query) == row for query, row in first_stage.ranking.items()):
                told.append(f"left out: {entry.path} is the first stage, whose row is {first_stage.row} already.")
                continue
        raise ValueError(
            f"{entry.path} has the name of the first stage ({first_stage.row}), but ranks otherwise. Rename one of the files."
        )
    return kept, told


def read_ranking(entry: Entry, settings: DictConfig) -> Ranking:
    """Read a run file, each query to the depth that is re-ranked."""
    return {query: row[: settings.data.depth] for query, row in read_run(Path(entry.path)).items()}


def read_member(
    entry: Entry, folder: Path | None, first_stage: Member, task: RerankingTask, settings: DictConfig, pooled: bool
) -> Member:
    """Read a tested ranker, or measure a ranking file; ``pooled``: the test scored candidates of other first stages, too.

    Raises:
        ValueError: if it re-ranked another first stage's candidates, or ranks none of the queries.
    """
    level = settings.data.test_relevance_level
    if folder is None:
        ranking = {query: row for query, row in read_ranking(entry, settings).items() if query in task.qrels}
        if not ranking:
            raise ValueError(
                f"{entry.path} ranks none of the {len(task.qrels)} queries of {task.name}. Name a run of these queries."
            )
        if len(ranking) < len(task.qrels):
            print_plain(console(), [f"{entry.path} ranks {len(ranking)} of {len(task.qrels)} queries: the others count as 0."])
        return Member(entry.row, measured(entry.row, ranking, task.qrels, level), passage_ids(ranking), own_candidates=True)
    if not pooled and read_first_stage(folder).per_query != first_stage.result.per_query:
        raise ValueError(
            f"{folder} was tested on other queries, judgments or candidates than {task.name} has now. "
            "Add rescore=true to test all rankers again."
        )
    result, scores = read_result(folder, entry.row, timed=False), read_run(folder / "test.run")
    if pooled:
        scores = restricted(scores, task.candidates)
        result = measured(entry.row, scores, task.qrels, level)._replace(leak=result.leak)
    cures = likely_cures(entry.record["settings"]["stage.learns"], entry.record["started_from"]) if entry.record else ()
    start = None if pooled else _start(folder)
    return Member(entry.row, result, passage_ids(scores), start=start, cures=cures, size=entry.size, scores=scores)


def fit_members(
    members: Sequence[Member], entries: Sequence[Entry], read: Mapping[str, DictConfig], known: dict[str, Fitted | str],
    wished: float, ordered: bool,
) -> tuple[list[Member], list[str]]:  # fmt: skip
    """Add what is fitted to each ranker's scores on its run's validation; and say why, where that can't be.

    Args:
        members: the rankers.
        entries: what they were read from.
        read: settings of their tests, by label.
        known: what was fitted before, or why nothing was, by label; it is added to.
        wished: precision.
        ordered: whether the first stage has an order to be fused with.
    """
    opened: dict[str, RankingDataModule] = {}
    found, told = [], {}
    for member, entry in zip(members, entries, strict=True):
        if entry.kind == "run":
            own = _otherwise_validated(entry, read[entry.label])
            if own is None and entry.label not in known:
                try:
                    known[entry.label] = fit_validation(read_validation(entry.run, opened)[0], wished)
                except (FileNotFoundError, ValueError) as error:
                    known[entry.label] = str(error)
            own = own or known[entry.label]
            if isinstance(own, str):
                told[f"no fusion and no probability of {member.row}: {own}"] = None
            else:
                member = member._replace(fitted=own if ordered else own._replace(fusions=None))
        found.append(member)
    return found, [*told]


def _otherwise_validated(entry: Entry, settings: DictConfig) -> str | None:
    """Say that a run was validated with other windows than it is tested with: its scores there say nothing of those here."""
    own, now = map(run_data.read_windows, (run_config(entry.run).data, settings.data))
    told = [f"read in {one.told()}" if one else "cut" for one in (own, now)]
    return None if own == now else f"in its validation documents were {told[0]}, and here they are {told[1]}."


def unknown_training(members: Sequence[Member]) -> list[str]:
    """Name the rows of which nobody knows whether they were trained on test queries."""
    rows = dict.fromkeys(one.row for one in members if one.result.leak is None and not one.own_candidates)
    if not rows:
        return []
    return [f"not known whether test queries were trained on: {', '.join(rows)}."]


def _start(folder: Path) -> Result | None:
    """Read the test of a run's start, where it was tested beside the run."""
    place = folder / "start"
    return read_result(place, "its start", timed=False) if (place / "metrics.json").is_file() else None


def _same_pairs(a: Ranking, b: Ranking) -> bool:
    left, right = ({query: {hit.passage_id for hit in row} for query, row in side.items() if row} for side in (a, b))
    return left == right


def score_splits(cfg: DictConfig, folder: Path, splits: Splits, teacher: str | None) -> list[Tested]:
    """Test the export of a run on each of its splits.

    The teacher ranker's own test is taken where it is the same, else made here; also with an assistant between the two, so that
    all students of a teacher are held against the same ranker. The start is tested on the first split, if the run left one that
    ranks (``START``).

    Args:
        cfg: the run's config.
        folder: its folder, for the files of each split (``split_folder``).
        splits: opened.
        teacher: folder or hub id of the one timed beside the export on the first split; None for a stage without one.
    """
    tested, runner = [], run_data.trainer_arguments(cfg)
    for number, (settings, data) in enumerate(splits):
        first, level = number == 0, settings.test_relevance_level
        within = split_folder(number, data)
        target, timing = folder / within, run_data.timing_settings(cfg) if first else None
        beside = teacher if first else None
        score_export(str(folder / "export"), data, target, run_label(folder), level, runner, timing, beside)
        start = None
        if first and (folder / START / "export").is_dir():
            start = folder / START
            score_export(str(start / "export"), data, start, f"{run_label(folder)} start", level, runner, None)
        above = None
        if teacher is not None:
            above = teacher_folder(cfg) / within
            if cfg.teacher.export is not None or not same_test(above, target):
                above = target / "teacher"
                score_export(teacher, data, above, f"teacher {teacher_name(cfg)}", level, runner, timing)
        tested.append(Tested(_title(splits, number), target, above, start))
    shutil.rmtree(folder / START / "export", ignore_errors=True)  # as large as the export, and made again by any run
    return tested


def forget_tests(folder: Path) -> None:
    """Remove what the test of a run left, that of its start and of the teacher beside it included: another one is made."""
    for name in TEST_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in ("tests", "teacher", START):
        shutil.rmtree(folder / name, ignore_errors=True)


def find_split(folder: Path, number: int) -> Path:
    """Return where a run keeps the files of a test split; see ``split_folder``."""
    return next((folder / "tests").glob(f"{number + 1}-*"), folder / "tests") if number else folder


def split_folder(number: int, data: RankingDataModule) -> Path:
    """Return where in a run's folder the files of a test split are: the first's at the top, the others' below ``tests/``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.task("test").name).strip("-.")
    return Path("tests", f"{number + 1}-{name}") if number else Path()


def _title(splits: Splits, number: int) -> str:
    """Name a split; where others have its queries, with what they differ in."""
    name, settings = splits[number][1].task("test").name, splits[number][0]
    if sum(data.task("test").name == name for _, data in splits) == 1:
        return name
    judged = f"{settings.test.qrels}, " if isinstance(settings.test, DictConfig) else ""
    return f"{name} ({judged}grades from {settings.test_relevance_level})"


def build_runner(trainer: dict[str, Any], callbacks: Sequence[L.Callback]) -> L.Trainer:
    """Build a Trainer that scores in float32, and leaves nothing but what its callbacks write.

    Args:
        trainer: arguments of Lightning's Trainer that say where to run.
        callbacks: they take the scores.
    """
    return run_data.build_trainer(
        trainer | {"precision": "32-true"}, [OwnSignals(), *callbacks], logger=False, enable_checkpointing=False
    )


def score_export(
    export: str,
    data: RankingDataModule,
    folder: Path,
    label: str,
    relevance_level: int,
    trainer: dict[str, Any],
    timing: TimingSettings | None,
    teacher: str | None = None,
) -> None:
    """Test and time an export; the callbacks say which files they write.

    Args:
        export: folder or hub id.
        data: gives the test split.
        folder: where the files go.
        label: name of the ranker in progress and run file.
        relevance_level: lowest grade that RR and AP count as relevant.
        trainer: arguments of Lightning's Trainer that say where to run.
        timing: settings of ``InferenceTime``; None doesn't time it.
        teacher: folder or hub id of the ranker that is timed beside the export, if any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rankers = {"ranker": export} | ({"teacher": teacher} if teacher else {})
    leak = find_leak(Path(export).parent, data.asked("test"))
    callbacks = [
        RankingMetrics(folder, relevance_level, tag="_".join(label.split()), leak=leak, windows=data.settings.windows),
        *([InferenceTime(folder, rankers, timing, origin())] if timing else []),
        ProgressReport(label),
    ]
    runner = build_runner(trainer, callbacks)
    runner.test(ScoringModule(load_ranker(export)), datamodule=data, verbose=False)
    runner.strategy.barrier()  # until the first process has written the files


class ScoringModule(L.LightningModule):
    """Scores the test's candidates with a finished ranker."""

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__()
        self._packed = PackedRanker(ranker)

    def test_step(self, batch: PairBatch, batch_idx: int) -> ScoredPairs:
        """Score a batch of candidates, without their padding."""
        packed, order = pack_padded(batch.input_ids, batch.attention_mask, batch.token_type_ids, batch.tokens)
        found = self._packed(packed)
        return batch.scored(torch.empty_like(found).index_copy_(0, order, found))
