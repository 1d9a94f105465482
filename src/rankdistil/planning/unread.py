"""Unused overrides: settings that nothing reads, though whoever types one believes that it counts.

A key that doesn't exist is refused by ``rankdistil.config.checks``. Here are those that exist, and that the chosen stages and
data can't use. A procedure's stages count together: what is typed for its last one may be meant for a parent.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rankdistil.config.choices import (
    asks_assistant,
    asks_scorer,
    asks_teacher,
    each_test,
    mines,
    reads_scores,
    searches,
    tested_scorer,
)
from rankdistil.config.schema import plain
from rankdistil.data.batches.training_groups import lists_groups
from rankdistil.planning.plan import among
from rankdistil.stages import data as run_data
from rankdistil.stages import networks
from rankdistil.teachers.scorers import OF_KIND
from rankdistil.words import keys_of


class Reader(NamedTuple):
    """Who reads a setting.

    Attributes:
        keys: patterns of keys.
        reads: whether the run of a config does.
        otherwise: why none does, for the message.
        grave: whether a run with it may be another one than was meant; else it is only told, as one set of words about data
            may go with several stages.
    """

    keys: tuple[str, ...]
    reads: Callable[[DictConfig], bool]
    otherwise: str
    grave: bool = True


class Complaint(NamedTuple):
    """Attributes: text: which setting, why, what to do; grave: see ``Reader``."""

    text: str
    grave: bool = True


def _ranks(cfg: DictConfig) -> bool:
    return tested_scorer(cfg) or (cfg.stage.learns != "nothing" and networks.build_losses(cfg, None).trains_head)


def _scores_as(kinds: Sequence[str], cfg: DictConfig) -> bool:
    return asks_scorer(cfg) and cfg.teacher.kind in kinds


def _samples(cfg: DictConfig) -> bool:
    if cfg.stage.reads != "triples" or mines(cfg):
        return False
    triples = run_data.open_reader(cfg.data, "train").dataset.has_docpairs()
    return not lists_groups(cfg.data.train_on, cfg.data.negatives, triples)


def _reads_pool(cfg: DictConfig) -> bool:
    """Whether a stage reads what hard negatives are drawn from."""
    return _samples(cfg) or (mines(cfg) and not searches(cfg))


def _holds_out(cfg: DictConfig) -> bool:
    return cfg.data.valid is None or each_test(cfg.data)[0].test is None


def _reads_files(cfg: DictConfig) -> bool:
    return any(isinstance(cfg.data[split], DictConfig) for split in ("train", "valid", "test"))


def _projects(cfg: DictConfig) -> bool:
    learns = cfg.stage.learns == "student" and cfg.stage.teacher != "none"
    return learns and bool(networks.build_losses(cfg, None).needs & {"hidden", "embedding"})


READERS = (
    Reader(("teacher.export",), lambda cfg: cfg.stage.teacher == "ranker", "no stage of it learns from a ranker"),
    Reader(("teacher.scores",), reads_scores, "no student of it learns from a ranker"),
    Reader(
        ("teacher.assistant",), lambda cfg: cfg.stage.learns == "student" and asks_teacher(cfg),
        "no student of it learns from a ranker",
    ),
    Reader(("teacher.assistant_*",), asks_assistant, "no student of it has an assistant"),
    Reader(
        ("teacher.run", "teacher.seed"), lambda cfg: asks_teacher(cfg) and cfg.teacher.export is None,
        "no stage of it asks a teacher's own run",
    ),
    Reader(("teacher.score_test",), lambda cfg: asks_scorer(cfg) and not mines(cfg), "no teacher writes down scores in it"),
    Reader(
        ("teacher.dtype", "teacher.max_length"), asks_scorer,
        "no teacher of another kind than ranker scores in it",
    ),
    *(
        Reader((f"teacher.{key}",), partial(_scores_as, kinds), f"no teacher of kind {' or '.join(kinds)} scores in it")
        for key, kinds in OF_KIND.items()
    ),
    Reader(("data.max_length",), lambda cfg: not asks_scorer(cfg), "its teacher cuts texts by teacher.max_length", grave=False),
    Reader(
        ("data.windows*",), lambda cfg: cfg.stage.reads == "triples" and cfg.stage.learns != "nothing",
        "all stages of it read passages alone",
    ),
    Reader(("checkpoint_every",), lambda cfg: cfg.stage.learns != "nothing", "no stage of it trains"),
    Reader(("follows_run",), lambda cfg: cfg.follows is not None, "it follows no other run"),
    Reader(("student.*",), lambda cfg: cfg.stage.learns == "student", "no stage of it trains a student"),
    Reader(("stage.projection",), _projects, "no loss of it compares hidden states"),
    Reader(("data.negatives_skip",), _samples, "no stage of it samples negatives (triples have theirs)"),
    Reader(
        ("data.negatives_depth", "data.negatives_runs"), _reads_pool,
        "no stage of it samples negatives (triples have theirs) or ranks candidates again",
    ),
    Reader(
        ("stage.negatives",),
        lambda cfg: cfg.stage.reads == "triples" and not mines(cfg) and OmegaConf.is_interpolation(cfg.data, "negatives"),
        "data.negatives stands in its place, or all stages of it read passages",
    ),
    Reader(
        ("data.negatives", "data.negatives_scores", "data.train_on"),
        lambda cfg: cfg.stage.reads == "triples" and not mines(cfg), "all stages of it read passages, or mine negatives",
    ),
    Reader(("data.negatives_margin",), lambda cfg: cfg.stage.reads == "triples", "all stages of it read passages"),
    Reader(("data.passages", "data.valid_passages"), lambda cfg: cfg.stage.reads == "passages", "no stage of it reads text"),
    Reader(("data.batch_size",), lambda cfg: cfg.data.max_tokens is None, "data.max_tokens stands in its place"),
    Reader(("data.holdout",), _holds_out, "data.valid and data.test are named"),
    Reader(("data.root", "data.corpus", "data.columns*", "data.more_tests"), _reads_files, "no split of it is read from files"),
    Reader(
        ("data.depth", "data.test_queries", "data.valid_depth", "data.valid_queries", "callbacks.inference_time.*"), _ranks,
        "no stage of it ranks", grave=False,
    ),
)  # fmt: skip
HANDED_ON = ("steps.*", "lr.*", "sizes.*", "recipe.*", "validations", "patience", "dropout", "student.*")
"""Keys that are read by others of the config alone, through ``${...}``, as far as the student's are no part of its shape."""
OF_SHAPE = ("layers", "hidden_size", "heads", "intermediate_size", "name", "init_from", "drop_losses")
TRAINING = (
    "train", "valid", "passages", "train_on", "batch_size", "max_tokens", "negatives*", "valid_*", "relevance_level",
)  # fmt: skip


def unread(typed: Sequence[str], plan: Sequence[DictConfig]) -> list[Complaint]:
    """Complain about settings that nothing in a plan reads.

    Args:
        typed: words of the command line.
        plan: config of each run, the one that was asked for last.
    """
    complaints, own = [], plan[-1]
    for key in _keys(typed):
        if OmegaConf.select(own, key) is None:  # set to nothing
            continue
        reader = next((each for each in READERS if among(key, each.keys) and not any(map(each.reads, plan))), None)
        if reader is not None:
            text = f"{key} has no effect in this plan: {reader.otherwise}. Leave it out."
            complaints.append(Complaint(text, reader.grave))
        elif among(key, HANDED_ON) and not any(_hands_on(cfg, key) for cfg in plan):
            stages = ", ".join(dict.fromkeys(cfg.stage.name for cfg in plan))
            text = f"{key} has no effect in this plan: none of its stages ({stages}) uses it. Leave it out."
            complaints.append(Complaint(text))
    return complaints


def unread_by_test(typed: Sequence[str], data: DictConfig) -> list[str]:
    """Complain about settings of ``data`` that decide no test: ``typed`` are the words, ``data`` what is tested on."""
    complaints = []
    for section, _, key in (each.partition(".") for each in _keys(typed)):
        if section == "callbacks" and key.startswith("gradient_shares"):
            complaints.append(f"{section}.{key} has no effect in evaluate.py, which trains nothing. Leave it out.")
        if section != "data" or not key:
            continue
        kind = key.partition(".")[0]
        if among(kind, TRAINING) and not (data.test is None and kind in ("train", "valid")):  # what a test is held out of
            complaints.append(f"data.{key} has no effect in evaluate.py: it decides how a run is trained. Leave it out.")
        elif among(key, ("root", "corpus", "columns*")) and not isinstance(data.test, DictConfig):
            complaints.append(f"data.{key} has no effect here: data.test={data.test} is not read from files. Add data=files.")
    return complaints


def _keys(typed: Sequence[str]) -> list[str]:
    return [key for word in typed for key in keys_of(word)]


def _hands_on(cfg: DictConfig, key: str) -> bool:
    """Whether another value of a key changes anything that a run reads; of a section, whether any of its keys does."""
    node, changed = OmegaConf.select(cfg, key), cfg.copy()
    if isinstance(node, DictConfig):
        return any(_hands_on(cfg, f"{key}.{child}") for child in node)
    with open_dict(changed):
        other = 2 * node + 2 if isinstance(node, int | float) and not isinstance(node, bool) else "another"
        OmegaConf.update(changed, key, other, merge=False)
    try:
        return _read(changed) != _read(cfg)
    except OmegaConfBaseException:  # what can't be computed from the other value has read it
        return True


def _read(cfg: DictConfig) -> dict[str, Any]:
    return {"stage": plain(cfg.stage), "student": {key: plain(cfg.student[key]) for key in OF_SHAPE}}
