"""Data and other parts of a run around its networks, built from its config: readers, DataModules, Trainer, logger."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig
from transformers import PreTrainedTokenizerFast

from rankdistil.config.checks import build
from rankdistil.config.choices import asks_scorer, each_test, mines, named_source, score_folders, scorer_settings, searches
from rankdistil.config.schema import listed, names, plain, require_known
from rankdistil.data.batches.datamodule import RankingDataModule, RerankingTask
from rankdistil.data.batches.passages import PassageDataModule
from rankdistil.data.batches.training_groups import lists_groups
from rankdistil.data.check.whole import Check, Split
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.encode import PairEncoder
from rankdistil.data.fetch import KINDS, Wanted, fetch, missing
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.files.folder import FolderSplit
from rankdistil.data.settings import DataSettings
from rankdistil.data.windows import Windows
from rankdistil.inference.machine import require_bfloat16, resolve_precision
from rankdistil.inference.stopwatch import TimingSettings
from rankdistil.metrics.ranking import CUTOFF, ceiling
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.locate import on_hub_only
from rankdistil.processes import ranks
from rankdistil.processes.group import TIMEOUT_S
from rankdistil.teachers.scorers import token_lengths
from rankdistil.words import installing

WANDB_INIT_S = 6  # that W&B waits for its server; its own process may take 10 more to say so


def data_settings(data: DictConfig) -> DataSettings:
    """Read the plain settings of ``data``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return DataSettings(**{name: data[name] for name in names(DataSettings) if name in data} | {"windows": read_windows(data)})


def read_windows(data: DictConfig) -> Windows | None:
    """Read ``data.windows``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return Windows.of(plain(data.get("windows")), "data.windows")


def tolerance(data: DictConfig) -> Tolerance:
    """Read what ``data`` puts up with in the user's files.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    return Tolerance(**{name: data[name] for name in names(Tolerance) if name in data})


def timing_settings(cfg: DictConfig) -> TimingSettings | None:
    """Read the plain settings of ``callbacks.inference_time``; None where it is null, and nothing is timed.

    Raises:
        ValueError: for a key that nothing reads or that is missing, or a value out of range, naming its key.
    """
    section, known = cfg.callbacks.inference_time, names(TimingSettings)
    if section is None:
        return None
    require_known(section, known, "callbacks.inference_time")
    if missing_keys := [key for key in known if key not in section]:
        raise ValueError(f"callbacks.inference_time lacks {', '.join(missing_keys)}: don't set it to null beside keys of it.")
    return TimingSettings(**plain(section))


def open_reader(data: DictConfig, split: str) -> Reader:
    """Open a split: an ir_datasets id, the files of ``data.root``, or training queries held out for validation or test.

    Raises:
        ValueError: if the split isn't named and nothing is held out.
    """
    tests = each_test(data)
    source = tests[0].test if split == "test" else data[split]
    apart = [name for name, named in (("valid", data.valid), ("test", tests[0].test)) if named is None]
    if apart and data.holdout < 1:
        what = "to validate on" if apart[0] == "valid" else "to test on"
        raise ValueError(f"data.{apart[0]} is null and data.holdout is {data.holdout}: set one of them, {what}.")
    holdout = None
    if split in apart:
        source, holdout = data.train, Holdout(data.holdout, True, data.holdout * apart.index(split), data.relevance_level)
    elif split == "train" and apart:
        holdout = Holdout(data.holdout * len(apart), inside=False, level=data.relevance_level)
    runs = [run for run in listed(data.candidates) if run is not None]  # null: what a split has itself, if no run ranks it
    more = {"language": data.get("language", "en")}
    if split == "train":
        more["negatives_runs"] = listed(data.get("negatives_runs"))
    if not isinstance(source, DictConfig):
        return Reader(str(source), holdout, tolerance(data), runs, store_folder(data), **more)
    splits = [named for named in (data.train, data.valid, tests[0].test) if isinstance(named, DictConfig)]
    lone = source.get("triples") or source.get("triples_text")
    shares = not lone and sum(named.get("queries") == source.queries for named in splits) > 1
    files = plain(source) | {"columns": plain(data.columns), "shares_queries": shares}
    folder = FolderSplit(root=str(data.root), corpus=data.corpus, **files)
    return Reader(folder, holdout, tolerance(data), runs, store_folder(data), **more)


def all_readers(cfg: DictConfig) -> list[Reader]:
    """Open every split that a training run reads."""
    readers = [open_reader(cfg.data, split) for split in ("train", "valid")]
    readers += [open_reader(data, "test") for data in each_test(cfg.data)]
    return [*readers, open_passages(cfg.data)] if cfg.stage.reads == "passages" else readers


def wanted(cfg: DictConfig, train: bool, valid: bool = False) -> Wanted:
    """Say what a run reads of which ir_datasets ids; without training, of the test splits only, and of validation if asked.

    Where ``data.candidates`` names runs, a split that none of them ranks needs its own candidates, which is known only once its
    queries are on this machine.
    """
    kinds: dict[str, set[str]] = {}

    def add(reader: Reader, *read: str) -> None:
        if isinstance(reader.source, str):
            kinds.setdefault(reader.source, set()).update(read)

    def add_ranking(reader: Reader) -> None:
        own = None in listed(cfg.data.candidates)  # asked for beside runs
        ranked = reader.negatives_runs or (
            not own and reader.runs and (missing(reader.dataset, ["queries"]) or reader.run is not None)
        )
        add(reader, "docs", "queries", "qrels", *(() if ranked else ("scoreddocs",)))

    for data in each_test(cfg.data):
        add_ranking(open_reader(data, "test"))
    if train and cfg.stage.reads == "passages":
        kinds = {}  # it neither trains on judgments nor tests
        add(open_passages(cfg.data), "docs")
    elif train:
        reader = open_reader(cfg.data, "train")
        if searches(cfg):
            add(reader, "docs", "queries", "qrels")
        elif not mines(cfg) and lists_groups(cfg.data.train_on, cfg.data.negatives, reader.dataset.has_docpairs()):
            add(reader, "docs", "queries", "docpairs")
        else:
            add_ranking(reader)
        add_ranking(open_reader(cfg.data, "valid"))
    elif valid:
        add_ranking(open_reader(cfg.data, "valid"))
    return {name: (Reader(name).dataset, [kind for kind in KINDS if kind in read]) for name, read in kinds.items()}


def fetch_data(cfg: DictConfig, train: bool, valid: bool = False) -> None:
    """Fetch what a run reads and this machine lacks; without training, of the test splits only, and of validation if asked.

    Raises:
        ConnectionError: if the network doesn't answer, with everything that is missing.
    """
    fetch(wanted(cfg, train, valid))
    if cfg.data.candidates:  # now that the queries are here, it is known which splits no run ranks
        fetch(wanted(cfg, train, valid))


def store_folder(data: DictConfig) -> Path | None:
    """Return the folder of the stores."""
    return None if data.store is None else Path(data.store).expanduser()


def build_encoder(data: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int) -> PairEncoder:
    """Build the encoder of pairs.

    Raises:
        ValueError: for a length that the network has no positions for, or windows that don't fit into it.
    """
    return PairEncoder(tokenizer, data.max_length, positions, read_windows(data))


def build_data(
    cfg: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int, seed: int, train: bool
) -> RankingDataModule:
    """Build the DataModule; without training, only the test split is opened."""
    settings = data_settings(cfg.data)
    encoder = build_encoder(cfg.data, tokenizer, positions)
    readers = (open_reader(cfg.data, "train"), open_reader(cfg.data, "valid")) if train else (None, None)
    scores = score_folders(cfg) if train else []
    return RankingDataModule(*readers, open_reader(cfg.data, "test"), encoder, settings, seed, scores)


def first_stages(data: RankingDataModule, named: Sequence[str | None]) -> tuple[list[RerankingTask], list[str | None]]:
    """Return what a test re-ranks after each first stage, and the runs that rank its queries; it keeps the first of them.

    Args:
        data: with the test alone.
        named: runs, ``BM25`` or None for the split's own candidates; fewer than two leave it to the reader.

    Raises:
        ValueError: for two of one name.
    """
    (reader,) = data.readers
    if len(named) < 2:
        return [data.task("test")], [reader.run]
    used = [run for run in named if run is None or reader.ranked_by(run).run == run]
    tasks = [data.after(run) for run in used] or [data.task("test")]
    names = [task.first_stage for task in tasks]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"data.candidates names two first stages that are called {twice[0]}. Rename one of the files.")
    data.rerank(tasks[0])
    return tasks, used


def build_texts(cfg: DictConfig) -> RankingDataModule:
    """Build the DataModule of a teacher that scores texts: of what is trained on, and of the first test split."""
    readers = [open_reader(cfg.data, split) for split in ("train", "valid", "test")]
    return RankingDataModule(*readers, None, data_settings(cfg.data), cfg.seed)


def build_passages(cfg: DictConfig, tokenizer: PreTrainedTokenizerFast, positions: int) -> PassageDataModule:
    """Build the DataModule of a stage that reads passages as text."""
    settings = data_settings(cfg.data)
    encoder = PairEncoder(tokenizer, cfg.data.max_length, positions)  # a text alone has no windows: nothing is asked of it
    return PassageDataModule(open_passages(cfg.data), encoder, settings, cfg.seed)


def open_passages(data: DictConfig) -> Reader:
    """Open the text that a language model is learnt from: ``data.passages``, or the training split's collection."""
    if data.passages is None:
        return open_reader(data, "train")
    return Reader(str(data.passages), store=store_folder(data))


def check_data(cfg: DictConfig) -> Check:
    """Look through all data of a config, without training."""
    data = cfg.data
    splits = [Split(name, open_reader(data, name), data.relevance_level) for name in ("train", "valid")]
    splits += [Split("test", open_reader(test, "test"), test.test_relevance_level) for test in each_test(data)]
    if data.passages is not None:
        splits.append(Split("passages", open_passages(data), data.relevance_level))
    check = Check(data_settings(data), data.on_bad)
    check.look(splits)
    if not check.stops():
        _tell_ceilings(check, splits)
        _tell_cuts(check, cfg)
    return check


def _tell_ceilings(check: Check, splits: Sequence[Split]) -> None:
    """Say what re-ranking can gain at most, and where it can gain little."""
    for split in splits:
        if split.name not in ("valid", "test"):
            continue
        depth, _ = check.settings.reranked(split.name)
        key = "data.depth" if split.name == "test" else "data.valid_depth"
        if depth <= CUTOFF:
            check.notes.append(
                f"{split.name}: {key}={depth} is no more than the {CUTOFF} passages that nDCG@{CUTOFF} looks at: none comes "
                "into view from further down. Set it higher."
            )
        found = check.ranking(split)
        most = found and ceiling(*found, split.relevance_level)
        if most is not None:
            check.facts.append(
                f"{split.name} ({split.reader.label}): the first {depth} candidates ({split.reader.first_stage}) hold "
                f"{most.relevant:.1%} of the relevant passages, at least one for {most.answered:.1%} of the queries: best "
                f"possible nDCG@{CUTOFF} {most.best:.4f} ({len(found[1])} queries)."
            )


def _tell_cuts(check: Check, cfg: DictConfig) -> None:
    """Say how many texts are cut, where the tokenizer is on this machine."""
    if not check.texts:
        return
    source = named_source(cfg)
    if on_hub_only(source):
        check.facts.append(f"how many texts are cut is not told: the tokenizer of {source} is not on this machine.")
        return
    if asks_scorer(cfg):
        _tell_own_cuts(check, cfg)
        return
    encoder = build_encoder(cfg.data, load_tokenizer(source), sys.maxsize)
    lengths = [[len(ids) for ids in encoder.token_ids(found.sample, encoder.reach + 1)] for _, _, found in check.texts]
    asked = [length for own, (_, kind, _) in zip(lengths, check.texts, strict=True) if kind == "query" for length in own]
    beside = int(median(asked)) if asked else 0  # tokens of the query that a passage shares its pair with
    for own, (file, kind, found) in zip(lengths, check.texts, strict=True):
        most = encoder.room // 2 if kind == "query" else encoder.room - min(beside, encoder.room // 2)
        plural = {"passage": "passages", "query": "queries"}[kind]
        whole = f"{len(own)} {plural}" if len(own) == len(found) else f"{len(own)} sampled {plural}"
        if kind == "passage" and encoder.windows is not None:
            counts = encoder.count(np.full(len(own), beside), np.array(own))
            behind = sum(length > encoder.reach for length in own) / max(len(own), 1)
            check.facts.append(
                f"{file}: {whole} are read in {counts.mean():.1f} windows on average beside a query of {beside} tokens (the "
                f"median), {(counts > 1).mean():.1%} in several; {behind:.1%} are cut behind {encoder.reach} tokens."
            )
            continue
        where = "by a long passage" if kind == "query" else f"beside a query of {beside} tokens (the median)"
        share = sum(length > most for length in own) / len(own)
        check.facts.append(f"{file}: {share:.1%} of {whole} are cut {where} at data.max_length={encoder.max_length}.")


def _tell_own_cuts(check: Check, cfg: DictConfig) -> None:
    """Say how many texts have more tokens than a teacher of another kind reads."""
    settings = scorer_settings(cfg)
    for file, kind, found in check.texts:
        lengths, most = token_lengths(settings, found.sample)
        share = sum(length > most for length in lengths) / len(lengths)
        plural = {"passage": "passages", "query": "queries"}[kind]
        told = f"{share:.1%} of {len(lengths)} {plural} have more than {most} tokens (teacher.max_length)"
        check.facts.append(f"{file}: {told}.")


def trainer_arguments(cfg: DictConfig) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that say where to run; ``precision=auto`` is decided here.

    Returns:
        Those of ``build_trainer``: ``timeout`` is among them.

    Raises:
        ValueError: for a precision that can't be used.
    """
    arguments = {"timeout": TIMEOUT_S} | plain(cfg.trainer)
    arguments.pop("compile", None)  # which is no business of the Trainer's
    if str(arguments.get("precision")).startswith("16"):
        raise ValueError("trainer.precision=16 needs a loss scaler; use bf16-mixed, which doesn't overflow, or 32-true.")
    if "precision" in arguments:
        arguments["precision"] = resolve_precision(arguments["precision"], arguments.get("accelerator"))
        if arguments.get("accelerator") == "cpu" and str(arguments["precision"]).startswith("bf16"):
            require_bfloat16(f"trainer.precision={arguments['precision']}", "trainer.precision=auto")
    return arguments


def build_trainer(
    arguments: dict[str, Any], callbacks: Sequence[L.Callback], plugins: Sequence[Any] = (), **more: Any
) -> L.Trainer:
    """Build a Trainer that shards no data by itself and prints nothing.

    Args:
        arguments: see ``trainer_arguments``.
        callbacks: they see everything in this order.
        plugins: those of the Trainer, besides the one that tells it which process this is.
        more: further arguments of the Trainer.
    """
    arguments = dict(arguments)
    rank = ranks.current()
    del arguments["timeout"]  # of the process group, which is there before
    if rank is not None and rank.world > 1 and arguments.get("strategy", "auto") == "auto":
        arguments["strategy"] = "ddp"  # what Lightning would choose
    return L.Trainer(
        **arguments | more,
        callbacks=[*callbacks],
        plugins=[*plugins, ranks.environment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def build_logger(cfg: DictConfig, folder: Path) -> L.pytorch.loggers.Logger:
    """Build the logger; W&B's is offline where its server doesn't answer, or has no key: no run ends for want of a logger.

    Raises:
        ValueError: if the logger's package isn't installed, with the command that installs it.
    """
    name = str(cfg.logger._target_).rpartition(".")[2]
    try:
        logger = build(cfg.logger, "logger", save_dir=str(folder))
    except ModuleNotFoundError as error:
        extra = name.removesuffix("Logger").lower()
        raise ValueError(f"logger={extra} needs a package that isn't installed ({error}). Run: {installing(extra)}") from None
    if not isinstance(logger, WandbLogger):
        return logger
    import wandb

    os.environ.setdefault("WANDB_INIT_TIMEOUT", str(WANDB_INIT_S))
    try:
        logger.experiment  # noqa: B018  (asked for it, the logger starts its run)
    except wandb.Error as error:
        logger = build(cfg.logger, "logger", save_dir=str(folder), mode="offline")
        why, place = str(error).partition("\n")[0], logger.experiment.settings.sync_dir
        print(f"wandb: offline, as its server can't be used ({why}). Later: wandb sync {place}", file=sys.stderr, flush=True)
    return logger
