"""Command-line parsing: help, words as Hydra can read them, packages that an extra brings.

Hydra adds no key to a section that lacks it (``data.depth`` of ``evaluate.py``, ``data.columns={...}``, an argument of
Lightning's Trainer), and reads the words of a
sweep once without the groups that it sweeps. What is added so is still checked: a key that nothing reads is refused by
``rankdistil.config.checks``.

Hydra's own help prints the whole config; what a newcomer needs is which experiments there are. They are read from their files.
"""

import importlib
import importlib.metadata
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from types import ModuleType
from typing import Any

from rankdistil.files import CHECKOUT, called

SETTING = re.compile(r"(\+{0,2})([\w$][\w$./@-]*)=(.*)", re.DOTALL)
PLAIN = re.compile(r"[\w./:%+@?*$\\ -]*", re.ASCII)  # a value that needs no quotes
OPEN = {
    "train": ("trainer",),
    "evaluate": ("data", "trainer"),
}  # root config -> its sections that take keys without having them


def readable(words: Sequence[str], config_name: str, conf: Path) -> list[str]:
    """Rewrite the words that Hydra couldn't read; the others stay as they are.

    Args:
        words: of the command line, options among them.
        config_name: the root config.
        conf: the folder of configs, whose folders are the groups.
    """
    swept = any(_sweeps_group(word, conf) for word in words)
    return [_readable(word, OPEN.get(config_name, ()), swept) for word in words]


def unreadable(word: str) -> str:
    """Say how to type a word that Hydra can't read."""
    key, sign, value = word.partition("=")
    if not sign:
        return f"{word!r} is no setting. Expected <key>=<value>."
    if not SETTING.fullmatch(word) and not word.startswith("~"):
        return f"{word!r} is no setting: {key!r} is no key. Expected <key>=<value>."
    if key.lstrip("+~").startswith("sizes."):  # no part of Hydra's keys begins with a digit
        own = f"student.{key.rpartition('.')[2]}={value}"
        return f"{word} can't be read: sizes are what conf/scale says. Type {own} for the one chosen."
    if value[:1] in ("[", "{"):
        return (
            f"{word} can't be read: a bracket is not closed, or an item has signs that need quotes. Quote the item, and the "
            """whole for the shell: 'models=["runs/a, b","runs/c"]'."""
        )
    signs = " ".join(dict.fromkeys(PLAIN.sub("", value))) or '"'
    needs = f"a value with {signs} in it needs quotes, inside of those of the shell"
    return f"{word} can't be read: {needs}. Type: {_quoted(key, value)}"


def several(word: str) -> str:
    """Say what a comma in a value may mean, for a command that is no sweep."""
    key, _, value = word.partition("=")
    return (
        f"{word} names several values, and this is no sweep. For one text type {_quoted(key, value)}, for a list "
        f"{shlex.quote(f'{key}=[{value}]')}; for a sweep add -m."
    )


def key_of(word: str) -> str:
    """Return the key that a word sets."""
    return word.partition("=")[0].lstrip("+~")


def keys_of(word: str) -> list[str]:
    """List the keys that a word sets, those inside of ``{...}`` one by one; none for a word that takes one away."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if word.startswith("~"):
        return []
    return _inner(key_of(word), OverridesParser.create().parse_override(word).value())


def _inner(key: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [found for name, child in value.items() for found in _inner(f"{key}.{name}", child)]


def first_choice(word: str) -> str:
    """Return the word with the first of its choices, where it has several."""
    key, sign, value = word.partition("=")
    return f"{key}{sign}{value.partition(',')[0]}"


def _readable(word: str, sections: Sequence[str], swept: bool) -> str:
    found = SETTING.fullmatch(word)
    if found is None:
        return word
    plus, key, value = found.groups()
    if "." not in key or key.startswith("hydra."):
        return word
    added = key.partition(".")[0] in sections or value.startswith("{") or (swept and not plus and _choices(value) == [value])
    return f"++{key}={value}" if added else word


def _choices(value: str) -> list[str]:
    """List what a sweep takes of a value: the value alone where it is no sweep, nothing where that can't be told."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"x={value}")
        return list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]
    except HydraException:  # what can't be read; a glob, whose files aren't known here; an interval of a search
        return []


def _sweeps_group(word: str, conf: Path) -> bool:
    found = SETTING.fullmatch(word)
    return found is not None and (conf / found[2]).is_dir() and _choices(found[3]) != [found[3]]


def _quoted(key: str, value: str) -> str:
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    return shlex.quote(f'{key}="{escaped}"')


ASKED = ("--help", "-h")
WIDTH, LEFT = 120, 34  # characters of a line, and of its first column
HYDRA = "--cfg job prints the config that a command makes, --info defaults where its parts come from, --hydra-help more options"

TRAIN = f"""Trains a stage. Parents that are missing are trained first.

  {{command}} +experiment=<name> [<key>=<value> ...]

experiments (conf/experiment):
{{experiments}}

often added:
{{students}}
{{scales}}
{{row_files}}

also:
{{row_plan}}
{{row_sweep}}
{{row_resume}}

{HYDRA}.
Keys and their defaults: conf/train.yaml and conf/scale; your own data: conf/data/README.md; all else: README.md.{{where}}
"""

EVALUATE = f"""Compares finished rankers: quality, differences with their significance, agreement, inference time.

  {{command}} models=<runs, exports, hub ids or TREC run files> [<key>=<value> ...]

examples:
{{row_all}}
{{row_two}}

often added:
{{row_baseline}}
{{row_rescore}}
{{row_data}}
{{row_several}}
{{row_collections}}
{{row_untimed}}

{HYDRA}.
All keys: conf/evaluate.yaml; all else: README.md.{{where}}
"""

PROGRAM = """Distils cross-encoder rankers: BERT and its family.

  rankdistil <command> [<key>=<value> ...]

train           a stage, and its parents that are missing: rankdistil train +experiment=ranker_distill_6l
evaluate        compare finished rankers: rankdistil evaluate models='runs/*/*/*'
export          graphs for other runtimes: rankdistil export run=<run> to=onnx,int8
import-scores   published scores of a teacher
fetch           files of ir_datasets ids
rank            re-rank a run file, or score pairs: rankdistil rank export=<run>/export pairs=pairs.tsv
serve           a ranker over HTTP: rankdistil serve <run>/export --port 8000

Each says more with --help.
"""

ROWS = {
    "files": ("data=files data.root=mydata", "your own corpus, queries and judgments"),
    "plan": ("plan=show, plan=check", "print what would run and how long it takes; look through the data; then exit"),
    "sweep": ("-m student=6l,4l seed=0,1,2", "a sweep: one run for every combination"),
    "resume": ("resume=true", "continue a run that was stopped"),
    "all": ("models='runs/*/*/*'", "all runs; a glob needs quotes"),
    "two": ("models=[runs/a/6l/seed0,b.run]", "a list: here a run and a TREC run file"),
    "baseline": ("against.baseline=<row>", "the row that all others are compared with; the first stage by default"),
    "rescore": ("rescore=true", "test runs again instead of reading their own test"),
    "data": ("data.test=<split>, data.depth=100", "another test than the first run's own"),
    "several": ("data.candidates=[bm25,a.run]", "several first stages: the gain on each"),
    "collections": ("collections=[almanac,<folder>,<id>]", "several collections, with their mean"),
    "untimed": ("callbacks.inference_time=null", "no inference times: quality alone, which takes seconds"),
}


def train_help(conf: Path) -> str:
    """Say what training takes.

    Args:
        conf: the folder of configs.
    """
    return TRAIN.format(
        experiments="\n".join(_row(*row) for row in _experiments(conf)),
        students=_row("student=4l", f"the student's size: {_listed(conf, 'student')} (default: 6l)"),
        scales=_row("scale=smoke", f"how big everything is: {_listed(conf, 'scale')} (default: laptop)"),
        **_told("train", conf),
    )


def evaluate_help(conf: Path) -> str:
    """Say what an evaluation takes; ``conf`` is the folder of configs."""
    return EVALUATE.format(**_told("evaluate", conf))


def program_help() -> str:
    """Say which commands the program of an installed package has."""
    return PROGRAM


def module_help(doc: str) -> str:
    """Make a command's help out of the docstring of its module, which says what it does, an example and its keys."""
    return doc.replace("::\n\n", "").replace("``", "").strip() + "\n"


def key_values(words: Sequence[str], keys: Sequence[str], required: Sequence[str], usage: str) -> dict[str, str]:
    """Read words of the form ``key=value``, for a command that isn't Hydra's.

    Args:
        words: of the command line.
        keys: that there are.
        required: those that have to be set.
        usage: of the command, for messages.

    Raises:
        ValueError: for a word that is none, a key that isn't expected or is given twice, or one that is missing.
    """
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in keys:
            raise ValueError(f"{word!r} is no setting; the keys are {', '.join(keys)}. Usage: {usage}")
        if key in values:
            raise ValueError(f"{key} is given twice: {values[key]} and {value}.")
        values[key] = value
    for key in required:
        if key not in values:
            raise ValueError(f"{key} is not set. Usage: {usage}")
    return values


def asked_for_help(words: Sequence[str], text: str) -> int | None:
    """Print the help where it is asked for, or where nothing is.

    Args:
        words: of the command line.
        text: the help.

    Returns:
        The exit status: 0 where it was asked for, 2 without a word; None where there is something to do.
    """
    if not words:
        print(text, end="", file=sys.stderr)
        return 2
    if any(word in ASKED for word in words):
        print(text, end="")
        return 0
    return None


def _experiments(conf: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((conf / "experiment").glob("*.yaml")):
        claim = re.search(r"^# Claim: (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        yield file.stem, claim.group(1) if claim else ""


def _listed(conf: Path, group: str) -> str:
    return ", ".join(sorted(file.stem for file in (conf / group).glob("*.yaml")))


def _told(command: str, conf: Path) -> dict[str, str]:
    """Say how a command is typed here, and where there is more to read."""
    where = "" if CHECKOUT else f"\nconf is {conf}; experiments of your own, in a folder like it: --config-dir <folder>."
    return {f"row_{name}": _row(*row) for name, row in ROWS.items()} | {"command": called(command), "where": where}


def _row(left: str, right: str) -> str:
    indent = " " * LEFT
    return fill(right, WIDTH, initial_indent=f"  {left:<{LEFT - 3}} ", subsequent_indent=indent) if right else f"  {left}"


def require(name: str, what: str, extra: str = "formats") -> ModuleType:
    """Import a package of an extra.

    Args:
        name: of the package.
        what: needs it, for the message.
        extra: brings it.

    Raises:
        ValueError: if it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise ValueError(f"{what} needs the package {package}, which isn't installed. Run: {installing(extra)}") from None


def installing(extra: str) -> str:
    """Say how to install an extra: in a checkout by its name, else by its packages, wherever this one came from."""
    if CHECKOUT:
        return f"pip install -e '.[{extra}]'"
    words = [each.partition(";") for each in importlib.metadata.requires("rankdistil") or ()]
    return shlex.join(
        ["pip", "install", *(name.strip() for name, _, when in words if re.search(rf"extra *== *.{extra}\b", when))]
    )
