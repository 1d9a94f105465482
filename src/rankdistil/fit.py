"""One stage from its config to its finished folder: train, export, test, card, table."""

import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from rich.console import Console

from rankdistil import parts
from rankdistil.callbacks.checkpoints import AtomicCheckpointIO
from rankdistil.callbacks.finite_loss import FiniteLoss
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.ranking_metrics import RankingMetrics
from rankdistil.callbacks.save_export import SaveExport
from rankdistil.callbacks.stream_position import StreamPosition
from rankdistil.data.datamodule import RankingDataModule
from rankdistil.files import write_json
from rankdistil.lineage import fingerprint, origin, read_run
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.load import load_tokenizer
from rankdistil.modules import StageModule
from rankdistil.plan import teacher_folder
from rankdistil.report.result import same_test
from rankdistil.report.summary import conclude
from rankdistil.scoring import score_export
from rankdistil.settings import plain

MONITOR = "val/nDCG@10"


def run_stage(cfg: DictConfig, folder: Path, settings: dict[str, Any], console: Console) -> None:
    """Run a stage whose folder is locked and prepared.

    Args:
        cfg: a checked config.
        folder: the run folder.
        settings: what decides the outcome; written into ``run.json``.
        console: where the closing table goes.

    Raises:
        ValueError: for settings that don't fit together; nothing but ``.hydra/`` is written by then.
    """
    quieten()
    L.seed_everything(cfg.seed, verbose=False)
    teacher = parts.load_teacher(cfg)
    tokenizer = load_tokenizer(parts.teacher_source(cfg))
    if len(tokenizer) > (known := teacher.config.vocab_size):
        raise ValueError(
            f"{parts.teacher_source(cfg)}: its tokenizer has {len(tokenizer)} tokens, its network knows {known}. "
            "Tokenizer and weights don't belong together."
        )
    data = parts.build_data(cfg, tokenizer, teacher.config.max_position_embeddings, cfg.seed, train=True)
    module = parts.build_module(cfg, teacher)
    for name in sorted(set(cfg.stage.losses) - set(parts.kept_losses(cfg))):
        console.print(f"student {cfg.student.name} can't take the {name} loss: dropped (student.drop_losses).")
    data.open()
    record = _record(cfg, settings, module, data)
    write_json(folder / "run.json", record)
    started = time.monotonic()
    try:
        _fit(cfg, folder, module, data)
        record["train_s"] = round(time.monotonic() - started, 1)
        teacher_results = _test(cfg, folder, data, teacher if cfg.stage.learns == "student" else None)
    except BaseException as error:
        write_json(folder / "run.json", record | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    conclude(cfg, folder, record, teacher_results, console)
    record |= {
        "status": "finished",
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "wall_s": round(time.monotonic() - started, 1),
    }
    write_json(folder / "run.json", record)


def run_label(folder: Path) -> str:
    """Name a run (method, student, run name) or any other folder by the last parts of its path, as its test files do."""
    return "_".join(part for part in folder.parts[-3:] if part != folder.anchor)


def quieten() -> None:
    """Silence what the libraries say about themselves; problems still show."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # tokenising is no bottleneck on a CPU
    warnings.filterwarnings("ignore", message=".*has `__len__` defined.*")  # CandidateStream shards over workers itself
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning 2.6 under torch 2.13
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # the run folder, which holds .hydra/


def _test(cfg: DictConfig, folder: Path, data: RankingDataModule, teacher: CrossEncoder | None) -> Path | None:
    """Test the export; return the folder with the teacher's results on the same test, made here if its run has none."""
    timing, trainer, level = plain(cfg.callbacks.inference_time), parts.trainer_arguments(cfg), cfg.data.test_relevance_level
    label = run_label(folder)
    score_export(str(folder / "export"), data, folder, label, level, trainer, timing, teacher)
    if teacher is None:
        return None
    source = teacher_folder(cfg)
    if cfg.teacher.export is None and same_test(source, folder):
        return source
    score_export(parts.teacher_source(cfg), data, folder / "teacher", f"teacher {cfg.teacher.name}", level, trainer, timing)
    return folder / "teacher"


def _fit(cfg: DictConfig, folder: Path, module: StageModule, data: RankingDataModule) -> None:
    checkpoints = folder / "checkpoints"
    resume = checkpoints / "last.ckpt" if (checkpoints / "last.ckpt").is_file() else None
    if resume is not None and (folder / "metrics.csv").is_file():
        (folder / "metrics.csv").replace(folder / f"metrics.before-{time.strftime('%Y%m%d-%H%M%S')}.csv")
    logger = parts.build_logger(cfg, folder)
    logger.log_hyperparams(plain(cfg))
    callbacks = [
        StreamPosition(cfg.seed),
        FiniteLoss(),
        RankingMetrics(folder, cfg.data.relevance_level, tag=cfg.stage.name),
        ProgressReport(f"{cfg.stage.name} {cfg[cfg.stage.learns].name}"),
        SaveExport(folder / "export", data.encoder.tokenizer, data.encoder.max_tokens),
        # Two of them: Lightning's save_last follows the best one, and so stays behind while nothing improves.
        ModelCheckpoint(checkpoints, "best", monitor=MONITOR, mode="max", enable_version_counter=False),
        ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=False, enable_version_counter=False),
    ]
    trainer = L.Trainer(
        **parts.trainer_arguments(cfg),
        max_steps=cfg.stage.steps,
        val_check_interval=max(1, cfg.stage.steps // cfg.stage.validations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=1,
        log_every_n_steps=10,
        logger=logger,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    finally:
        logger.finalize("success" if trainer.state.finished else "failed")
        _finish_wandb()
    data.trainer = None


def _finish_wandb() -> None:
    """End the W&B run: a sweep's next job would go on logging into it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _record(cfg: DictConfig, settings: dict[str, Any], module: StageModule, data: RankingDataModule) -> dict[str, Any]:
    shape = module.ranker.config
    parents = {}
    if cfg.stage.teacher == "ranker":
        source = Path(parts.teacher_source(cfg)).parent
        parent = None if cfg.teacher.export else read_run(source)
        parents["teacher"] = {"source": parts.teacher_source(cfg), "fingerprint": parent and parent["fingerprint"]}
    return {
        "status": "running",
        "stage": cfg.stage.name,
        "fingerprint": fingerprint(settings),
        "settings": settings,
        "seed": cfg.seed,
        "parents": parents,
        "origin": origin(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "learnt_from": parts.teacher_source(cfg),
        "train": str(data.names["train"]),
        "test": str(data.names["test"]),
        "losses": list(module.losses.losses),
        "shape": {"layers": shape.num_hidden_layers, "width": shape.hidden_size, "heads": shape.num_attention_heads},
    }
