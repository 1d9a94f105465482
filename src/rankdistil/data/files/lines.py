"""TSV, JSON Lines and Parquet readers: every complaint names the file and the line (in Parquet the row).

Text (columns between tabs or white space, with or without a line of names), JSON lines and Parquet; the first two also
packed with gzip or Zstandard. ``columns`` says where a field stands that isn't where it is expected: by number from 1 or by
name. What becomes of a bad line is up to ``badlines``.
"""

import gzip
import json
import math
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from rankdistil.data.files.bad_lines import STOP, BadLines, distinct
from rankdistil.data.files.layout import (
    OPTIONAL,
    UNREAD,
    Columns,
    character,
    id_fault,
    id_of,
    is_id,
    named_alike,
    places,
    scalar_of,
    text_of,
)
from rankdistil.words import require

CHUNK = 1 << 16
COMPRESSED = (".gz", ".zst")
SAME = {".ndjson": ".jsonl", ".jsonlines": ".jsonl", ".json": ".jsonl", ".pq": ".parquet"}  # other endings of one kind


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends; ``.gz`` and ``.zst`` are unpacked on the way.

    Raises:
        FileNotFoundError: if the file isn't there.
        ValueError: if a compressed file is cut off or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there. Set its name under data.*, or put the file in place.")
    damaged: tuple[type[Exception], ...] = (EOFError,)
    packed = path.suffix.lower()
    if packed == ".gz":
        damaged += (zlib.error, gzip.BadGzipFile)
        rows = _unpacked_lines(path, gzip.open)
    elif packed == ".zst":
        zstandard = require("zstandard", str(path))
        damaged += (zstandard.ZstdError,)
        rows = _zstandard_lines(path, zstandard.ZstdDecompressor())
    else:
        rows = _unpacked_lines(path, open)
    try:
        yield from rows
    except damaged as error:
        raise ValueError(f"{path} is cut off or damaged ({error}). Delete it and fetch it again.") from None


def _unpacked_lines(path: Path, opener: Callable[[Path, str], IO[bytes]]) -> Iterator[bytes]:
    with opener(path, "rb") as file:
        yield from file


def _zstandard_lines(path: Path, decompressor: Any) -> Iterator[bytes]:
    """Unpack frame by frame: the package's own reader takes a frame that was cut off for a whole one."""
    frame, rest = None, b""
    with path.open("rb") as file:
        while packed := file.read(CHUNK):
            while packed:
                frame = frame or decompressor.decompressobj()
                *lines, rest = (rest + frame.decompress(packed)).split(b"\n")
                yield from (line + b"\n" for line in lines)
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the last frame has no end")
    if rest:
        yield rest


def kind_of(path: Path) -> str:
    """Return the kind of a file, that of its content where it is compressed: ``.tsv`` of ``corpus.tsv.gz``.

    Capitals don't count; ``.ndjson``, ``.jsonlines`` and ``.json`` are ``.jsonl``, ``.pq`` is ``.parquet``.
    """
    suffix = (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).suffix.lower()
    return SAME.get(suffix, suffix)


NAMED = (".jsonl", ".parquet")  # formats whose columns have names
Record = dict[str, Any]
Kind = Callable[[Any, str], str]
"""Takes a value of a record, and the name of its column."""

ODD_BLANK = re.compile(r"[^\S \t]")  # white space that is neither a blank nor a tab
NOUGHT = re.compile(r"(?<=\d)\.0+$")
TEXTS = ("text", "title", "query", "positive", "negative")  # fields that hold texts


def lines(path: Path, bad: BadLines = STOP) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end); empty lines are skipped.

    A BOM at the beginning of any line is stripped: files that were joined each bring one.

    Raises:
        FileNotFoundError: if the file isn't there.
        ValueError: for bytes that are no UTF-8, or zero, and carriage returns that end no line: other tools cut a line there.
    """
    tally, number = bad.of(path), 0
    for number, raw in enumerate(raw_lines(path), 1):
        try:
            line = raw.removeprefix(BOM_UTF8).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            place = raw.index(error.object[error.start :]) + 1  # the decoder's own count leaves a BOM out
            tally.refuse(number, f"byte {place} is not UTF-8. Convert the file to UTF-8.")
            continue
        if "\0" in line:
            tally.refuse(number, f"byte {raw.index(0) + 1} is zero. The file is damaged, or not text in UTF-8.")
        elif "\r" in line:
            place = raw.index(b"\r") + 1
            tally.refuse(number, f"byte {place} is a carriage return (CR) without a line feed. End lines with LF or CR LF.")
        elif line.strip():
            yield number, line
    tally.end(number)


def fields(
    path: Path, separator: str | None, names: tuple[str, ...], columns: Columns | None = None, bad: BadLines = STOP
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, the fields of ``names``); those that a file needn't have are empty where it hasn't.

    Args:
        path: the file.
        separator: of text: a tab, or None for blanks and tabs.
        names: the fields expected, in the order of the columns where neither ``columns`` nor a line of names says otherwise;
            those that a file needn't have are last.
        columns: where fields stand; saying it of one makes all others optional columns that aren't read, unless said too.
        bad: takes bad lines down.

    Raises:
        ValueError: for a line with another number of columns, without a column, or with an id that is none.
    """
    read = _named(path, names, columns, bad) if kind_of(path) in NAMED else _text(path, separator, names, columns, bad)
    ids = [place for place, name in enumerate(names) if name.endswith("id")]
    shown = len(names) - sum(name in OPTIONAL for name in names)
    for number, parts in read:
        for place in ids:
            key = parts[place]
            if not (key.isalnum() or is_id(key)):  # of most ids that is a third of the time
                fault = id_fault(parts[place], names[place])
                line = "" if parts[place].strip() else f": {(separator or ' ').join(parts[:shown])[:80]!r}"
                bad.of(path).add(number, fault + line)
                break
        else:
            yield number, parts


def _text(
    path: Path, separator: str | None, names: tuple[str, ...], columns: Columns | None, bad: BadLines
) -> Iterator[tuple[int, list[str]]]:
    rows, tally = lines(path, bad), bad.of(path)
    head = list(islice(rows, 1))
    found, tally.names_columns = places(path, names, columns, head[0][1].split(separator) if head else [])
    expected = [name for name in names if name not in OPTIONAL]
    least = max((place for place in found or () if place is not None), default=0)
    for number, line in rows if tally.names_columns else chain(head, rows):
        parts = line.split(separator)
        if separator is None and not line.isprintable() and (odd := ODD_BLANK.search(line)):
            tally.add(number, f"{character(odd[0])} in the line. Separate columns with blanks or tabs only: {line[:80]!r}")
        elif found is not None:
            if len(parts) > least:
                yield number, ["" if place is None else parts[place] for place in found]
            else:
                tally.add(number, f"{len(parts)} columns, expected at least {least + 1}: {line[:80]!r}")
        elif len(parts) == len(expected):
            yield number, parts + [""] * (len(names) - len(expected))
        else:
            wanted = ("<TAB>" if separator else " ").join(expected)
            tally.add(number, f"{len(parts)} columns, expected {len(expected)} ({wanted}): {line[:80]!r}")


def _named(path: Path, names: tuple[str, ...], columns: Columns | None, bad: BadLines) -> Iterator[tuple[int, list[str]]]:
    said = {name: (columns or {}).get(name) for name in names}
    for name, column in said.items():
        if isinstance(column, int):
            raise ValueError(f"{path}: its columns have names, but data.columns says that {name} is number {column}.")
    wanted = [(name, (column,) if column else named_alike(name), _kind(name)) for name, column in said.items()]
    for number, record in records(path, bad):
        try:
            parts = [_picked(record, *each) for each in wanted]
        except ValueError as fault:
            bad.of(path).add(number, str(fault))
        else:
            yield number, parts


def _kind(name: str) -> Kind:
    return id_of if name.endswith("id") else text_of if name in TEXTS else scalar_of


def _picked(record: Record, field: str, columns: Sequence[str], kind: Kind) -> str:
    """Return a field of a record, as text; empty if it isn't there and needn't be.

    Raises:
        ValueError: saying what is wrong, if it is missing, null, or no value of its kind.
    """
    if field in UNREAD:
        return ""
    column = columns[0]
    if len(columns) > 1:
        column = next((name for name in columns if name in record), column)
    value = record.get(column)
    if value in (None, "") and field in OPTIONAL:
        return ""
    if value is None:
        raise ValueError(f"no {column!r} among {', '.join(map(repr, record))}.")
    return kind(value, column)


def records(path: Path, bad: BadLines = STOP) -> Iterator[tuple[int, Record]]:
    """Yield (line or row number, record) of JSON lines or Parquet.

    Raises:
        ValueError: for a line that is no JSON object, or a damaged file.
    """
    if kind_of(path) == ".parquet":
        yield from _parquet(path, bad)
        return
    for number, line in lines(path, bad):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # also for a number of thousands of digits
            bad.of(path).add(number, f"no JSON object ({error}): {line[:80]!r}")
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            bad.of(path).add(number, f"no JSON object: {line[:80]!r}")


def _parquet(path: Path, bad: BadLines) -> Iterator[tuple[int, Record]]:
    pa, pq = require("pyarrow", str(path)), require("pyarrow.parquet", str(path))
    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield number, record
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:  # also of a text or a date that is none
        raise ValueError(f"{path} can't be read as Parquet ({first_line(error)}). Fetch it again.") from None
    bad.of(path).end(number)


def first_line(error: Exception) -> str:
    """Return the first line of what a library says."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def texts(
    path: Path, columns: Columns | None = None, repeated: bool = False, bad: BadLines = STOP
) -> Iterator[tuple[str, str]]:
    """Yield (id, text).

    Text is read as id<TAB>text; JSON lines and Parquet in BEIR's layout: _id and text. A title, where there is one, is put in
    front.

    Args:
        path: the file.
        columns: see ``fields``.
        repeated: don't look for ids that occur twice, which takes memory for every id.
        bad: takes bad lines down.

    Raises:
        ValueError: for a bad line, or an id that occurs twice with different texts.
    """
    rows = numbered_texts(path, columns, bad)
    return ((key, text) for _, key, text in (rows if repeated else distinct(rows, bad.of(path))))


def numbered_texts(path: Path, columns: Columns | None = None, bad: BadLines = STOP) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, id, text) as ``texts`` does, repeated ids included."""
    for number, (key, text, title) in fields(path, "\t", ("id", "text", "title"), columns, bad):
        yield number, key, f"{title} {text}" if title else text


def number_in(
    path: Path, line: int, text: str, kind: type[int] | type[float], name: str, bad: BadLines = STOP
) -> int | float | None:
    """Read a number of a column; None if it is none and its line is left out.

    Raises:
        ValueError: naming file, line and column if it is none and may not be left out.
    """
    what = "a whole number" if kind is int else "a finite number"
    value = _number(text, kind)
    if value is None:
        bad.of(path).add(line, f"{name} is {text[:80]!r}, expected {what}.")
    return value


def _number(text: str, kind: type[int] | type[float]) -> int | float | None:
    """Read a number; None if the text is no finite one. A whole number may be written as 1.0."""
    try:
        value = kind(NOUGHT.sub("", text) if kind is int else text)
        return value if math.isfinite(value) and "_" not in text else None  # Python reads 1_0 as 10
    except (ValueError, OverflowError):
        return None
