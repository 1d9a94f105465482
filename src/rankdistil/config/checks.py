"""Checks of a composed config before anything is read or written, and the only place where ``_target_`` is followed.

Hydra's own blocklist is no boundary: a config may name any importable function. Here a target must be one of ours, or a logger.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from math import isfinite
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from rankdistil.cli import unknown_key
from rankdistil.config.secrets import SECRET, refuse_secrets

TARGETS = re.compile(r"rankdistil\.losses\.[A-Z]\w+|lightning\.pytorch\.loggers\.[A-Z]\w+Logger")
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
STAGES = ("teacher", "lm_distill", "finetune", "ranker_distill", "layer_distill", "logit_distill")
TRAINER = (
    "accelerator", "devices", "num_nodes", "strategy", "timeout", "compile", "precision", "accumulate_grad_batches",
    "deterministic", "benchmark", "detect_anomaly",
)  # fmt: skip
ELSEWHERE = {  # what Lightning's Trainer takes too, and where it is set here
    "max_steps": "stage.steps", "max_epochs": "stage.steps", "gradient_clip_val": "stage.gradient_clip",
    "val_check_interval": "stage.validations", "logger": "logger",
}  # fmt: skip
STRATEGIES = ("auto", "ddp")
LOSSES = ("embedding", "hidden", "attention", "logits", "labels")
EVALUATION = (
    "models", "against", "rescore", "seed", "method", "folder", "paths", "data", "trainer", "callbacks", "logger",
)  # fmt: skip
SIZE = ("hidden_size", "heads", "intermediate_size", "drop_losses", "steps", "lr", "layer_map")
RECIPE = {"": ("relative", "attention", "logits", "weights"), ".weights": ("embedding", "hidden", "attention", "logits")}
FILES = ("root", "corpus", "store", "negatives_scores")  # of ``data``: a text each, or null


def plain(node: Any) -> Any:
    """Resolve a config into dicts, lists and plain values."""
    return (
        OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if isinstance(node, DictConfig | ListConfig) else node
    )


def require_known(keys: Any, known: Iterable[str], section: str) -> None:
    """Refuse keys that nothing reads (a ``+`` in front of an override doesn't make them heard), and what is no section.

    Raises:
        ValueError: with the key that may be meant.
    """
    prefix = f"{section}." if section else ""
    known = list(known)
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        found = "null" if keys is None else repr(keys)
        raise ValueError(f"{section} is {found}; expected the section with its keys: {', '.join(known)}. Leave it as it is.")
    for key in keys:
        if SECRET.search(str(key)) and key not in known:  # max_tokens is known
            raise ValueError(f"{prefix}{key} looks like a secret, and settings are written to files. Use the environment.")
        if key not in known:
            raise ValueError(unknown_key(f"{prefix}{key}", [f"{prefix}{name}" for name in known]))


def check(cfg: DictConfig) -> None:
    """Check names and keys of a training config.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    from rankdistil.models.student import StudentSize

    refuse_secrets(cfg)
    require_known(cfg, SECTIONS, "")
    require_known(cfg.stage, STAGE, "stage")
    require_known(cfg.teacher, TEACHER, "teacher")
    require_known(cfg.student, [*names(StudentSize), "init_from", "drop_losses", "steps", "lr", "layer_map"], "student")
    require_known(cfg.paths, ("runs",), "paths")
    _check_trainer(cfg.trainer)
    require_known(cfg.callbacks, ("inference_time", "gradient_shares"), "callbacks")
    require_known(cfg.callbacks.gradient_shares, ("every",), "callbacks.gradient_shares")
    require_known(cfg.steps, (*STAGES, cfg.stage.name), "steps")
    require_known(cfg.lr, (*STAGES, cfg.stage.name), "lr")
    for part, known in RECIPE.items():
        require_known(OmegaConf.select(cfg, f"recipe{part}"), known, f"recipe{part}")
    _check_sizes(cfg.sizes)
    check_data(cfg.data)
    _check_losses(cfg)
    bind(cfg.logger, "logger")
    for key in ("method", "run_name", "student.name", "follows_run", "teacher.name"):
        value = OmegaConf.select(cfg, key)
        if value is None or not NAME.fullmatch(str(value)):
            raise ValueError(f"{key} is {value!r}; expected {A_NAME}: run folders are built from it.")
    check_place(cfg.teacher.run, "teacher.run")
    check_values(cfg)
    scores = plain(cfg.teacher.scores)
    if scores is not None and (scores == [] or not all(isinstance(each, str) for each in _listed(scores))):
        raise ValueError(f"teacher.scores is {scores!r}; expected a folder of scores, a list of at least one, or null.")


def check_evaluation(cfg: DictConfig) -> None:
    """Check names and keys of a config of ``evaluate.py``, but for its data.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    refuse_secrets(cfg)
    require_known(cfg, EVALUATION, "")
    require_known(cfg.against, ("teacher", "baseline"), "against")
    require_known(cfg.paths, ("evaluations",), "paths")
    require_known(cfg.callbacks, ("inference_time", "gradient_shares"), "callbacks")
    _check_trainer(cfg.trainer)
    if cfg.get("logger") is not None:
        bind(cfg.logger, "logger")
    check_folder(cfg)
    check_values(cfg)
    models = _listed(plain(cfg.models))
    if models == [] or not all(isinstance(model, str) and model for model in models):
        raise ValueError(f"models is {plain(cfg.models)!r}; expected a run, export, hub id, TREC run file or glob, or a list.")


def check_data(data: DictConfig) -> None:
    """Check the keys of ``data``.

    Raises:
        ValueError: for a key that nothing reads, or what can't be a file.
    """
    from rankdistil.data.files.bad_lines import Tolerance
    from rankdistil.data.files.folder import FolderSplit
    from rankdistil.data.files.layout import checked
    from rankdistil.data.settings import DataSettings

    require_known(data, [*names(DataSettings), *names(Tolerance), *SOURCES], "data")
    files = {f"data.{key}": data.get(key) for key in FILES}
    checked(plain(data.get("columns")) or {})
    of_split = [name for name in names(FolderSplit) if name not in ("root", "corpus", "columns", "shares_queries")]
    further = [(f"more_tests[{number}]", node) for number, node in enumerate(_listed(plain(data.get("more_tests")) or []))]
    for split, node in [(split, plain(data.get(split))) for split in ("train", "valid", "test")] + further:
        if isinstance(node, dict) or split not in ("train", "valid", "test"):
            require_known(node, of_split, f"data.{split}")
            files |= {f"data.{split}.{kind}": file for kind, file in node.items()}
    candidates = _listed(plain(data.get("candidates")))
    files |= {f"data.candidates[{number}]": file for number, file in enumerate(candidates)}
    for key, file in files.items():
        if not (file is None or (isinstance(file, str) and file)):
            raise ValueError(f"{key} is {file!r}; expected the name of a file or folder, or null.")
    for level in _listed(plain(data.test_relevance_level)):
        if isinstance(level, bool) or not isinstance(level, int) or level < 1:
            raise ValueError(
                f"data.test_relevance_level is {level!r}; expected a whole number of at least 1, or a list of them."
            )


def _check_trainer(trainer: DictConfig) -> None:
    require_known(trainer, [*TRAINER, *ELSEWHERE], "trainer")
    if moved := [key for key in trainer if key in ELSEWHERE]:
        raise ValueError(f"trainer.{moved[0]} has no effect here. Set {ELSEWHERE[moved[0]]}.")
    if (strategy := trainer.get("strategy", "auto")) not in STRATEGIES:
        raise ValueError(
            f"trainer.strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}. FSDP and the like shard what is "
            "trained: a student, which fits; a frozen teacher would stay whole on every device. For a teacher that doesn't "
            "fit, let what runs it write its scores, and learn from those: python -m rankdistil.data.import_scores, "
            "teacher.scores=<folder>."
        )
    devices = plain(trainer.get("devices", 1))
    listed = isinstance(devices, list) and devices != [] and all(type(one) is int and one >= 0 for one in devices)
    text = isinstance(devices, str) and re.fullmatch(r"auto|-1|\d+(,\d+)*", devices)
    if not (listed or text or (type(devices) is int and (devices == -1 or devices > 0))):
        raise ValueError(f"trainer.devices is {devices!r}; expected a number of them, -1 or auto for all, or a list of places.")


def _check_sizes(sizes: DictConfig) -> None:
    """Check the sizes of students; one that lacks a key isn't one, but mistyped."""
    require_known(sizes, sizes, "sizes")
    whole = [size for size, node in sizes.items() if isinstance(node, DictConfig) and all(key in node for key in SIZE)]
    require_known(sizes, whole, "sizes")
    for size, node in sizes.items():
        require_known(node, SIZE, f"sizes.{size}")


def _check_losses(cfg: DictConfig) -> None:
    drops = plain(cfg.student.drop_losses)
    if not isinstance(drops, list):
        raise ValueError(f"student.drop_losses is {drops!r}; expected a list of losses: {', '.join(LOSSES)}.")
    if cfg.stage.learns != "nothing":
        losses = cfg.stage.get("losses")
        require_known(losses, losses or LOSSES, "stage.losses")
        for name, node in losses.items():
            require_known(node, ("weight", "loss"), f"stage.losses.{name}")
            bind(node.get("loss"), f"stage.losses.{name}.loss")
    for name in drops:
        if name not in (*LOSSES, *cfg.stage.get("losses", ())):
            raise ValueError(f"student.drop_losses names {name!r}; the losses are {', '.join(LOSSES)}.")


def names(settings: type) -> list[str]:
    """List the fields of a settings class."""
    return [field.name for field in fields(settings)]


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
    parameters = inspect.signature(found).parameters
    known = [*parameters]
    if found.__name__ == "WandbLogger":  # hands further keys on to wandb.init
        import wandb

        known += inspect.signature(wandb.init).parameters
    require_known([key for key in node if key != "_target_"], known, section)
    if inner := [key for key, value in node.items() if _names_target(plain(value))]:
        raise ValueError(f"{section}.{inner[0]} holds a _target_; only {section} itself may name one.")
    for key, value in node.items():
        if key != "_target_" and (expected := _misfit(plain(value), parameters[key].annotation if key in parameters else None)):
            raise ValueError(f"{section}.{key} is {plain(value)!r}; expected {expected}.")
    return found


def _misfit(value: Any, kind: Any) -> str | None:
    """Say what is expected of a parameter of a plain type where the value isn't that; other types judge for themselves."""
    fits, expected = {
        bool: (isinstance(value, bool), "true or false"),
        float: (isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value), "a number"),
        int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        str: (isinstance(value, str), "a text"),
    }.get(kind, (True, ""))
    return None if fits else expected


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


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
A_NAME = "a name of 1 to 64 letters, digits or any of . _ + - that starts with a letter or digit"
TRUTH = (True, False)
CHOICES = {
    "plan": ("run", "show", "check"),
    "resume": TRUTH,
    "rescore": TRUTH,
    "stage.learns": ("teacher", "student", "nothing"),
    "stage.teacher": ("none", "ranker", "language_model"),
    "stage.reads": ("triples", "passages"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.precision": ("auto", "32-true", "bf16-mixed", "bf16-true", "64-true"),
    "trainer.deterministic": (True, False, "warn"),
    "trainer.benchmark": (True, False, None),
    "trainer.detect_anomaly": TRUTH,
}
WHOLE = {  # key -> least and most
    "seed": (0, 2**32 - 1),
    "teacher.seed": (0, 2**32 - 1),
    "stage.validations": (1, None),
    "stage.patience": (1, None),
    "trainer.accumulate_grad_batches": (1, None),
    "trainer.num_nodes": (1, None),
    "data.holdout": (0, None),
}
OR_NULL = ("stage.patience",)
NOT_THERE = object()


def check_values(cfg: DictConfig) -> None:
    """Check those numbers and choices that no class of plain settings checks; a key that isn't there is left alone.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    for key, expected in CHOICES.items():
        value = OmegaConf.select(cfg, key, default=NOT_THERE)
        # Half precision has an answer of its own, and Lightning's short names are resolved.
        other = key == "trainer.precision" and (str(value).startswith("16") or str(value) in ("32", "64", "bf16"))
        if value is NOT_THERE or other or any(value == one and type(value) is type(one) for one in expected):
            continue
        told = ", ".join("null" if one is None else str(one).lower() for one in expected)
        raise ValueError(f"{key} is {value!r}; expected {'true or false' if expected == TRUTH else f'one of {told}'}.")
    for key, (low, high) in WHOLE.items():
        value = OmegaConf.select(cfg, key, default=NOT_THERE)
        if value is NOT_THERE or (value is None and key in OR_NULL):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            most = "" if high is None else f" and at most {high}"
            raise ValueError(f"{key} is {value!r}; expected a whole number of at least {low}{most}.")


def check_folder(cfg: DictConfig) -> None:
    """Check where a run's folder is, or an evaluation's.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    for key, place in cfg.paths.items():
        if not isinstance(place, str) or not place:
            raise ValueError(f"paths.{key} is {place!r}; expected the name of a folder.")
    check_place(cfg.folder, "folder")


def check_place(folder: Any, key: str) -> None:
    """Check a folder below that of all runs, or of all evaluations.

    Raises:
        ValueError: if it would lie elsewhere, or can't be the name of a folder.
    """
    if folder is None or not all(NAME.fullmatch(part) for part in str(folder).split("/")):
        raise ValueError(f"{key} is {folder!r}; expected a folder below the one of paths: each part of it {A_NAME}.")
