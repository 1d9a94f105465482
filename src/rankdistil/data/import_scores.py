"""Makes a folder of teacher scores out of a published file, for ``teacher.scores=<folder>``.

::

    python -m rankdistil.data.import_scores format=triples to=scores/ensemble \\
        file=bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv
    python train.py +experiment=... teacher.scores=scores/ensemble

format
    pairs, triples, trec, sentence_transformers or flag_embedding; ``rankdistil.data.teacher_scores.formats`` describes them.
file
    The file; also packed (.gz, .zst).
to
    The folder to make. It appears in one step; what a killed import leaves beside it, in ``.<name>.importing``, the next one
    clears.
corpus, queries
    ``id<TAB>text`` or BEIR's JSON lines: they give the ids, where rows hold texts. A text must be there exactly.
repeats
    What to do with a pair whose scores differ: ``refuse``, the default, or ``first``, which keeps the first and counts them.

Scores are kept as they are, in float32; a pair that recurs with the same score is kept once. Memory stays below half a gigabyte
for 40 million triples, which need 3 GB on disk meanwhile, beside the new folder; texts that ids are found by add some 200 bytes
of memory each. A file doesn't tell which tokenizer its teacher had, nor where pairs were cut, so training doesn't compare them.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankdistil.cli import run_command
from rankdistil.data.teacher_scores.distinct import build_folder
from rankdistil.data.teacher_scores.formats import BY_ID, FORMATS, Ids, TextIds, read_scores
from rankdistil.files import content
from rankdistil.words import key_values, require

REQUIRED = ("format", "file", "to")
KEYS = (*REQUIRED, "corpus", "queries", "repeats")
USAGE = (
    "python -m rankdistil.data.import_scores format=<name> file=<path> to=<folder> "
    "[corpus=<file> queries=<file>] [repeats=first]"
)
REPEATS = ("refuse", "first")


@dataclass(frozen=True)
class Settings:
    """What to import.

    Attributes:
        format: one of ``FORMATS``.
        file: the scores.
        to: the folder to make.
        corpus: gives passage ids where rows hold texts.
        queries: gives query ids there.
        repeats: one of ``REPEATS``.
    """

    format: str
    file: Path
    to: Path
    corpus: Path | None = None
    queries: Path | None = None
    repeats: str = "refuse"

    def __post_init__(self) -> None:
        for key, value, known in (("format", self.format, FORMATS), ("repeats", self.repeats, REPEATS)):
            if value not in known:
                raise ValueError(f"{key} is {value!r}; expected one of {', '.join(known)}.")
        named = {key: path for key in ("corpus", "queries") if (path := getattr(self, key)) is not None}
        if named and self.format in BY_ID:
            raise ValueError(f"{next(iter(named))} has no effect: rows of format={self.format} hold ids. Leave it out.")
        for key, path in {"file": self.file, **named}.items():
            if not path.is_file():
                raise FileNotFoundError(f"{key}={path} is no file. Put it in place, or correct the path.")
        if self.to.exists() and not (self.to.is_dir() and not any(self.to.iterdir())):
            raise ValueError(f"to={self.to} exists and isn't an empty folder. Name another one, or remove it.")


def settings_of(words: Sequence[str]) -> Settings:
    """Read the words of the command line.

    Raises:
        FileNotFoundError: if a file isn't there.
        ValueError: for a word, key or value that isn't expected, or a key that is missing.
    """
    values = key_values(words, KEYS, REQUIRED, USAGE)
    paths = {key: Path(value).expanduser() for key, value in values.items() if key not in ("format", "repeats")}
    return Settings(**(values | paths))


def import_scores(settings: Settings) -> list[str]:
    """Import a file of scores.

    Returns:
        Lines that say what was imported.

    Raises:
        RuntimeError: if another process is importing into the same folder.
        ValueError: for bad content, naming file and line.
    """
    require("pyarrow", f"to={settings.to} (Parquet)")
    ids = Ids(TextIds(settings.queries, "queries"), TextIds(settings.corpus, "corpus"))
    scores = read_scores(settings.format, settings.file, ids)
    tally = build_folder(settings.to, scores, settings.file, settings.repeats == "first", lambda: _made_of(settings))
    lines = []
    if tally.differing:
        lines.append(f"{tally.differing} pairs had scores that differ, by up to {tally.widest:.3g}; the first of each is kept.")
    for key, texts in zip(("queries", "corpus"), ids, strict=True):
        if texts.doubtful:
            lines.append(f"{texts.doubtful} texts have several ids in {key}={getattr(settings, key)}; the first got the score.")
    lines.append(
        f"{tally.pairs} pairs of {tally.queries} queries, scores {tally.low:.6g} to {tally.high:.6g}; "
        f"{tally.read - tally.pairs} repeats left out. Train from them: teacher.scores={settings.to}"
    )
    return lines


def _made_of(settings: Settings) -> dict[str, Any]:
    made_of: dict[str, Any] = {"teacher": f"imported:{settings.format}:{settings.file.name}", "dtype": "float32"}
    for key in ("file", "corpus", "queries"):
        if (path := getattr(settings, key)) is not None:
            made_of[key] = {"file": path.name, "size": path.stat().st_size, "sha256": content(path)}
    return made_of | {"repeats": settings.repeats}


def main(words: Sequence[str]) -> int:
    """Import what the words of the command line say.

    Returns:
        The exit status, see ``run_command``.
    """
    return run_command(words, __doc__, lambda: print("\n".join(import_scores(settings_of(words)))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
