"""Export to ONNX and OpenVINO: a ranker for other runtimes, beside its Hugging Face files, that still ranks alike.

::

    python -m rankdistil.export run=runs/ranker_distill/6l/seed0 to=onnx,openvino,int8

run
    A finished run, or the export folder inside of it.
to
    ``onnx`` writes ``onnx/model.onnx``, ``openvino`` writes ``openvino/openvino_model.xml``, and with ``int8`` 8-bit graphs:
    ``openvino_model_qint8_quantized.xml`` for every processor and, written where there are 8-bit dot products (VNNI),
    ``openvino_model_qint8_avx512_vnni.xml`` for such. ``int8`` alone writes no graph: torch computes 8 bits from the files that
    are there, and is only checked. Folders and names are those that sentence-transformers looks for. ``to=trimmed`` writes a
    smaller export beside it, ``export_trimmed``, which knows the tokens of the run's collection and training queries alone: of
    a multilingual ranker those of one language. ``to=fitted`` writes ``fitted.json``: what the run's validation says of its
    scores, how to unite them with the first stage's (``Reranker.rerank(..., first_stage_scores=...)``) and how probable
    relevance is by a score (``Hit.probability``). The model card says how that holds on the test. Nothing is scored again.
data
    Another run, on whose data the scores are checked; needed for a ranker's folder that lies outside of a run.
pairs
    How many of the validation split's pairs, and of the test split's, are scored again with every runtime and precision, at
    most (2000).
precision
    With ``to=fitted``: wished of the pairs above a threshold (0.9), which the card names, if a score separates so well.
bound
    How much the validation's nDCG@10 may change in bfloat16 and int8 (0.01). In float32 it is 0.0001.

A graph comes to its place only after its scores were compared with those of torch in float32; graphs that were there before are
compared again. One that changes the validation's nDCG@10 by more than its bound is removed, and the command fails. What changes
on the test split is reported and decides nothing. The differences go into the model card and, for ``Reranker(dtype="auto")``,
into ``precisions.json``. The ranges of OpenVINO's 8-bit activations are found on pairs of other validation queries.

Then others' tools that are installed score the same pairs, and some that have to be cut, from the finished folder, each as its
manual says: transformers' pipeline, sentence-transformers, rerankers, ONNX Runtime on ``tokenizer.json``, FlashRank, fastembed.
Their rows stand in the card's table, with sigmoids told from logits; those that aren't installed are named. One that changes
nDCG@10 by more than 0.0001 or is off by more than 0.001 is an error; the export stays.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankdistil.cli import run_command
from rankdistil.words import key_values

KEYS = ("run", "to", "data", "pairs", "bound", "precision")
KINDS = ("onnx", "openvino", "int8")
TRIMMED, FITTED = "trimmed", "fitted"
USAGE = (
    "python -m rankdistil.export run=<run or export> to=onnx,openvino,int8|trimmed [data=<run>] [pairs=2000] [bound=0.01], "
    "or run=<run> to=fitted [precision=0.9]"
)


@dataclass(frozen=True)
class Settings:
    """What to export.

    Attributes:
        export: folder with the Hugging Face files.
        data: folder of the run whose data are used.
        to: some of ``KINDS``, or ``TRIMMED`` or ``FITTED`` alone.
        pairs: of validation and of test that are scored again, each at most.
        bound: largest change of the validation's nDCG@10 in bfloat16 and int8.
        precision: wished of the pairs above a threshold, of ``FITTED``.
    """

    export: Path
    data: Path
    to: tuple[str, ...]
    pairs: int = 2000
    bound: float = 0.01
    precision: float = 0.9


def settings_of(words: Sequence[str]) -> Settings:
    """Read the words of the command line.

    Raises:
        FileNotFoundError: if a folder isn't there.
        ValueError: for a word, key or value that isn't expected, or a key that is missing.
    """
    values = key_values(words, KEYS, ("run", "to"), USAGE)
    given: dict[str, Any] = {"to": _kinds(values["to"])}
    if "pairs" in values:
        given["pairs"] = _number(values, "pairs", int, "a whole number of at least 1", 1)
    if "bound" in values:
        given["bound"] = _number(values, "bound", float, "a number of at least 0", 0)
    fits = given["to"] == (FITTED,)
    if "precision" in values:
        given["precision"] = _number(values, "precision", float, "a number above 0 and below 1", 0)
        if not 0 < given["precision"] < 1:
            raise ValueError(f"precision is {values['precision']!r}; expected a number above 0 and below 1.")
    if unread := [key for key in (("data", "pairs", "bound") if fits else ("precision",)) if key in values]:
        raise ValueError(f"{unread[0]} has no effect with to={values['to']}. Leave it out.")
    export, run = _folders(values["run"])
    if fits and run is None:
        raise ValueError(f"run={values['run']} lies outside of a run, whose validation is fitted to. Name a run.")
    if "data" in values:
        run = _run(Path(values["data"]).expanduser(), "data")
    if run is None:
        raise ValueError(f"run={values['run']} lies outside of a run, so there are no data to check it on. Add data=<run>.")
    return Settings(export, run, **given)


def _kinds(value: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(value.split(",")))
    if kinds in ((TRIMMED,), (FITTED,)):
        return kinds
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(
                f"to names {kind!r}; expected some of {', '.join(KINDS)}, with commas between them, or {TRIMMED} or {FITTED} "
                "alone."
            )
    if {*kinds} == {"onnx", "int8"}:
        raise ValueError(
            "to=onnx,int8: there is no 8-bit graph for ONNX, where scaling each row takes what 8-bit products gain. "
            "Use to=onnx, to=openvino,int8, or to=int8, which torch computes without a graph."
        )
    return kinds


def _number(values: dict[str, str], key: str, kind: type, expected: str, low: float) -> Any:
    try:
        number = kind(values[key])
    except ValueError:
        number = math.nan
    if not low <= number < math.inf:
        raise ValueError(f"{key} is {values[key]!r}; expected {expected}.")
    return number


def _folders(path: str) -> tuple[Path, Path | None]:
    """Return the export, and the run that it is part of."""
    place = Path(path).expanduser()
    if (place / "run.json").is_file():
        run, export = _run(place, "run"), place / "export"
    else:
        within = (place.parent / "run.json").is_file() and place.name == "export"
        run, export = _run(place.parent, "run") if within else None, place
    if not (export / "config.json").is_file():
        raise FileNotFoundError(f"run={path} is neither a finished run nor an export (no {export / 'config.json'}).")
    return export, run


def _run(folder: Path, key: str) -> Path:
    if not (folder / ".hydra" / "config.yaml").is_file():
        raise FileNotFoundError(f"{key}={folder} is no run: {folder / '.hydra' / 'config.yaml'} is not there.")
    return folder


def main(words: Sequence[str]) -> int:
    """Export what the words of the command line say.

    Returns:
        The exit status, see ``run_command``.
    """

    def task() -> None:
        settings = settings_of(words)
        from rankdistil.stages.export import export, export_fitted, export_trimmed  # after the words: a wrong one comes at once

        if settings.to == (FITTED,):
            return export_fitted(settings.export, settings.data, settings.precision)
        if settings.to == (TRIMMED,):
            return export_trimmed(settings.export, settings.data, settings.pairs, settings.bound)
        return export(settings.export, settings.data, settings.to, settings.pairs, settings.bound)

    return run_command(words, __doc__, task)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
