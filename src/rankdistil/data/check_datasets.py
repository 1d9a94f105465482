"""What an ir_datasets id holds: read where it is embedded, else only what ir_datasets says, so that nothing is fetched."""

from collections.abc import Collection
from typing import NamedTuple

import ir_datasets

from rankdistil.data import almanac
from rankdistil.data.check_files import TextsFound
from rankdistil.data.encode import SPECIAL_TOKENS
from rankdistil.data.readers import Reader
from rankdistil.data.settings import DataSettings
from rankdistil.data.unknown import training_triples

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
