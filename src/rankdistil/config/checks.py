"""Config validation before anything is read or written, and the only place where ``_target_`` is followed.

Hydra's own blocklist is no boundary: a config may name any importable function. Here a target must be one of ours, or a logger.

No key may name a secret, and what comes from the environment is written down as a reference only: settings land in the run's
folder, in its loggers and in reports.
"""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from rankdistil.config import schema
from rankdistil.config.schema import plain, require, require_known
from rankdistil.files import called, short_hash

TARGETS = re.compile(r"rankdistil\.losses\.[A-Z]\w+|lightning\.pytorch\.loggers\.[A-Z]\w+Logger")
PLAIN = {bool: schema.TRUTH, float: schema.NUMBER, int: schema.WHOLE, str: schema.TEXT}  # other types judge for themselves


def check(cfg: DictConfig) -> None:
    """Check names, keys and values of a training config.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    refuse_secrets(cfg)
    require(cfg, schema.TRAINING, "")
    for key in ("steps", "lr"):
        require_known(cfg[key], (*schema.STAGES, cfg.stage.name), key)
    _check_sizes(cfg.sizes)
    _check_margin(cfg)
    _check_windows(cfg)
    _check_losses(cfg)
    _check_assistant(cfg.teacher)
    bind(cfg.logger, "logger")


def check_evaluation(cfg: DictConfig) -> None:
    """Check names, keys and values of a config of ``evaluate.py``, but for its data.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    refuse_secrets(cfg)
    require(cfg, schema.EVALUATION, "")
    if cfg.get("logger") is not None:
        bind(cfg.logger, "logger")


def check_data(data: DictConfig) -> None:
    """Check the keys of ``data``.

    Raises:
        ValueError: for a key that nothing reads, or what can't be a file.
    """
    require(data, schema.DATA, "data")


def check_start(cfg: DictConfig) -> None:
    """Check what is needed before processes that started together speak to each other: the run's folder, and the trainer.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    for key in ("paths", "folder", "trainer"):
        require({key: cfg[key]}, {key: schema.TRAINING[key]}, "")


def _check_sizes(sizes: DictConfig) -> None:
    """Check the sizes of students; one that lacks a key isn't one, but mistyped."""
    whole = [size for size, node in sizes.items() if isinstance(node, DictConfig) and node.keys() >= schema.OF_SIZE.keys()]
    require(sizes, dict.fromkeys(whole, schema.OF_SIZE), "sizes")


def _check_margin(cfg: DictConfig) -> None:
    """See that a margin is one of scores: those that are named or, where negatives are mined, the miner's own."""
    margin, scores = cfg.data.get("negatives_margin"), cfg.data.get("negatives_scores")
    if "depth" not in cfg.stage and (margin is None) != (scores is None):
        raise ValueError("data.negatives_margin and data.negatives_scores belong together: set both, or neither.")


def _check_windows(cfg: DictConfig) -> None:
    """Refuse windows beside scores that were, or will be, written down: those are of whole documents."""
    if cfg.data.get("windows") is None:
        return
    scores = cfg.teacher.scores if cfg.stage.learns == "student" and cfg.stage.teacher == "ranker" else None
    if scores is not None:
        raise ValueError(
            f"data.windows stands beside teacher.scores={scores}, which holds one score of a whole document, and training "
            "compares a window of it. Learn from the teacher itself (teacher.scores=null); or train with data.windows=null, "
            f"and read documents in windows later: {called('evaluate')} models=<run> data.windows=..., Reranker(windows=...)."
        )
    if cfg.stage.learns == "nothing":
        raise ValueError(
            f"data.windows has no effect in stage {cfg.stage.name}, which writes down one score or rank of a whole document. "
            "Set data.windows=null."
        )


def _check_losses(cfg: DictConfig) -> None:
    if cfg.stage.learns != "nothing":
        losses = cfg.stage.get("losses")
        require_known(losses, losses if isinstance(losses, Mapping) else schema.LOSSES, "stage.losses")
        for name, node in losses.items():
            require_known(node, ("weight", "loss"), f"stage.losses.{name}")
            bind(node.get("loss"), f"stage.losses.{name}.loss")
    for name in plain(cfg.student.drop_losses):
        if name not in (*schema.LOSSES, *(cfg.stage.get("losses") or ())):
            raise ValueError(f"student.drop_losses names {name!r}; the losses are {', '.join(schema.LOSSES)}.")


def _check_assistant(teacher: DictConfig) -> None:
    """Refuse an assistant beside what stands in the place of the teacher ranker's own run, which teaches it."""
    if teacher.assistant is None:
        return
    for key in ("scores", "export"):
        if teacher[key] is not None:
            size = "" if teacher.assistant_size is None else f" student={teacher.assistant_size}"
            raise ValueError(
                f"teacher.{key}={teacher[key]} stands beside teacher.assistant={teacher.assistant}, which the teacher's own "
                "run teaches, and which alone teaches the student. Leave one of them out; or train the assistant from it first "
                f"({called('train')} +experiment={teacher.assistant}{size} teacher.{key}=<the same>), and name its run: "
                "teacher.assistant=null teacher.export=<run>/export."
            )


def target(node: Mapping[str, Any], section: str) -> type:
    """Return the class that ``_target_`` names.

    Raises:
        ValueError: if it isn't one of those allowed, or doesn't exist.
    """
    if not isinstance(node, Mapping | DictConfig):
        raise ValueError(f"{section} is {node!r}; expected the section with its _target_ and keys. Leave it as it is.")
    path = str(node.get("_target_"))
    if not TARGETS.fullmatch(path):
        raise ValueError(
            f"{section}._target_ is {path!r}; expected rankdistil.losses.<Loss> or lightning.pytorch.loggers.<Logger>."
        )
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise ValueError(f"{section}._target_ is {path!r}, which doesn't exist.")
    return found


def bind(node: DictConfig, section: str) -> type:
    """Check that a node's keys are parameters of its target, and return the target.

    Raises:
        ValueError: for a key that isn't one, or a target further down, which would be followed without having been checked.
    """
    found = target(node, section)
    whole = inspect.signature(found).parameters
    parameters = {name: each for name, each in whole.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    known = [*parameters]
    if found.__name__ == "WandbLogger":  # hands further keys on to wandb.init
        import wandb

        known += inspect.signature(wandb.init).parameters
    values = {key: plain(value) for key, value in node.items() if key != "_target_"}
    require_known(values, known, section)
    for key, value in values.items():
        if _names_target(value):
            raise ValueError(f"{section}.{key} holds a _target_; only {section} itself may name one.")
        if key in parameters and (expect := PLAIN.get(parameters[key].annotation)):
            expect(f"{section}.{key}", value)
    return found


def _names_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_names_target(child) for child in value.values())
    return isinstance(value, list) and any(_names_target(child) for child in value)


def build(node: DictConfig, section: str, **values: Any) -> Any:
    """Build the object that a node describes, after checking its target; ``values`` win over the node's own."""
    found = bind(node, section)
    return found(**{key: plain(value) for key, value in node.items() if key != "_target_"} | values)


SECRET = re.compile(r"((api|access|private|secret)[_-]?key|token|passw(or)?d|secret|credentials?)$", re.IGNORECASE)


SIGNED_IN = re.compile(r"\w://[^/@\s]+:[^/@\s]+@")


def recorded(node: Any) -> Any:
    """Resolve a config as ``rankdistil.config.schema.plain`` does, for files and loggers.

    A text that comes from the environment stays a reference, as it may be a secret. A digest beside it tells whether it is
    another one the next time.
    """
    if isinstance(node, ListConfig):
        return [_recorded(node, place) for place in range(len(node))]
    if isinstance(node, DictConfig):
        return {key: _recorded(node, key) for key in node}
    return node


def _recorded(node: DictConfig | ListConfig, key: Any) -> Any:
    value = node[key]
    if not isinstance(value, str):
        return recorded(value)  # a number or a switch is no secret
    with _references():
        reference = node[key]
    digest = short_hash(value)[:8]
    return value if reference == value else f"{reference} ({digest})"


@contextmanager
def _references() -> Iterator[None]:
    """Let ``${oc.env:NAME}`` stand for itself."""
    OmegaConf.register_new_resolver("oc.env", lambda *words: f"${{oc.env:{','.join(map(str, words))}}}", replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def refuse_secrets(node: Any, section: str = "") -> None:
    """Refuse keys that name a secret, and URLs that hold one, at any depth: settings are written to files.

    Raises:
        ValueError: naming the key, not its value.
    """
    children = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else node
    pairs = children.items() if isinstance(children, dict) else enumerate(children) if isinstance(children, list) else ()
    for key, child in pairs:
        name = f"{section}.{key}".lstrip(".")
        if isinstance(key, str) and SECRET.search(key):
            raise ValueError(f"{name} looks like a secret, and settings are written to files. Use the environment.")
        if isinstance(child, str) and SIGNED_IN.search(child):
            raise ValueError(
                f"{name} holds a URL with a password, and settings are written to files. Use the environment: "
                f"{name}='${{oc.env:NAME}}'."
            )
        refuse_secrets(child, name)
