"""The parts of a run around its networks, built from its config: readers, DataModules, Trainer arguments, logger."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from transformers import PreTrainedTokenizerFast

from rankdistil.data.badlines import Tolerance
from rankdistil.data.check import Check, Split
from rankdistil.data.datamodule import DataSettings, RankingDataModule
from rankdistil.data.encode import PairEncoder
from rankdistil.data.folder import FolderSplit
from rankdistil.data.passages import PassageDataModule
from rankdistil.data.readers import Holdout, Reader
from rankdistil.inference.stopwatch import TimingSettings
from rankdistil.roles import score_folders
from rankdistil.settings import build, names, plain


def data_settings(data: DictConfig) -> DataSettings:
    """Read the plain settings of ``data``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return DataSettings(**{name: data[name] for name in names(DataSettings) if name in data})


def tolerance(data: DictConfig) -> Tolerance:
    """Read what ``data`` puts up with in the user's files.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return Tolerance(**{name: data[name] for name in names(Tolerance) if name in data})


def timing_settings(cfg: DictConfig) -> TimingSettings:
    """Read the plain settings of ``callbacks.inference_time``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return TimingSettings(**plain(cfg.callbacks.inference_time))


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
        return Reader(str(source), holdout, tolerance(data))
    return Reader(FolderSplit(root=str(data.root), corpus=data.corpus, **plain(source)), holdout, tolerance(data))


def build_encoder(data: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int) -> PairEncoder:
    """Build the encoder of pairs.

    Raises:
        ValueError: for budgets that the network has no positions for.
    """
    return PairEncoder(tokenizer, data.query_tokens, data.passage_tokens, positions)


def build_data(
    cfg: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int, seed: int, train: bool
) -> RankingDataModule:
    """Build the DataModule; without training, only the test split is opened."""
    settings = data_settings(cfg.data)
    encoder = build_encoder(cfg.data, tokenizer, positions)
    readers = (open_reader(cfg.data, "train"), open_reader(cfg.data, "valid")) if train else (None, None)
    scores = score_folders(cfg) if train else []
    return RankingDataModule(*readers, open_reader(cfg.data, "test"), encoder, settings, seed, scores)


def build_passages(cfg: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int) -> PassageDataModule:
    """Build the DataModule of a stage that reads passages as text."""
    settings = data_settings(cfg.data)
    encoder = build_encoder(cfg.data, tokenizer, positions)
    return PassageDataModule(open_passages(cfg.data), encoder, settings, cfg.seed)


def open_passages(data: DictConfig) -> Reader:
    """Open the text that a language model is learnt from: ``data.passages``, or the training split's collection."""
    return open_reader(data, "train") if data.passages is None else Reader(str(data.passages))


def check_data(data: DictConfig) -> Check:
    """Look through all data of a config, without training."""
    levels = {"train": data.relevance_level, "valid": data.relevance_level, "test": data.test_relevance_level}
    splits = [Split(name, open_reader(data, name), level) for name, level in levels.items()]
    if data.passages is not None:
        splits.append(Split("passages", open_passages(data), data.relevance_level))
    check = Check(data_settings(data))
    check.look(splits)
    return check


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
