"""Identity of a collection: names of its stores, and what tells its texts and triples from others."""

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ir_datasets
from ir_datasets.formats import BaseDocPairs, BaseDocs, BaseQrels, BaseQueries
from ir_datasets.util.download import LocalDownload

from rankdistil.data.files.bad_lines import Tally
from rankdistil.data.files.layout import id_fault, is_id
from rankdistil.data.files.lines import Columns
from rankdistil.files import named, short_hash, stamp

DIGITS = 8  # of the hash in a folder's name; the header of a store tells in full what it holds
KINDS = {
    "passages": "docs", "queries": "queries", "docpairs": "docpairs", "qrels": "qrels", "candidates": "scoreddocs",
}  # fmt: skip
"""What ir_datasets calls them."""


class Origin(NamedTuple):
    """Where something is read from.

    Attributes:
        label: for people: of a file its folder's name and its own, of an ir_datasets id the id.
        place: tells it from all others, whatever it holds now: the path of a file and its columns, or an id.
        source: the place, and what tells the present content from that of other times.
        files: of this machine that are read; none if ir_datasets fetches them.
    """

    label: str
    place: dict[str, Any]
    source: dict[str, Any]
    files: Sequence[Path]

    def folder(self, store: Path, kind: str, **place: Any) -> Path:
        """Return the folder of a store: another for each place, the same for all content that a place may have.

        Args:
            store: folder of the stores.
            kind: of the store, which its name ends with.
            **place: what else decides which store it is, if there is more.
        """
        told = json.dumps(self.place | place, sort_keys=True)
        return store / f"{self.label}-{short_hash(told)[:DIGITS]}-{kind}"

    def content(self) -> str:
        """Say what is read, not where it lies: files by name and hash, a published part by version and count."""
        dataset = self.place.get("dataset")
        published = f"ir_datasets {self.source.get('ir_datasets')}, {self.source.get('count') or 'unknown'} rows"
        held = ", ".join(map(named, self.files)) or published
        return held if dataset is None else f"{dataset} ({held})"


def of_file(path: Path, columns: Columns | None) -> Origin:
    """Return the origin of what a file holds.

    Args:
        path: the file.
        columns: that are read, where it isn't those expected.
    """
    place = {"path": str(path.resolve())} | ({"columns": str(sorted(columns.items()))} if columns else {})
    return Origin(f"{path.parent.resolve().name}-{path.name}", place, place | stamp(path), [path])


def of_dataset(name: str, kind: str) -> Origin:
    """Return the origin of a part of a dataset that is known to ir_datasets. Splits share it where they share the part.

    A part that is read from files of this machine is told by these, any other by ir_datasets' version and the count that it
    publishes: ir_datasets itself sees that a file it fetched is the one that was published.

    Args:
        name: the id.
        kind: a key of ``KINDS``.
    """
    dataset, part = ir_datasets.load(name), KINDS[kind]
    parent = ir_datasets.parent_id(name, part)
    handler = getattr(dataset, f"{part}_handler")()
    files = sorted(file for file in dict.fromkeys(_files(handler, set())) if file.is_file())
    if files:
        content: dict[str, Any] = {"files": [stamp(file) for file in files]}
    else:
        content = {"ir_datasets": ir_datasets.__version__, "count": dataset.metadata().get(part, {}).get("count")}
    return Origin(parent.replace("/", "-"), {"dataset": parent}, {"dataset": parent} | content, files)


def require_own_home() -> None:
    """See that nobody whom the user doesn't trust writes where ir_datasets keeps texts: pickles run the code that is in them.

    A folder that every user may write into is refused, at three levels. One of another user is taken where IR_DATASETS_HOME
    names it, as a shared one is; who may write there as its group is that user's choice.

    Raises:
        ValueError: naming the folder.
    """
    home = Path(ir_datasets.util.home_path())
    levels = (place for pattern in ("*/", "*/*/") for place in home.glob(pattern))
    for place in (home, *levels):
        told = place.stat()
        if told.st_uid not in (0, os.geteuid()) and "IR_DATASETS_HOME" not in os.environ:
            fault = "belongs to another user"
            cure = f"Set IR_DATASETS_HOME={home} if you trust who can write there, or to a folder of yours."
        elif told.st_mode & stat.S_IWOTH:
            fault = "can be written into by every user"
            cure = (
                f"Run chmod -R o-w {home}, or let IR_DATASETS_HOME name a folder of yours: a copy of this one, if you trust it."
            )
        else:
            continue
        raise ValueError(
            f"{place} {fault}, and ir_datasets keeps texts there as pickles, which run any code that is put into them. {cure}"
        )


def _files(value: Any, seen: set[int]) -> Iterator[Path]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple):
        for child in value:
            yield from _files(child, seen)
    elif isinstance(value, LocalDownload):
        yield Path(value._path)
        return
    its_own = type(value).__module__.startswith("ir_datasets")
    if its_own or isinstance(value, BaseDocs | BaseQueries | BaseQrels | BaseDocPairs):
        for child in getattr(value, "__dict__", {}).values():
            if not isinstance(child, Path):
                yield from _files(child, seen)
            elif not its_own:  # those of ir_datasets are copies of what it fetched
                yield child


IDS = {
    "docs": ("doc_id",),
    "queries": ("query_id",),
    "qrels": ("query_id", "doc_id"),
    "scoreddocs": ("query_id", "doc_id"),
    "docpairs": ("query_id", "doc_id_a", "doc_id_b"),
}
"""Fields that hold ids, by the kind of record."""


def with_ids(rows: Iterable[Any], kind: str, tally: Tally) -> Iterator[tuple[int, Any]]:
    """Yield (number from 1, record); one with an id that is none is a bad line.

    Args:
        rows: the records.
        kind: of the records: ``docs``, ``queries`` and so on.
        tally: takes bad ones down.
    """
    number, names = 0, IDS[kind]
    for number, row in enumerate(rows, 1):
        for name in names:
            if not is_id(key := getattr(row, name)):
                tally.add(number, id_fault(key, name))
                break
        else:
            yield number, row
    tally.end(number)
