"""Check of an ir_datasets id, read where it is embedded so that nothing is fetched; and of teacher scores."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import ir_datasets

from rankdistil.data.check.files import TextsFound
from rankdistil.data.collections import almanac
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import training_triples
from rankdistil.data.encode import SPECIAL_TOKENS
from rankdistil.data.files.folder import FolderSplit
from rankdistil.data.settings import DataSettings
from rankdistil.data.teacher_scores.folder import matching_header, texts_scored

PARTS = {"docs": "passages", "queries": "queries", "qrels": "judgments", "docpairs": "triples", "scoreddocs": "candidates"}


class DatasetFound(NamedTuple):
    """What was found.

    Attributes:
        told: in words, a part a line.
        queries: where they were read.
        passages: where they were read.
        place: where its files are.
        judged: queries with a judgment, where they were read.
        listed: queries of its triples, where they were read.
    """

    told: str
    queries: TextsFound | None
    passages: TextsFound | None
    place: str
    judged: Collection[str] = ()
    listed: Collection[str] = ()


def read_dataset(reader: Reader, settings: DataSettings) -> DatasetFound:
    """Tell what a dataset holds.

    Raises:
        ValueError: for an id that ir_datasets doesn't know.
    """
    dataset, source = reader.dataset, str(reader.source)
    if source not in almanac.IDS:
        counts = {kind: row.get("count", "an unknown number of") for kind, row in dataset.metadata().items() if kind in PARTS}
        told = [f"{count} {PARTS[kind]}" for kind, count in counts.items()]
        return DatasetFound("\n".join(told), None, None, _place(source))
    room = settings.max_length - SPECIAL_TOKENS
    passages, queries = TextsFound(room), TextsFound(room, keep=True)
    for found, texts in ((passages, reader.passages()), (queries, reader.queries.items())):
        for key, text in texts:
            found.add(key, text)
    triples = [triple.query_id for _, triple in training_triples(reader)[1]]
    told = [
        passages.told("passages"),
        queries.told("queries"),
        f"{sum(map(len, reader.qrels.values()))} judgments of {len(reader.qrels)} queries",
        f"{len(triples)} triples",
    ]
    return DatasetFound("\n".join(told), queries, passages, "is embedded", set(reader.qrels), set(triples))


def _place(source: str) -> str:
    """Say whether a dataset's files are on this machine: they lie in a folder called as the first parts of its id."""
    folder = home = ir_datasets.util.home_path()
    for part in source.split("/"):
        folder = folder / part if (folder / part).is_dir() else folder
    files = sum(path.is_file() for path in folder.rglob("*")) if folder != home else 0
    if not files:
        return "is not on this machine: a run would fetch it first"
    return f"may be on this machine ({folder}: {files} files); the counts are those that ir_datasets knows"


def margin_note(settings: DataSettings, reader: Reader) -> str | None:
    """Compare ``data.negatives_scores`` with the training split; None where its files aren't there, or nothing is to be said.

    Raises:
        FileNotFoundError: if there are no scores.
        ValueError: if they are those of other texts.
    """
    files = reader.source.files.values() if isinstance(reader.source, FolderSplit) else ()
    if settings.negatives_margin is None or not all(path.is_file() for path in files):
        return None
    matching_header(Path(settings.negatives_scores).expanduser(), texts_scored(reader), "data.negatives_scores")
    return "training: how many negatives data.negatives_margin leaves out is told as a run starts."
