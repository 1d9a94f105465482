"""The triples of a dataset as rows of its stores: read once, shuffled from disk for ever after."""

from pathlib import Path
from typing import Any

from rankdistil.data.collection import Collection
from rankdistil.data.groups import row_chunks
from rankdistil.data.readers import Reader
from rankdistil.data.store.build import SOURCE, ensure
from rankdistil.data.store.ragged import read_header
from rankdistil.data.store.rows import StoredRows
from rankdistil.data.unknown import training_triples


def open_triples(store: Path, reader: Reader, collection: Collection) -> StoredRows:
    """Open the triples of a split, mapped first where they are missing or the data have changed.

    Args:
        store: folder of the stores.
        reader: the split.
        collection: its stores, whose rows the triples name.

    Returns:
        Query, positive and negative of each triple, (N, 3).

    Raises:
        ValueError: for a query or passage that isn't there, unless bad lines may be left out.
    """
    tally, triples = training_triples(reader)
    texts = {kind: getattr(collection, kind).header["made_of"] for kind in ("queries", "passages")}
    held_out = {"held out": str(reader.holdout)}
    origin = reader.origin("docpairs")
    folder = origin.folder(store, "triples", **{kind: reader.origin(kind).place for kind in texts}, **held_out)

    def write(building: Path) -> dict[str, Any]:
        count = 0
        with (building / "rows.bin").open("wb") as file:
            for rows in row_chunks(triples, *collection, tally):
                file.write(rows.tobytes())
                count += len(rows)
        return {"count": count}

    return ensure(folder, {SOURCE: origin.source | texts | held_out}, write, _mapped, tally)


def _mapped(folder: Path) -> StoredRows:
    count = read_header(folder, count=int)["count"]
    rows = folder / "rows.bin"
    if rows.stat().st_size != count * 12:
        raise ValueError(
            f"{rows}: {rows.stat().st_size} bytes, expected {count * 12}. Remove the folder {folder} to build it anew."
        )
    return StoredRows(rows, 3)
