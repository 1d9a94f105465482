"""What can be typed: the help of ``train.py``, ``evaluate.py`` and the commands ``python -m rankdistil.<name>``.

Hydra's own help prints the whole config; what a newcomer needs is which experiments there are. They are read from their files.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill

ASKED = ("--help", "-h")
WIDTH, LEFT = 120, 34  # characters of a line, and of its first column
HYDRA = "--cfg job prints the config that a command makes, --info defaults where its parts come from, --hydra-help more options"

TRAIN = f"""Trains a stage. Parents that are missing are trained first.

  python train.py +experiment=<name> [<key>=<value> ...]

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
Keys and their defaults: conf/train.yaml and conf/scale; your own data: conf/data/README.md; all else: README.md.
"""

EVALUATE = f"""Compares finished rankers on one test: quality, differences with their significance, agreement, inference time.

  python evaluate.py models=<runs, exports, hub ids or TREC run files> [<key>=<value> ...]

examples:
{{row_all}}
{{row_two}}

often added:
{{row_baseline}}
{{row_rescore}}
{{row_data}}
{{row_untimed}}

{HYDRA}.
All keys: conf/evaluate.yaml; all else: README.md.
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
    "untimed": ("callbacks.inference_time=null", "no inference times: quality alone, which takes seconds"),
}


def train_help(conf: Path) -> str:
    """Say what ``train.py`` takes.

    Args:
        conf: the folder of configs.
    """
    return TRAIN.format(
        experiments="\n".join(_row(*row) for row in _experiments(conf)),
        students=_row("student=4l", f"the student's size: {_listed(conf, 'student')} (default: 6l)"),
        scales=_row("scale=smoke", f"how big everything is: {_listed(conf, 'scale')} (default: laptop)"),
        **_rows(),
    )


def evaluate_help(conf: Path) -> str:
    """Say what ``evaluate.py`` takes; ``conf`` is the folder of configs."""
    return EVALUATE.format(**_rows())


def module_help(doc: str) -> str:
    """Make a command's help out of the docstring of its module, which says what it does, an example and its keys."""
    return doc.replace("::\n\n", "").replace("``", "").strip() + "\n"


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


def _rows() -> dict[str, str]:
    return {f"row_{name}": _row(*row) for name, row in ROWS.items()}


def _row(left: str, right: str) -> str:
    indent = " " * LEFT
    return fill(right, WIDTH, initial_indent=f"  {left:<{LEFT - 3}} ", subsequent_indent=indent) if right else f"  {left}"
