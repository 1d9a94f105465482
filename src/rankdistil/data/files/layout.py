"""Column mapping: names of files, where fields stand in them, and what is taken for an id, a text or a number.

BEIR (Thakur et al. 2021, arXiv:2104.08663) has one corpus, one file of queries for all splits, and judgments by split.

Nothing is made a text that isn't one: ``str`` would turn a list or an object into an id that nobody wrote.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OWN = {"corpus": "corpus.tsv", "queries": "queries.{split}.tsv", "qrels": "qrels.{split}.txt"}
BEIR = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/{split}.tsv"}
PACKED = ("", ".gz", ".zst")
VALIDATION = "dev"  # how BEIR calls it


def file_name(root: str | None, kind: str, split: str = "") -> str:
    """Name a file of a folder.

    Args:
        root: the folder; None if it isn't known.
        kind: ``corpus``, ``queries`` or ``qrels``.
        split: ``train`` and so on.

    Returns:
        Its name, be it there or not.
    """
    if root is None or not is_beir(Path(root).expanduser()):
        return OWN[kind].format(split=split)
    name = BEIR[kind].format(split=split)
    there = (name + packed for packed in PACKED if (Path(root).expanduser() / (name + packed)).is_file())
    return next(there, name)


def validation_files(root: str | None) -> dict[str, str] | None:
    """Name the files of a BEIR folder's validation split; None if there is none."""
    if root is None or not is_beir(folder := Path(root).expanduser()):
        return None
    found = {kind: file_name(root, kind, VALIDATION) for kind in ("queries", "qrels")}
    return found if (folder / found["qrels"]).is_file() else None


def is_beir(folder: Path) -> bool:
    """Whether a folder is laid out as BEIR's are."""
    return (folder / "qrels").is_dir() and not (folder / OWN["corpus"]).exists()


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


# White space, control characters, byte order marks and the like: invisible, and a run file is cut into columns at most of them.
# Joiners within words (U+200C, U+200D) are letters' business.
NOT_IN_IDS = re.compile("[\0-\x20\x7f-\xa0\u1680\u180e\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]")


def is_id(text: str) -> bool:
    """Whether a text may be an id: it isn't empty, and holds neither white space nor control characters."""
    if text.isprintable() and " " not in text:  # nearly all: the pattern takes five times as long
        return bool(text)
    return NOT_IN_IDS.search(text) is None


def id_fault(text: str, name: str) -> str:
    """Say why a text can't be an id.

    Args:
        text: for which ``is_id`` is false.
        name: of its column.
    """
    found = NOT_IN_IDS.search(text)
    if found is None or not text.strip():
        return f"empty {name}"
    return f"{name} is {text[:80]!r}, with {character(found[0])} in it: an id has neither white space nor control characters."


def character(letter: str) -> str:
    """Name a character that can't be seen: ``U+00A0 (no-break space)``."""
    return f"U+{ord(letter):04X} ({unicodedata.name(letter, 'control character').lower()})"


def id_of(value: Any, name: str) -> str:
    """Return an id as text.

    Args:
        value: as it was read.
        name: of its column, for messages.

    Raises:
        ValueError: saying what was found, if it is neither a text nor a whole number, or none that can be an id.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"{name} is {shown(value)}, expected an id: a text or a whole number.")
    text = _whole(str(value))
    if not is_id(text):
        raise ValueError(id_fault(text, name))
    return text


def text_of(value: Any, name: str) -> str:
    """Return a text.

    Raises:
        ValueError: saying what was found, if it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}, expected a text.")
    return _whole(value)


def scalar_of(value: Any, name: str) -> str:
    """Return a text or a number as text.

    Raises:
        ValueError: saying what was found, if it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is {shown(value)}, expected a text or a number.")
    return _whole(str(value))


def shown(value: Any) -> str:
    """Return the beginning of a value, as JSON."""
    return json.dumps(value, default=str)[:80]


def _whole(text: str) -> str:
    """Refuse what can't be written as UTF-8: JSON's escapes can name half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"half a character (\\ud800 to \\udfff) in {text[:80]!r}.") from None
    return text
