"""The parts of a run, built from its config: readers, DataModule, networks, losses, callbacks."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from transformers import PreTrainedTokenizerFast

from rankdistil.data.datamodule import DataSettings, RankingDataModule
from rankdistil.data.encode import PairEncoder
from rankdistil.data.folder import FolderSplit
from rankdistil.data.readers import Holdout, Reader
from rankdistil.losses import Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.layers import map_layers
from rankdistil.models.load import load_language_model, load_ranker, read_config
from rankdistil.models.student import StudentSize, build_student, check_match
from rankdistil.models.teacher import FrozenTeacher
from rankdistil.modules import DistillModule, FinetuneModule, StageModule
from rankdistil.optim import OptimSettings
from rankdistil.plan import teacher_folder
from rankdistil.settings import build, names, plain


def data_settings(data: DictConfig) -> DataSettings:
    """Read the plain settings of ``data``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return DataSettings(**{name: data[name] for name in names(DataSettings) if name in data})


def optim_settings(stage: DictConfig) -> OptimSettings:
    """Read the optimiser's settings of ``stage``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    share = stage.warmup_share
    if not isinstance(share, int | float) or not 0 <= share < 1:
        raise ValueError(f"stage.warmup_share is {share!r}; expected a number in [0, 1).")
    steps = stage.steps if isinstance(stage.steps, int) else 0
    return OptimSettings(stage.lr, stage.steps, round(share * steps), stage.weight_decay, stage.gradient_clip)


def student_size(student: DictConfig) -> StudentSize:
    """Read the student's shape."""
    return StudentSize(**{name: student[name] for name in names(StudentSize)})


def open_reader(data: DictConfig, split: str) -> Reader:
    """Open a split: an ir_datasets id, the files of ``data.root``, or training queries held out for validation.

    Raises:
        ValueError: if the split isn't named and nothing is held out.
    """
    source = data[split]
    holdout = Holdout(data.holdout, inside=split == "valid") if data.valid is None and split != "test" else None
    if holdout is not None:
        if data.holdout < 1:
            raise ValueError(f"data.valid is null and data.holdout is {data.holdout}: set one of them, to validate on.")
        source = data.train
    if not isinstance(source, DictConfig):
        return Reader(str(source), holdout)
    return Reader(FolderSplit(root=str(data.root), corpus=data.corpus, **plain(source)), holdout)


def build_data(
    cfg: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int, seed: int, train: bool
) -> RankingDataModule:
    """Build the DataModule; without training, only the test split is opened."""
    settings = data_settings(cfg.data)
    encoder = PairEncoder(tokenizer, settings.query_tokens, settings.passage_tokens, positions)
    readers = (open_reader(cfg.data, "train"), open_reader(cfg.data, "valid")) if train else (None, None)
    return RankingDataModule(*readers, open_reader(cfg.data, "test"), encoder, settings, seed)


def teacher_source(cfg: DictConfig) -> str:
    """Return where the network comes from that a stage starts from or learns from."""
    if cfg.stage.teacher == "ranker":
        return str(cfg.teacher.export or teacher_folder(cfg) / "export")
    return str(cfg.teacher.path)


def load_teacher(cfg: DictConfig) -> CrossEncoder:
    """Load the stage's teacher, or the pretrained language model that becomes the teacher ranker."""
    if cfg.stage.teacher == "ranker":
        return load_ranker(teacher_source(cfg))
    return load_language_model(teacher_source(cfg), seed=cfg.seed)


def kept_losses(cfg: DictConfig) -> dict[str, DictConfig]:
    """Return the losses of a stage that its student can take."""
    dropped = plain(cfg.student.drop_losses) if cfg.stage.learns == "student" else []
    return {name: node for name, node in cfg.stage.losses.items() if name not in dropped}


def build_losses(cfg: DictConfig, projection: Projection | None) -> WeightedSum:
    """Build the stage's losses."""
    nodes = kept_losses(cfg)
    losses = {name: build(node.loss, f"stage.losses.{name}.loss") for name, node in nodes.items()}
    for name, node in nodes.items():
        if isinstance(node.weight, bool) or not isinstance(node.weight, int | float):
            raise ValueError(f"stage.losses.{name}.weight is {node.weight!r}; expected a number of at least 0.")
    return WeightedSum(losses, {name: node.weight for name, node in nodes.items()}, projection)


def check_student(cfg: DictConfig) -> None:
    """Refuse a student that can't match its teacher, before the teacher is trained.

    Raises:
        ValueError: naming both sides and the fix.
    """
    size = student_size(cfg.student)
    shape = read_config(str(cfg.teacher.export or cfg.teacher.path))
    map_layers(cfg.stage.layer_map, size.layers, shape.num_hidden_layers)
    Projection(cfg.stage.projection, size.hidden_size, shape.hidden_size, size.layers + 1)
    check_match(size, shape, build_losses(cfg, None).needs)


def build_module(cfg: DictConfig, teacher: CrossEncoder) -> StageModule:
    """Build the stage's module around its network.

    Raises:
        ValueError: if the student can't match its teacher, naming both sides and the fix.
    """
    optim = optim_settings(cfg.stage)
    if cfg.stage.learns == "teacher":
        return FinetuneModule(teacher, build_losses(cfg, None), optim)
    size, shape = student_size(cfg.student), teacher.config
    layer_map = map_layers(cfg.stage.layer_map, size.layers, shape.num_hidden_layers)
    projection = Projection(cfg.stage.projection, size.hidden_size, shape.hidden_size, size.layers + 1)
    losses = build_losses(cfg, projection)
    check_match(size, shape, losses.needs)  # again: a run may start from its folder's config
    student = build_student(size, teacher, cfg.student.init_from, cfg.seed)
    return DistillModule(student, losses, optim, FrozenTeacher(teacher), layer_map)


def trainer_arguments(cfg: DictConfig) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that say where to run; ``precision=auto`` is decided here."""
    arguments = plain(cfg.trainer)
    if str(arguments.get("precision")).startswith("16"):
        raise ValueError("trainer.precision=16 needs a loss scaler; use bf16-mixed, which doesn't overflow, or 32-true.")
    if arguments.get("precision") == "auto":
        arguments["precision"] = "bf16-mixed" if _computes_bfloat16(arguments.get("accelerator")) else "32-true"
    return arguments


def _computes_bfloat16(accelerator: str | None) -> bool:
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()  # elsewhere bfloat16 is emulated and slower than float32


def build_logger(cfg: DictConfig, folder: Path) -> L.pytorch.loggers.Logger:
    """Build the logger.

    Raises:
        ValueError: if the logger's package isn't installed, with the command that installs it.
    """
    name = str(cfg.logger._target_).rpartition(".")[2]
    try:
        return build(cfg.logger, "logger", save_dir=str(folder))
    except ModuleNotFoundError as error:
        extra = name.removesuffix("Logger").lower()
        raise ValueError(
            f"logger={extra} needs a package that isn't installed. Run: pip install 'rankdistil[{extra}]' "
            f"(from a clone: pip install -e '.[{extra}]'). {error}"
        ) from None
