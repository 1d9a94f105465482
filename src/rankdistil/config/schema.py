"""Config schema: the keys of each section and the values that they take, each listed once.

Settings that a class holds are checked where it is made; here its fields are the list of keys. OmegaConf's structured configs
were rejected: they know types but neither ranges nor choices, and their messages say neither what is expected nor the fix.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from math import inf, isfinite
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from rankdistil.cli import unknown_key
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.files.folder import FolderSplit
from rankdistil.data.files.layout import checked
from rankdistil.data.settings import DataSettings
from rankdistil.data.windows import Windows
from rankdistil.models.student import StudentSize
from rankdistil.teachers.answers import require_template
from rankdistil.teachers.scorers import DTYPES, KINDS

Expect = Callable[[str, Any], object]
"""Of a key and its value; raises ``ValueError``, which names the key, what was found and what is expected."""
Section = Mapping[str, Any]
"""By key an ``Expect``, the ``Section`` that it holds, or None where whoever reads the value judges it."""


def plain(node: Any) -> Any:
    """Resolve a config into dicts, lists and plain values."""
    return (
        OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if isinstance(node, DictConfig | ListConfig) else node
    )


def listed(value: Any) -> list[Any]:
    """Return the items of a list, a value as the only one, and none for None."""
    value = plain(value)
    return [] if value is None else value if isinstance(value, list) else [value]


def names(settings: type) -> list[str]:
    """List the fields of a settings class."""
    return [field.name for field in fields(settings)]


def require(node: Any, known: Section, section: str) -> None:
    """Check the keys of a section and their values; a key that isn't there is left alone.

    Raises:
        ValueError: naming the key, what was found and what is expected.
    """
    require_known(node, known, section)
    for key in [key for key in known if known[key] is not None and key in node.keys()]:  # noqa: SIM118  (those not set, too)
        expect, name = known[key], f"{section}.{key}".lstrip(".")
        if isinstance(expect, Mapping):
            require(node[key], expect, name)
        else:
            expect(name, plain(node[key]))


def require_known(node: Any, known: Iterable[str], section: str) -> None:
    """Refuse keys that nothing reads (a ``+`` in front of an override doesn't make them heard), and what is no section.

    Raises:
        ValueError: with the key that may be meant.
    """
    prefix = f"{section}." if section else ""
    known = list(known)
    if not isinstance(node, Mapping):
        found = "null" if node is None else repr(node)
        raise ValueError(f"{section} is {found}; expected the section with its keys: {', '.join(known)}. Leave it as it is.")
    for key in node:
        if key not in known:
            raise ValueError(unknown_key(f"{prefix}{key}", [f"{prefix}{name}" for name in known]))


def expected(told: str, fits: Callable[[Any], object]) -> Expect:
    """Expect what fits, told in words."""

    def expect(key: str, value: Any) -> None:
        if not fits(value):
            raise ValueError(f"{key} is {value!r}; expected {told}.")

    return expect


def whole(low: int, high: float = inf, or_null: bool = False) -> Expect:
    """Expect a whole number between two others, themselves among them."""
    most = "" if high == inf else f" and at most {high}"
    told = f"a whole number of at least {low}{most}"
    return expected(told, lambda value: (or_null and value is None) or (type(value) is int and low <= value <= high))


def one_of(*choices: Any, more: str = "") -> Expect:
    """Expect one of some values; ``more`` is told behind them."""
    told = f"one of {', '.join('null' if one is None else str(one).lower() for one in choices)}{more}"
    return expected(told, lambda value: any(value == one and type(value) is type(one) for one in choices))


def each(expect: Expect) -> Expect:
    """Expect of each item of a list, or of a lone value, what ``expect`` does."""

    def every(key: str, value: Any) -> None:
        for number, item in enumerate(listed(value)):
            expect(f"{key}[{number}]", item)

    return every


def elsewhere(place: str) -> Expect:
    """Refuse a key of Lightning's Trainer that is set in another place here."""

    def refuse(key: str, value: Any) -> None:
        raise ValueError(f"{key} has no effect here. Set {place}.")

    return refuse


def _places(value: Any) -> bool:
    if isinstance(value, list):
        return value != [] and all(type(one) is int and one >= 0 for one in value)
    if isinstance(value, str):
        return re.fullmatch(r"auto|-1|\d+(,\d+)*", value) is not None
    return type(value) is int and (value == -1 or value > 0)


PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
A_NAME = "a name of 1 to 64 letters, digits or any of . _ + - that starts with a letter or digit"
NAME = expected(f"{A_NAME}: run folders are built from it", lambda value: value is not None and PART.fullmatch(str(value)))
PLACE = expected(
    f"a folder below the one of paths: each part of it {A_NAME}",
    lambda value: value is not None and all(PART.fullmatch(part) for part in str(value).split("/")),
)
FOLDER = expected("the name of a folder", lambda value: isinstance(value, str) and value)
FILE = expected("the name of a file or folder, or null", lambda value: value is None or (isinstance(value, str) and value))
NAME_OR_NULL = expected(f"{A_NAME}, or null", lambda value: value is None or PART.fullmatch(str(value)))
TRUTH = expected("true or false", lambda value: isinstance(value, bool))
TEXT = expected("a text", lambda value: isinstance(value, str))
TEXT_OR_NULL = expected("a text or null", lambda value: value is None or isinstance(value, str))
NUMBER = expected("a number", lambda value: type(value) in (int, float) and isfinite(value))
WHOLE = expected("a whole number", lambda value: type(value) is int)
SEED = whole(0, 2**32 - 1)
MINUTES = re.compile(r"([1-9]\d{0,4})min")
EVERY = expected(
    "a number of steps of at least 1 (500), or of minutes (30min), or null",
    lambda value: value is None or (type(value) is int and value >= 1) or MINUTES.fullmatch(str(value)),
)
SHARE = expected("a number above 0 and below 1", lambda value: isinstance(value, float) and 0 < value < 1)
LOSSES = ("embedding", "hidden", "attention", "logits", "labels")
STAGES = (
    "teacher",
    "lm_distill",
    "finetune",
    "ranker_distill",
    "layer_distill",
    "logit_distill",
    "score_distill",
    "relation_distill",
)
OF_SIZE = dict.fromkeys(("hidden_size", "heads", "intermediate_size", "drop_losses", "steps", "lr", "layer_map"))
FILES = {kind: FILE for kind in names(FolderSplit) if kind not in ("root", "corpus", "columns", "shares_queries")}


def _split(key: str, value: Any) -> None:
    if isinstance(value, dict):  # else ids of ir_datasets
        require(value, FILES, key)


def _windows(key: str, value: Any) -> None:
    Windows.of(value, key)


def _named_windows(key: str, value: Any) -> None:
    if value is not None and (not isinstance(value, dict) or not value):
        example = "{cut: null, MaxP: {stride: 64, most: 16}}"
        raise ValueError(f"{key} is {value!r}; expected null, or windows by name: {example}.")
    for name, each in (value or {}).items():
        NAME(f"{key}.{name}", name)
        Windows.of(each, f"{key}.{name}")


DATA: Section = dict.fromkeys((*names(DataSettings), *names(Tolerance), "name", "passages")) | {
    "negatives_runs": each(FILE), "windows": _windows,
    "root": FILE, "corpus": FILE, "store": FILE, "negatives_scores": FILE, "candidates": each(FILE), "holdout": whole(0),
    "train": _split, "valid": _split, "test": _split,
    "more_tests": each(lambda key, node: require(node, FILES, key)),
    "columns": lambda key, value: checked(value or {}),
    "test_relevance_level": expected(
        "a whole number of at least 1, or a list of them",
        lambda value: listed(value) and all(type(level) is int and level >= 1 for level in listed(value)),
    ),
}  # fmt: skip
LONGEST_S = 604_800  # a week
TRAINER: Section = {
    "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "devices": expected("a number of them, -1 or auto for all, or a list of places", _places),
    "num_nodes": whole(1),
    "strategy": one_of(
        "auto", "ddp",
        more=". FSDP and the like shard what is trained: a student, which fits; a frozen teacher would stay whole on every "
        "device. For a teacher that doesn't fit, let what runs it write its scores, and learn from those: "
        "python -m rankdistil.data.import_scores, teacher.scores=<folder>",
    ),
    "timeout": expected(
        f"seconds, more than 0 and at most {LONGEST_S}: so long do processes wait for one another",
        lambda value: type(value) in (int, float) and 0 < value <= LONGEST_S,
    ),
    "compile": TRUTH,
    "precision": expected(  # half precision has an answer of its own, and Lightning's short names are resolved
        "one of auto, 32-true, bf16-mixed, bf16-true, 64-true",
        lambda value: re.fullmatch(r"auto|(32|64)(-true)?|bf16(-mixed|-true)?|16.*", str(value)),
    ),
    "accumulate_grad_batches": whole(1),
    "deterministic": one_of(True, False, "warn"), "benchmark": one_of(True, False, None), "detect_anomaly": TRUTH,
    "max_steps": elsewhere("stage.steps"), "max_epochs": elsewhere("stage.steps"),
    "gradient_clip_val": elsewhere("stage.gradient_clip"), "val_check_interval": elsewhere("stage.validations"),
    "logger": elsewhere("logger"),
}  # fmt: skip
TRAINING: Section = dict.fromkeys(("follows", "logger", "steps", "lr", "validations", "patience", "dropout")) | {
    "sizes": expected("the sizes of students, as conf/scale has them", lambda value: isinstance(value, dict)),
    "seed": SEED, "method": NAME, "follows_run": NAME, "run_name": NAME, "folder": PLACE, "paths": {"runs": FOLDER},
    "resume": TRUTH, "checkpoint_every": EVERY, "plan": one_of("run", "show", "check"),
    "student": dict.fromkeys((*names(StudentSize), "init_from", "steps", "lr", "layer_map")) | {
        "name": NAME, "drop_losses": expected(f"a list of losses: {', '.join(LOSSES)}", lambda value: isinstance(value, list)),
    },
    "teacher": {
        "name": NAME, "path": None, "seed": SEED, "run": PLACE, "export": None, "assistant": NAME_OR_NULL,
        "assistant_size": NAME_OR_NULL, "assistant_run": NAME, "scores": expected(
            "a folder of scores, a list of at least one, or null",
            lambda value: value != [] and all(isinstance(one, str) for one in listed(value)),
        ),
        "kind": one_of(*KINDS), "dtype": one_of("auto", *DTYPES), "max_length": whole(1, or_null=True),
        "query_prompt": TEXT_OR_NULL, "passage_prompt": TEXT_OR_NULL, "template": require_template, "instruction": TEXT,
        "answers": expected(
            "two words, for relevant and not relevant",
            lambda value: isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) and one for one in value),
        ),
        "score_test": TRUTH,
    },
    "data": DATA,
    "trainer": TRAINER,
    "callbacks": {"inference_time": None, "gradient_shares": {"every": None}},
    "recipe": {"relative": None, "attention": None, "logits": None, "weights": dict.fromkeys(LOSSES[:-1])},
    "stage": {
        "name": None, "learns": one_of("teacher", "student", "nothing"), "teacher": one_of("none", "ranker", "language_model"),
        "reads": one_of("triples", "passages"), "negatives": None, "depth": whole(1), "steps": None, "lr": None,
        "warmup_share": None, "weight_decay": None, "gradient_clip": None, "dropout": None, "validations": whole(1),
        "patience": whole(1, or_null=True), "averaging": expected(
            "a decay in [0, 1), or null for no average of the weights",
            lambda value: value is None or (type(value) in (int, float) and 0 <= value < 1),
        ),
        "layer_map": None, "projection": None, "losses": None,
    },
}  # fmt: skip
EVALUATION: Section = dict.fromkeys(("method", "data", "logger")) | {
    "models": expected(
        "a run, export, hub id, TREC run file or glob, or a list",
        lambda value: listed(value) and all(isinstance(model, str) and model for model in listed(value)),
    ),
    "against": {"teacher": None, "baseline": None},
    "collections": expected(
        "a list of files of conf/data, folders, ir_datasets ids or sections with keys of data, or null",
        lambda value: value is None
        or (isinstance(value, list) and value and all(isinstance(one, str | dict) and one for one in value)),
    ),
    "rescore": TRUTH, "precision": SHARE, "windows": _named_windows,
    "seed": SEED, "folder": PLACE, "paths": {"evaluations": FOLDER}, "trainer": TRAINER,
    "callbacks": {"inference_time": None, "gradient_shares": None},
}  # fmt: skip
