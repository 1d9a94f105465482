"""Training stage, from its config to its finished folder: train, export, test, card, table."""

import csv
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from rankdistil.callbacks.checkpoints import AtomicCheckpointIO, RunCheckpoint, SaveExport
from rankdistil.callbacks.measurements import RankingMetrics
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.steps import GradientShares, HeapTrim, StreamPosition, ValidationSteps, WeightAverage
from rankdistil.callbacks.stopping import SaveLast, ended_together, repeats_validation
from rankdistil.config.checks import recorded
from rankdistil.config.choices import (
    asks_assistant,
    asks_teacher,
    checkpoint_interval,
    kept_losses,
    learnt_from,
    place_name,
    score_folders,
    start_in_words,
)
from rankdistil.data.batches.stream import StreamDataModule
from rankdistil.data.collections.splits import write_trained_on
from rankdistil.data.records import Ranking
from rankdistil.files import write_json
from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import compile_layers, parameter_count
from rankdistil.models.checkpoints import load_tokenizer, require_fitting
from rankdistil.models.families import family_of, max_positions
from rankdistil.models.locate import EXPORT, account
from rankdistil.modules.stage import StageModule, validation_steps
from rankdistil.report.run import conclude, conclude_language_model, data_notes
from rankdistil.report.tables import print_plain
from rankdistil.runs.record import begun, failure_recorded, read_record
from rankdistil.stages import data as run_data
from rankdistil.stages import networks
from rankdistil.stages.test import START, Splits, forget_tests, leak_notes, open_splits, score_splits, teacher_validation

RANKING = ("val/nDCG@10", "val/choice", "max")  # what a stage is judged by, and what the best validation is chosen by
NO_RANKING = ("val/loss", "val/loss", "min")  # without a ranking: its own loss on what it doesn't train on


def run_stage(cfg: DictConfig, folder: Path, settings: dict[str, Any], parents: dict[str, Any], console: Console) -> None:
    """Run a stage whose folder is locked and prepared; of a finished run, make the test again.

    Args:
        cfg: a checked config.
        folder: the run folder.
        settings: what decides the outcome; written into ``run.json``.
        parents: what the run learns or starts from, by role; written too.
        console: where the closing table goes.

    Raises:
        ValueError: for settings that don't fit together; nothing but ``.hydra/`` is written by then.
    """
    quieten()
    before = read_record(folder) or {}
    again = before.get("status") == "finished"
    L.seed_everything(cfg.seed, verbose=False)
    data, splits, validated, module = _build(cfg, parents, console)
    record = before | data.names | {"data": data.account()}
    if not again:
        record |= begun(cfg, settings, parents) | _described(cfg, module, data, parents)
    started = time.monotonic()
    if rank_zero_only.rank == 0:
        if again:
            forget_tests(folder)
        if module.losses.trains_head and networks.start_ranks(cfg, parents):
            write_export(folder / START / "export", module.ranker, data.encoder.tokenizer, data.encoder.max_length)
        write_json(folder / "run.json", record)
        own = {} if cfg.stage.reads == "passages" else data.trained_queries()
        write_trained_on(folder, own, learnt_from(cfg, parents))
        print_plain(console, leak_notes(folder, data, splits) if splits else [])
    ranks = module.losses.trains_head
    with nullcontext() if again else _logging(cfg, folder) as logger:
        with ended_together(), nullcontext() if again else failure_recorded(folder, record):
            if not again:
                record |= _fit(cfg, folder, module, data, validated, logger)
                if rank_zero_only.rank == 0:
                    record[EXPORT] = account(folder / EXPORT)
            del module  # with its teacher and the optimiser's state, several times the network: they aren't needed any more
            if ranks:
                tested = score_splits(cfg, folder, splits, networks.teacher_source(cfg) if asks_teacher(cfg) else None)
        if rank_zero_only.rank != 0:
            return  # one process speaks for all
        if ranks:
            measured = conclude(cfg, folder, record, tested, console)
            if not isinstance(logger, CSVLogger | None):  # metrics.csv tells how training went; metrics.json has the test
                logger.log_metrics(measured, record["steps"]["trained"])
        else:
            conclude_language_model(cfg, folder, record, console)
    record.pop("test_pending", None)
    if not again:
        ended, seconds = time.strftime("%Y-%m-%d %H:%M:%S"), time.monotonic() - started
        record |= {"status": "finished", "finished": ended, "wall_s": round(seconds, 1)}
    write_json(folder / "run.json", record)


def _build(
    cfg: DictConfig, parents: dict[str, Any], console: Console
) -> tuple[StreamDataModule, Splits, Ranking | None, StageModule]:
    """Build what a stage trains on, the splits of its test, its teacher's validation, and the module; say what is left out."""
    networks.check_scores(cfg)  # again: the teacher may have been trained just now
    source, reads_text = networks.learnt_source(cfg, parents), cfg.stage.reads == "passages"
    teacher, tokenizer = networks.load_teacher(cfg, parents), load_tokenizer(source)
    require_fitting(source, tokenizer, teacher.config)
    positions = max_positions(teacher.config)
    if reads_text:
        data = run_data.build_passages(cfg, tokenizer, positions)
    else:
        data = run_data.build_data(cfg, tokenizer, positions, cfg.seed, train=True)
    data.open()
    splits: Splits = [] if reads_text else open_splits(cfg, data)
    if rank_zero_only.rank == 0:
        print_plain(console, data_notes(data.account()))
    validated = teacher_validation(cfg, source, data) if asks_teacher(cfg) and splits else None
    module = networks.build_module(cfg, teacher, data, parents, asked=validated is None)
    if cfg.trainer.get("compile", False):
        for network in filter(None, (module.ranker, getattr(module, "teacher", None))):
            compile_layers(network)
    for name in sorted(set(cfg.stage.losses) - set(kept_losses(cfg))):
        console.print(f"student {cfg.student.name} can't take the {name} loss: dropped (student.drop_losses).")
    return data, splits, validated, module


def quieten() -> None:
    """Silence what the libraries say about themselves; problems still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # tokenising is no bottleneck on a CPU
    warnings.filterwarnings("ignore", message=".*has `__len__` defined.*")  # CandidateStream shards over workers itself
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # every rank logs the measures of all ranks' scores
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning 2.6 under torch 2.13
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # the run folder, which holds .hydra/


def _fit(
    cfg: DictConfig, folder: Path, module: StageModule, data: StreamDataModule, validated: Ranking | None, logger: Logger
) -> dict[str, Any]:
    """Train and export; return steps and time, what the best checkpoint is judged by, and its value (0 if it has collapsed)."""
    patience = cfg.stage.patience
    measure, monitor, mode = RANKING if module.losses.trains_head else NO_RANKING
    best = RunCheckpoint(folder / "checkpoints", "best", monitor=monitor, mode=mode, enable_version_counter=False)
    checkpoints = folder / "checkpoints"
    resume = checkpoints / "last.ckpt" if (checkpoints / "last.ckpt").is_file() else None
    logger.log_hyperparams(recorded(cfg))
    due = validation_steps(cfg.stage.steps, cfg.stage.validations)
    progress = ProgressReport(f"{cfg.method} {cfg[cfg.stage.learns].name}", due)
    stop = SaveLast(checkpoints / "last.ckpt", *checkpoint_interval(cfg))
    callbacks = [
        GradientShares(cfg.callbacks.gradient_shares.every),  # before the step is seeded
        StreamPosition(cfg.seed),
        *([] if cfg.stage.averaging is None else [WeightAverage(cfg.stage.averaging)]),  # before the step may be saved
        ValidationSteps(due),
        HeapTrim(),
        *(
            [RankingMetrics(folder, cfg.data.relevance_level, cfg.stage.name, validated, windows=data.settings.windows)]
            if module.losses.trains_head
            else []
        ),
        progress,
        SaveExport(folder / EXPORT, data.encoder),
        stop,
        *([EarlyStopping(monitor, patience=patience, mode=mode, check_on_train_epoch_end=False)] if patience else []),
        # Two of them: Lightning's save_last follows the best one, and so stays behind while nothing improves.
        best,
        RunCheckpoint(checkpoints, "last", save_on_train_epoch_end=False, enable_version_counter=False),
    ]
    trainer = run_data.build_trainer(
        run_data.trainer_arguments(cfg),
        callbacks,
        max_steps=cfg.stage.steps,
        val_check_interval=cfg.stage.steps,  # until ValidationSteps sets it
        check_val_every_n_epoch=None,
        num_sanity_val_steps=1,
        log_every_n_steps=min(10, due[0]),
        logger=logger,
        plugins=[AtomicCheckpointIO()],
    )
    try:
        with stop.listening():
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        trainer.strategy.barrier()  # the others would look for the export before the first process has written it
    finally:
        logger.save()  # what a logger keeps back isn't lost should the test fail
    data.trainer = None
    value = None if best.best_model_score is None else float(best.best_model_score)
    steps = {"of": cfg.stage.steps, "trained": trainer.global_step}
    return {"steps": steps, "train_s": round(progress.seconds, 1), "validation": {"measure": measure, "best": value}}


@contextmanager
def _logging(cfg: DictConfig, folder: Path) -> Iterator[Logger]:
    """Keep a run's logger open from its first step to its test; W&B would begin another run for what comes later."""
    logger, status = run_data.build_logger(cfg, folder), "failed"
    if isinstance(logger, CSVLogger) and rank_zero_only.rank == 0:
        _take_up(logger, folder)
    try:
        yield logger
        status = "success"
    finally:
        logger.finalize(status)
        finish_wandb()


def _take_up(logger: CSVLogger, folder: Path) -> None:
    """Let ``metrics.csv`` of a run that is resumed go on behind its checkpoint's step; what comes later is logged again.

    Lightning's logger removes the file that it finds, which so stands aside until its rows are back.
    """
    log, last = Path(logger.log_dir) / "metrics.csv", folder / "checkpoints" / "last.ckpt"
    aside = log.with_name("metrics.before.csv")
    if not last.is_file():
        aside.unlink(missing_ok=True)
        return
    if log.is_file() and not aside.is_file():  # else a run was killed between the two
        log.replace(aside)
    if aside.is_file():
        checkpoint = torch.load(last, map_location="cpu", mmap=True, weights_only=True)
        step, again = checkpoint["global_step"], repeats_validation(checkpoint)
        with aside.open(newline="") as file:
            whole = [line for line in file if line.endswith("\n")]  # the last one may have been cut
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(whole)]
        done = [row for row in rows if int(row["step"]) < step]
        validated = any("val/" in key for key in done[-1]) if done else False
        logger.experiment.metrics += done[:-1] if again and validated and int(done[-1]["step"]) == step - 1 else done
        logger.save()
        aside.unlink()


def finish_wandb() -> None:
    """End the W&B run: a sweep's next job would go on logging into it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _described(cfg: DictConfig, module: StageModule, data: StreamDataModule, parents: dict[str, Any]) -> dict[str, Any]:
    """Return what ``run.json`` says of a network in training."""
    shape = module.ranker.config
    return {
        "learnt_from": _learnt_from(cfg, parents),
        "started_from": start_in_words(cfg, _followed(parents)),
        "ranks": module.losses.trains_head,
        **data.names,
        "data": data.account(),
        "losses": list(module.losses.losses),
        "shape": {"layers": shape.num_hidden_layers, "width": shape.hidden_size, "heads": shape.num_attention_heads}
        | {"parameters": parameter_count(module.ranker), "family": family_of(shape).name}
        | {"layout": data.encoder.layout.told(data.encoder.tokenizer)},
    }


def _followed(parents: dict[str, Any]) -> str:
    """Say what the run started from that this one goes on with, if there is one."""
    record = read_record(Path(parents["student"]["source"]).parent) if "student" in parents else None
    return (record or {}).get("started_from", "")


def _learnt_from(cfg: DictConfig, parents: dict[str, Any]) -> str:
    if cfg.stage.teacher == "none":
        return "labels"
    taught = f", an assistant of {place_name(networks.teacher_source(cfg))}" if asks_assistant(cfg) else ""
    source = " ".join(place_name(str(folder)) for folder in score_folders(cfg))
    return (source or place_name(networks.learnt_source(cfg, parents))) + taught


def log_table(cfg: DictConfig, text: str, measured: Mapping[str, float], pictures: Sequence[Path], out: Path) -> None:
    """Give W&B the same table and plot, and any logger the measures."""
    if cfg.get("logger") is None:
        return
    logger = run_data.build_logger(cfg, out)
    if isinstance(logger, WandbLogger):
        header, _, *lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()]
        logger.log_table("comparison", columns=header, data=lines)
        logger.log_image("frontier", [str(file) for file in pictures if file.suffix == ".png"])
    logger.log_metrics(dict(measured))
    logger.finalize("success")
    finish_wandb()
