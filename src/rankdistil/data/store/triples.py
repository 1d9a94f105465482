"""The triples of a dataset as rows of its stores: read once, shuffled from disk for ever after."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from rankdistil.data.collection import Collection
from rankdistil.data.groups import row_chunks
from rankdistil.data.readers import Reader
from rankdistil.data.same_text import TextMarks
from rankdistil.data.store.build import SOURCE, ensure
from rankdistil.data.store.ragged import read_header
from rankdistil.data.store.rows import StoredRows
from rankdistil.data.unknown import training_triples

SAME_TEXT = "same_text"


def open_triples(store: Path, reader: Reader, collection: Collection) -> tuple[StoredRows, int]:
    """Open the triples of a split, mapped first where they are missing or the data have changed.

    Args:
        store: folder of the stores.
        reader: the split.
        collection: its stores, whose rows the triples name.

    Returns:
        Query, positive and negative of each triple, (N, 3), and how many triples aren't among them, since their negative has
        the text of the positive.

    Raises:
        ValueError: for a query or passage that isn't there, unless bad lines may be left out.
    """
    tally, triples = training_triples(reader)
    texts = {kind: getattr(collection, kind).header["made_of"] for kind in ("queries", "passages")}
    held_out = {"held out": str(reader.holdout)}
    sides = {} if reader.holdout is None else {"queries of the side": _digest(reader.queries)}  # judgments decide, too
    origin = reader.origin("docpairs")
    folder = origin.folder(store, "triples", **{kind: reader.origin(kind).place for kind in texts}, **held_out)

    def write(building: Path) -> dict[str, Any]:
        count, every, marks = 0, 0, TextMarks(collection.passages, reader.find)
        with (building / "rows.bin").open("wb") as file:
            for rows in row_chunks(triples, *collection, tally):
                kept = rows[marks.differ(rows)]
                file.write(kept.tobytes())
                count, every = count + len(kept), every + len(rows)
        return {"count": count, SAME_TEXT: every - count}

    reader.find(())  # opens the texts: not under the lock below, which is theirs too
    rule = {"left out": "negatives with the text of the positive"}
    return ensure(folder, {SOURCE: origin.source | texts | held_out | sides | rule}, write, _mapped, tally)


def _digest(ids: Iterable[str]) -> str:
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def _mapped(folder: Path) -> tuple[StoredRows, int]:
    header = read_header(folder, count=int, **{SAME_TEXT: int})
    count = header["count"]
    rows = folder / "rows.bin"
    if rows.stat().st_size != count * 12:
        raise ValueError(
            f"{rows}: {rows.stat().st_size} bytes, expected {count * 12}. Remove the folder {folder} to build it anew."
        )
    return StoredRows(rows, 3), header[SAME_TEXT]
