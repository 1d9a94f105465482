"""Where the fields of a file stand: in the expected order, where ``data.columns`` says, or where a first line names them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Columns = Mapping[str, str | int]
"""Field -> name of its column, or number from 1."""

Places = list[int | None]
"""Of each field, from 0; None for one that nothing reads, or that isn't there."""

UNREAD = ("0", "Q0", "rank", "tag")  # fields of TREC files that nothing reads
OPTIONAL = ("title",)  # fields that a file needn't have; in the expected order there is none of them
TEXT = ("id", "text", "title")
FIELDS = {
    "corpus": TEXT,
    "queries": TEXT,
    "qrels": ("query_id", "passage_id", "grade"),
    "triples": ("query_id", "positive_id", "negative_id"),
    "triples_text": ("query", "positive", "negative"),
    "candidates": ("query_id", "passage_id", "score"),
}
"""Fields that are read of each kind of file."""

QUERY_IDS = ("query_id", "query-id", "qid")
PASSAGE_IDS = ("passage_id", "pid", "doc_id", "docid", "docno", "corpus-id", "corpus_id")
KNOWN: Mapping[str, Sequence[str]] = {
    "id": ("_id", "id", *QUERY_IDS, *PASSAGE_IDS),
    "text": ("text", "passage", "query", "body", "contents"),
    "query_id": QUERY_IDS,
    "passage_id": PASSAGE_IDS,
    "grade": ("grade", "score", "relevance", "rel", "label"),
    "positive_id": ("positive_id", "pos_id"),
    "negative_id": ("negative_id", "neg_id"),
    "positive": ("positive", "pos"),
    "negative": ("negative", "neg"),
}
"""Names that columns have without anybody saying so; of other fields their own."""


def known_names(field: str) -> Sequence[str]:
    """Return the names that a field's column may have in a first line of a text file without anybody saying so."""
    return KNOWN.get(field, (field,))


def named_alike(field: str) -> Sequence[str]:
    """Return those that it may have in JSON lines and Parquet: of texts BEIR's only."""
    return ("_id",) if field == "id" else (field,) if field in TEXT else known_names(field)


def checked(columns: Mapping[str, Any]) -> dict[str, Columns]:
    """Check ``data.columns``, and leave out what isn't set.

    Args:
        columns: by kind of file, by field.

    Raises:
        ValueError: for a kind or field that there isn't, or what is neither a number from 1 nor a name.
    """
    found: dict[str, Columns] = {}
    if not isinstance(columns, Mapping):
        raise ValueError(f"data.columns is {columns!r}; expected columns by kind of file: {{corpus: {{id: docno, text: 3}}}}.")
    for kind, fields in columns.items():
        if kind not in FIELDS:
            raise ValueError(f"data.columns.{kind} is no kind of file; expected one of {', '.join(FIELDS)}.")
        if not isinstance(fields, Mapping | None):
            raise ValueError(f"data.columns.{kind} is {fields!r}; expected columns by field, as in {{id: docno, text: 3}}.")
        for field, column in (fields or {}).items():
            if field not in FIELDS[kind]:
                raise ValueError(f"data.columns.{kind}.{field} is no field; expected one of {', '.join(FIELDS[kind])}.")
            good = column is None or (isinstance(column, int | str) and not isinstance(column, bool) and column)
            if not good or (isinstance(column, int) and column < 1):
                raise ValueError(f"data.columns.{kind}.{field} is {column!r}; expected a column's number, from 1, or name.")
        if given := {field: column for field, column in (fields or {}).items() if column is not None}:
            found[kind] = given
    return found


def places(path: Path, names: Sequence[str], columns: Columns | None, first: Sequence[str]) -> tuple[Places | None, bool]:
    """Find the fields of a text file.

    Args:
        path: the file, for messages.
        names: the fields, in the expected order.
        columns: what is said about them.
        first: the columns of its first line.

    Returns:
        Their places, None if they are the expected ones; whether the first line names columns.

    Raises:
        ValueError: if a column that was named isn't there, or the first line names columns that weren't expected.
    """
    if columns and any(isinstance(column, str) for column in columns.values()):
        return _said(path, names, columns, first), True
    named = _named(names, first)
    if named is not None and not columns:
        return named, True
    said = _said(path, names, columns, first) if columns else None
    expected = said or list(range(len(names)))
    for field, place in zip(names, expected, strict=True):
        if field.endswith("id") and place is not None and place < len(first) and first[place] in known_names(field):
            raise ValueError(
                f"{path}:1: {first[place]!r} is the name of a column, no {field}. Remove the line, or say in data.columns "
                f"which of its names are those of {' and '.join(wanted(names))}: {', '.join(map(repr, first))}."
            )
    return said, False


def wanted(names: Sequence[str]) -> list[str]:
    """Return the fields that must be there, of those of a file."""
    return [name for name in names if name not in UNREAD and name not in OPTIONAL]


def _said(path: Path, names: Sequence[str], columns: Columns, first: Sequence[str]) -> Places:
    """Return the places that were said; a field of which nothing was stands where it is named, or at its own place."""
    found = {field: _place(path, field, column, first) for field, column in columns.items()}
    by_name = any(isinstance(column, str) for column in columns.values())
    for number, field in enumerate(names):
        if field in found or field not in wanted(names):
            continue
        there = [place for place, name in enumerate(first) if by_name and name in known_names(field)]
        place = there[0] if len(there) == 1 else number
        if place in found.values():
            raise ValueError(f"{path}:1: column {place + 1} is another field's. Say in data.columns where {field} stands.")
        found[field] = place
    return [found.get(field) for field in names]


def _place(path: Path, field: str, column: str | int, header: Sequence[str]) -> int:
    if isinstance(column, int):
        return column - 1
    if column not in header:
        raise ValueError(f"{path}:1: no column {column!r} for {field}; the line of names has {', '.join(map(repr, header))}.")
    return header.index(column)


def _named(names: Sequence[str], first: Sequence[str]) -> Places | None:
    """Return the places that a line of names gives; None if it is none, which names all fields that must be there, once."""
    found = {field: [place for place, name in enumerate(first) if name in known_names(field)] for field in names}
    if any(len(found[field]) != 1 for field in wanted(names)) or any(len(there) > 1 for there in found.values()):
        return None
    return [found[field][0] if found[field] and field not in UNREAD else None for field in names]
