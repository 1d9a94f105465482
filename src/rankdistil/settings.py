"""Checks of a composed config before anything is read or written, and the only place where ``_target_`` is followed.

Hydra's own blocklist is no boundary: a config may name any importable function. Here a target must be one of ours, or a logger.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from rankdistil.cli import unknown_key

TARGETS = re.compile(r"rankdistil\.losses\.[A-Z]\w+|lightning\.pytorch\.loggers\.[A-Z]\w+Logger")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
SECRET = re.compile(r"(api_?key|token|password|secret)$", re.IGNORECASE)
SECTIONS = (
    "seed", "method", "follows", "follows_run", "run_name", "folder", "resume", "plan", "paths", "student", "teacher", "data",
    "trainer", "callbacks", "logger", "sizes", "steps", "lr", "validations", "patience", "dropout", "recipe",
    "stage",
)  # fmt: skip
STAGE = (
    "name", "learns", "teacher", "reads", "steps", "lr", "warmup_share", "weight_decay", "gradient_clip", "dropout",
    "validations", "patience", "layer_map", "projection", "losses",
)  # fmt: skip
TEACHER = ("name", "path", "seed", "run", "export", "scores")
SOURCES = (
    "name", "root", "corpus", "columns", "train", "valid", "test", "more_tests", "candidates", "passages", "holdout",
    "test_relevance_level",
)  # fmt: skip
TRAINER = (
    "accelerator", "devices", "num_nodes", "strategy", "timeout", "compile", "precision", "accumulate_grad_batches",
    "deterministic", "benchmark", "detect_anomaly",
)  # fmt: skip
ELSEWHERE = {  # what Lightning's Trainer takes too, and where it is set here
    "max_steps": "stage.steps", "max_epochs": "stage.steps", "gradient_clip_val": "stage.gradient_clip",
    "val_check_interval": "stage.validations", "logger": "logger",
}  # fmt: skip
STAGES = ("teacher", "lm_distill", "finetune", "ranker_distill", "layer_distill", "logit_distill")
LOSSES = ("embedding", "hidden", "attention", "logits", "labels")
STRATEGIES = ("auto", "ddp")
CHOICES = {
    "plan": ("run", "show", "check"),
    "stage.learns": ("teacher", "student", "nothing"),
    "stage.teacher": ("none", "ranker", "language_model"),
    "stage.reads": ("triples", "passages"),
}


def plain(node: Any) -> Any:
    """Resolve a config into dicts, lists and plain values."""
    return (
        OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if isinstance(node, DictConfig | ListConfig) else node
    )


def require_known(keys: Iterable[str] | None, known: Iterable[str], section: str) -> None:
    """Refuse keys that nothing reads (a ``+`` in front of an override doesn't make them heard), and null in place of a section.

    Raises:
        ValueError: with the key that may be meant.
    """
    prefix = f"{section}." if section else ""
    known = list(known)
    if keys is None:
        raise ValueError(f"{section} is null; expected the section with its keys: {', '.join(known)}. Leave it as it is.")
    for key in keys:
        if SECRET.search(key) and key not in known:  # query_tokens and the like are known
            raise ValueError(f"{prefix}{key} looks like a secret, and settings are written to files. Use the environment.")
        if key not in known:
            raise ValueError(unknown_key(f"{prefix}{key}", [f"{prefix}{name}" for name in known]))


def check(cfg: DictConfig) -> None:
    """Check names and keys of a training config.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    from rankdistil.models.student import StudentSize

    require_known(cfg, SECTIONS, "")
    require_known(cfg.stage, STAGE, "stage")
    require_known(cfg.teacher, TEACHER, "teacher")
    require_known(cfg.student, [*names(StudentSize), "init_from", "drop_losses", "steps", "lr", "layer_map"], "student")
    require_known(cfg.trainer, [*TRAINER, *ELSEWHERE], "trainer")
    if moved := [key for key in cfg.trainer if key in ELSEWHERE]:
        raise ValueError(f"trainer.{moved[0]} has no effect here. Set {ELSEWHERE[moved[0]]}.")
    require_known(cfg.callbacks, ("inference_time", "gradient_shares"), "callbacks")
    require_known(cfg.callbacks.gradient_shares, ("every",), "callbacks.gradient_shares")
    require_known(cfg.steps, (*STAGES, cfg.stage.name), "steps")
    require_known(cfg.lr, (*STAGES, cfg.stage.name), "lr")
    for name in cfg.student.drop_losses:
        if name not in (*LOSSES, *cfg.stage.get("losses", ())):
            raise ValueError(f"student.drop_losses names {name!r}; the losses are {', '.join(LOSSES)}.")
    check_data(cfg.data)
    for name, node in cfg.stage.get("losses", {}).items():
        require_known(node, ("weight", "loss"), f"stage.losses.{name}")
        bind(node.loss, f"stage.losses.{name}.loss")
    bind(cfg.logger, "logger")
    for key in ("method", "run_name", "student.name", "follows_run", "teacher.name"):
        value = str(OmegaConf.select(cfg, key))
        if not NAME.fullmatch(value):
            raise ValueError(
                f"{key} is {value!r}; expected a name of 1 to 64 letters, digits or any of . _ + - that starts with a letter "
                "or digit: run folders are built from it."
            )
    for key, expected in CHOICES.items():
        if (value := OmegaConf.select(cfg, key)) not in expected:
            raise ValueError(f"{key} is {value!r}; expected one of {', '.join(expected)}.")
    for key, low in (("seed", 0), ("teacher.seed", 0), ("stage.validations", 1), ("stage.patience", 1)):
        value = OmegaConf.select(cfg, key)
        if key.startswith("stage.") and (cfg.stage.learns == "nothing" or (key == "stage.patience" and value is None)):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{key} is {value!r}; expected a whole number of at least {low}.")
    if (strategy := cfg.trainer.get("strategy", "auto")) not in STRATEGIES:
        raise ValueError(
            f"trainer.strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}. FSDP and the like shard what is "
            "trained: a student, which fits; a frozen teacher would stay whole on every device. For a teacher that doesn't "
            "fit, let what runs it write its scores, and learn from those: python -m rankdistil.data.import_scores, "
            "teacher.scores=<folder>."
        )
    scores = plain(cfg.teacher.scores)
    if scores is not None and (scores == [] or not all(isinstance(each, str) for each in _listed(scores))):
        raise ValueError(f"teacher.scores is {scores!r}; expected a folder of scores, a list of at least one, or null.")
    if not isinstance(cfg.resume, bool):
        raise ValueError(f"resume is {cfg.resume!r}; expected true or false.")


def check_data(data: DictConfig) -> None:
    """Check the keys of ``data``.

    Raises:
        ValueError: for a key that nothing reads.
    """
    from rankdistil.data.badlines import Tolerance
    from rankdistil.data.settings import DataSettings

    require_known(data, [*names(DataSettings), *names(Tolerance), *SOURCES], "data")


def names(settings: type) -> list[str]:
    """List the fields of a settings class."""
    return [field.name for field in fields(settings)]


def target(node: Mapping[str, Any], section: str) -> type:
    """Return the class that ``_target_`` names.

    Raises:
        ValueError: if it isn't one of those allowed, or doesn't exist.
    """
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
    known = [*inspect.signature(found).parameters]
    if found.__name__ == "WandbLogger":  # hands further keys on to wandb.init
        import wandb

        known += inspect.signature(wandb.init).parameters
    require_known([key for key in node if key != "_target_"], known, section)
    if inner := [key for key, value in node.items() if _names_target(plain(value))]:
        raise ValueError(f"{section}.{inner[0]} holds a _target_; only {section} itself may name one.")
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _names_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_names_target(child) for child in value.values())
    return isinstance(value, list) and any(_names_target(child) for child in value)


def build(node: DictConfig, section: str, **values: Any) -> Any:
    """Build the object that a node describes, after checking its target; ``values`` win over the node's own."""
    found = bind(node, section)
    return found(**{key: plain(value) for key, value in node.items() if key != "_target_"} | values)
