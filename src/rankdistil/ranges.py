"""Numbers, choices and names that settings may hold, where no class of plain settings checks them: one table, one message."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

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
