"""Plain text files, one record a line: every complaint names the file and the line."""

import json
import math
from collections.abc import Iterator
from pathlib import Path


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end); a BOM is stripped, empty lines are skipped.

    Raises:
        FileNotFoundError: if the file isn't there.
        ValueError: for bytes that are no UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there. Set its name under data.*, or put the file in place.")
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                place = raw.index(error.object[error.start :]) + 1  # the decoder's own count leaves a BOM out
                raise ValueError(f"{path}:{number}: byte {place} is not UTF-8. Convert the file to UTF-8.") from None
            if line.strip():
                yield number, line


def fields(path: Path, separator: str | None, names: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, columns).

    Args:
        path: the file.
        separator: a tab, or None for any white space.
        names: the columns expected, for the message.

    Raises:
        ValueError: for a line with another number of columns, or with an empty id.
    """
    for number, line in lines(path):
        parts = line.split(separator) if separator else line.split()
        if len(parts) != len(names):
            wanted = ("<TAB>" if separator else " ").join(names)
            raise ValueError(f"{path}:{number}: {len(parts)} columns, expected {len(names)} ({wanted}): {line[:80]!r}")
        for name, part in zip(names, parts, strict=True):
            if name.endswith("id") and not part.strip():
                raise ValueError(f"{path}:{number}: empty {name}: {line[:80]!r}")
        yield number, parts


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of a .tsv (id<TAB>text) or a BEIR .jsonl (_id, text, optional title, put in front).

    Raises:
        ValueError: for a bad line, or an id that occurs twice with different texts.
    """
    seen: dict[str, tuple[int, int]] = {}
    for number, key, text in _json_texts(path) if path.suffix == ".jsonl" else _tab_texts(path):
        mark = hash(text)
        first, first_mark = seen.setdefault(key, (number, mark))
        if first != number:
            if first_mark != mark:
                raise ValueError(f"{path}:{number}: id {key!r} has another text than in line {first}. Keep one of them.")
            continue
        yield key, text


def _tab_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, (key, text) in fields(path, "\t", ("id", "text")):
        yield number, key, text


def _json_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: no JSON object ({error}): {line[:80]!r}") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str) or not str(record.get("_id") or ""):
            raise ValueError(f"{path}:{number}: expected a JSON object with an _id and a text: {line[:80]!r}")
        title = record.get("title") or ""
        text = record["text"]
        yield number, str(record["_id"]), f"{title} {text}" if title else text


def number_in(path: Path, line: int, text: str, kind: type[int] | type[float], name: str) -> int | float:
    """Read a number of a column.

    Raises:
        ValueError: naming file, line and column if it is none.
    """
    what = "a whole number" if kind is int else "a finite number"
    try:
        value = kind(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    except ValueError:
        raise ValueError(f"{path}:{line}: {name} is {text!r}, expected {what}.") from None
