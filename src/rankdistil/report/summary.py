"""The end of a run: the table beside BM25 and the teacher, the model card, and where the files are."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from rankdistil.report.card import write_card, write_plain_card
from rankdistil.report.result import Result, read_first_stage, read_result
from rankdistil.report.table import differences, print_plain, results_table

FILES = "export/  metrics.json  per_query.jsonl  test.run  latency.json  run.json  checkpoints/"


def conclude(cfg: DictConfig, folder: Path, record: dict[str, Any], teacher: Path | None, console: Console) -> None:
    """Print the table, say which differences are more than chance, and write the model card.

    Args:
        cfg: the run's config.
        folder: its folder, with the test's files.
        record: its record.
        teacher: folder with the test's files of its teacher; None for a stage without one.
        console: where to print.
    """
    timing = json.loads((folder / "latency.json").read_text(encoding="utf-8"))
    first_stage = read_first_stage(folder)
    if teacher is None:
        own = read_result(folder, cfg.teacher.name if cfg.stage.learns == "teacher" else f"student {cfg.student.name}")
        rows, compared = [first_stage, own], [(own, first_stage)]
    else:
        above = read_result(teacher, f"teacher {cfg.teacher.name}")._replace(speed=timing["rankers"]["teacher"])
        own = read_result(folder, f"student {cfg.student.name}")
        rows, compared = [first_stage, above, own], [(above, first_stage), (own, first_stage), (own, above)]
    _print(rows, compared, record, timing, console)
    console.print(f"files: {folder}/  {FILES}", markup=False, highlight=False, soft_wrap=True)
    write_card(folder / "export", cfg, rows, record, timing)


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


def _print(
    rows: list[Result],
    compared: list[tuple[Result, Result]],
    record: dict[str, Any],
    timing: dict[str, Any],
    console: Console,
) -> None:
    setup = timing["setup"]
    slowest = next((row.name for row in rows if row.name.startswith("teacher ")), None)
    console.print(results_table(rows, f"{record['test']}, {len(rows[0].per_query)} queries", slowest))
    notes = [
        f"ms / query: median over {setup['queries']} queries x {setup['rounds']} rounds, {setup['candidates_per_query']:.0f} "
        f"passages each, {setup['tokens_per_pair']:.0f} tokens a pair, strings to scores, {setup['dtype']}, "
        f"{setup['device']}, {setup['threads']} threads"
    ]
    if slowest is not None:
        above, own = rows[-2].speed, rows[-1].speed
        notes.append(
            f"{rows[-1].name}: {above['parameters'] / own['parameters']:.2f}x smaller and "
            f"{above['latency_ms_p50'] / own['latency_ms_p50']:.2f}x faster than its teacher, on the same pairs"
        )
    for ranker, baseline in compared:
        notes += differences([ranker], baseline)
    print_plain(console, notes)
