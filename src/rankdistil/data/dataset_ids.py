"""Records of ir_datasets, counted, and held to the rule for ids that files are read by."""

from collections.abc import Iterable, Iterator
from typing import Any

from rankdistil.data.badlines import Tally
from rankdistil.data.values import id_fault, is_id

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
