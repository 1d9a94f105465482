"""The end of a run: the table beside BM25 and the teacher, the model card, and where the files are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from rankdistil.report.card import write_card, write_plain_card
from rankdistil.report.columns import to_table
from rankdistil.report.result import Result, read_first_stage, read_result
from rankdistil.report.speed import speed, speed_columns, timing_notes
from rankdistil.report.table import differences, print_plain, results_table

FILES = "export/  metrics.json  per_query.jsonl  test.run  latency.json  run.json  checkpoints/"


class Tested(NamedTuple):
    """A run's test on one split.

    Attributes:
        split: name.
        folder: with the test's files.
        teacher: folder with those of the teacher; None for a stage without one.
    """

    split: str
    folder: Path
    teacher: Path | None


def conclude(cfg: DictConfig, folder: Path, record: dict[str, Any], tested: Sequence[Tested], console: Console) -> None:
    """Print the tables, say which differences are more than chance, and write the model card.

    Args:
        cfg: the run's config.
        folder: its folder.
        record: its record.
        tested: its test on each split; rankers are timed on the first.
        console: where to print.
    """
    timing = json.loads((folder / "latency.json").read_text(encoding="utf-8"))
    results = [_results(cfg, test, timing if number == 0 else None) for number, test in enumerate(tested)]
    for test, rows in zip(tested, results, strict=True):
        _print(rows, test.split, timing if test is tested[0] else None, console)
    print_plain(console, [f"trained in {record['precision']}, tested in float32"])
    further = ["tests/"] if len(tested) > 1 else []
    console.print(f"files: {folder}/  {'  '.join([FILES, *further])}", markup=False, highlight=False, soft_wrap=True)
    write_card(folder / "export", cfg, results[0], record, timing)


def _results(cfg: DictConfig, test: Tested, timing: dict[str, Any] | None) -> list[Result]:
    """Read first stage, teacher if there is one, and the ranker itself."""
    own = cfg.teacher.name if cfg.stage.learns == "teacher" else f"student {cfg.student.name}"
    rows = [read_first_stage(test.folder)]
    if test.teacher is not None:
        above = read_result(test.teacher, f"teacher {cfg.teacher.name}", timed=False)
        rows.append(above if timing is None else above._replace(speed=speed(timing, "teacher")))
    return [*rows, read_result(test.folder, own, timed=timing is not None)]


def conclude_language_model(cfg: DictConfig, folder: Path, record: dict[str, Any], console: Console) -> None:
    """Print how a student without a ranking head did, say what starts from it, and write its card."""
    validation = record["validation"]
    print_plain(
        console,
        [
            f"student {cfg.student.name}: best {validation['measure']} {validation['best']:.4f}. It is a language model and "
            "ranks nothing yet: finetune and ranker_distill start from its export.",
            f"files: {folder}/  export/  run.json  metrics.csv  checkpoints/",
        ],
    )
    write_plain_card(folder / "export", cfg, record)


def _print(rows: list[Result], split: str, timing: dict[str, Any] | None, console: Console) -> None:
    slowest = rows[1].name if len(rows) > 2 and timing else None
    console.print(results_table(rows, f"{split}, {len(rows[0].per_query)} queries", slowest))
    notes = []
    if timing is not None:
        names = {"teacher": rows[-2].name} if slowest else {}
        columns = speed_columns(timing, names | {"ranker": rows[-1].name}, "teacher" if slowest else None)
        if columns:
            console.print(to_table(columns, "inference time"))
        notes += timing_notes(timing)
    if slowest is not None:
        above, own = rows[-2].speed, rows[-1].speed
        notes.append(
            f"{rows[-1].name}: {above['parameters'] / own['parameters']:.2f}x smaller and "
            f"{above['latency_ms_p50'] / own['latency_ms_p50']:.2f}x faster than its teacher, on the same pairs"
        )
    for better, worse in ((1, 0), (2, 0), (2, 1)) if len(rows) > 2 else ((1, 0),):
        notes += differences([rows[better]], rows[worse])
    print_plain(console, notes)
