"""Damages files as discs, transfers, editors, other programs and people do: bytes, columns, values.

Damage is the same for the same random numbers.
"""

import json
import struct
from collections.abc import Callable
from io import BytesIO
from random import Random
from typing import Any

Damage = Callable[[Random, bytes, bytes], bytes]
"""Makes another content out of a valid one; the last argument is another valid content, to be spliced in."""

DEEP = "\0deep\0"  # stands for a nesting that json.dumps can't write
NESTED = 3000
LONG = 70_000
FLOATS = 1e300
TOKENS = (
    b"\0", b"\xef\xbb\xbf", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80", b"\\ud800", b"\\u0000", b"\t",
    b"\t\t", b"\r", b"\r\n", b"\n", b"\n\n", b" ", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"NaN", b"Infinity",
    b"-Infinity", b"nan", b"inf", b"1e400", b"-1e-400", b"3.5e38", b"9" * 30, b"9" * 400, b"9" * 5000, b"-0", b"0x10", b"1_0",
    b"\xd9\xa3", b"\xc2\xb2", b"1.0", b"null", b"true", b"[" * NESTED, b'{"a":' * NESTED, "\u2028".encode(), "\x85".encode(),
    "\xa0".encode(), "\u3000".encode(), "\u202e".encode(), b"\x1b[31m", b"\x0b", b"\x1c", b"x" * LONG, b"id\ttext", b"query_id",
    b"passage_id", b"score", b"_id", b"Q0", b"\x1f\x8b\x08", b"(\xb5/\xfd", b"PAR1", b"../", b"$(id)", b"__class__",
)  # fmt: skip
NUMBERS = (0, 1, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, 1e39, 1e-320, float("nan"),
    float("inf"), float("-inf"), "", " ", "a", "1", "nan", "\0", "\ud800", "\ufeffa", "a\u2028b", "\x1b[31m", "x" * LONG, [],
    {}, [[]], [None], ["a"], [1, "a"], [0.5] * 3, {"a": None}, {"": {}}, {"a": [1]}, DEEP, "[UNK]", "[CLS]", "../x", "\u0663",
)  # fmt: skip


def of_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    """Change a few bytes: flip, set, delete, repeat or insert some, cut the end off, go on with another file."""
    for _ in range(_few(random)):
        content = random.choice(BYTES)(random, content, other)
    return content


def of_text(random: Random, content: bytes, other: bytes) -> bytes:
    """Change bytes, columns or lines."""
    for _ in range(_few(random)):
        content = random.choice((*BYTES, *LINES, *LINES))(random, content, other)
    return content


def of_json_lines(random: Random, content: bytes, other: bytes) -> bytes:
    """Change bytes, lines, or values of one of the objects."""
    for _ in range(_few(random)):
        if random.random() < 0.3:
            content = random.choice((*BYTES, *LINES))(random, content, other)
            continue
        lines = content.splitlines(keepends=True)
        place = random.randrange(len(lines) or 1)
        lines[place : place + 1] = [of_values(random, lines[place].rstrip(b"\n"), other) + b"\n"] if lines else []
        content = b"".join(lines)
    return content


def of_json(random: Random, content: bytes, other: bytes) -> bytes:
    """Change values mostly, else bytes."""
    return of_values(random, content, other) if random.random() < 0.75 else of_bytes(random, content, other)


def of_values(random: Random, content: bytes, other: bytes) -> bytes:
    """Change values of a JSON text: their type, number, key; leave it as it is where it is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return of_bytes(random, content, other)
    for _ in range(_few(random)):
        value = _changed(random, value)
    try:
        text = json.dumps(value, ensure_ascii=random.random() < 0.5, separators=random.choice(((",", ":"), (", ", ": "))))
    except (ValueError, RecursionError):
        return content
    deep = "[" * NESTED + "]" * NESTED if random.random() < 0.5 else '{"a":' * NESTED + "1" + "}" * NESTED
    for shown in (json.dumps(DEEP), json.dumps(DEEP, ensure_ascii=False)):
        text = text.replace(shown, deep)
    return text.encode("utf-8", "surrogatepass")


def of_safetensors(random: Random, content: bytes, other: bytes) -> bytes:
    """Change the header's values, its length said anew, or bytes."""
    if random.random() < 0.25 or len(content) < 8:
        return of_bytes(random, content, other)
    size = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + size], content[8 + size :]
    header = (of_values if random.random() < 0.8 else of_bytes)(random, header, other)
    said = len(header) if random.random() < 0.9 else random.choice(NUMBERS)
    if random.random() < 0.1:
        data = of_bytes(random, data, other)
    return struct.pack("<Q", said) + header + data


def of_parquet(random: Random, content: bytes, other: bytes) -> bytes:
    """Change values of the rows, whatever types their columns then have, or bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if random.random() < 0.6:
        return of_bytes(random, content, other)
    rows = _changed(random, pq.read_table(BytesIO(content)).to_pylist())
    for _ in range(_few(random)):
        rows = _changed(random, rows)
    made = BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist([row for row in rows if isinstance(row, dict)]), made)
    except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError):  # no table has such columns
        return of_bytes(random, content, other)
    return made.getvalue()


def _few(random: Random) -> int:
    return 1 + (random.random() < 0.4) + (random.random() < 0.2) + 3 * (random.random() < 0.05)


def _span(random: Random, size: int, most: int = 40) -> tuple[int, int]:
    start = random.randrange(size + 1)
    return start, min(size, start + random.randint(1, most))


def _flip(random: Random, content: bytes, other: bytes) -> bytes:
    if not content:
        return content
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def _set(random: Random, content: bytes, other: bytes) -> bytes:
    place = random.randrange(len(content) + 1)
    return content[:place] + random.randbytes(1) + content[place + 1 :]


def _delete(random: Random, content: bytes, other: bytes) -> bytes:
    start, end = _span(random, len(content))
    return content[:start] + content[end:]


def _repeat(random: Random, content: bytes, other: bytes) -> bytes:
    start, end = _span(random, len(content))
    return content[:end] + content[start:end] * random.choice((1, 1, 2, 50)) + content[end:]


def _insert(random: Random, content: bytes, other: bytes) -> bytes:
    start, end = _span(random, len(content), 8)
    return content[:start] + random.choice(TOKENS) + content[end if random.random() < 0.5 else start :]


def _number(random: Random, content: bytes, other: bytes) -> bytes:
    place, kind = random.randrange(len(content) + 1), random.choice("BHIQ")
    size = struct.calcsize(f"<{kind}")
    said = (random.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
    return content[:place] + said + content[place + len(said) :]


def _cut(random: Random, content: bytes, other: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _splice(random: Random, content: bytes, other: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]


BYTES: tuple[Damage, ...] = (_flip, _flip, _set, _delete, _repeat, _insert, _insert, _number, _cut, _splice)


def _move_line(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    line = lines.pop(random.randrange(len(lines)))
    place = random.randrange(len(lines) + 1)
    return b"".join([*lines[:place], *[line] * random.randrange(3), *lines[place:]])


def _column(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    separator = b"\t" if b"\t" in lines[place] else b" "
    parts = lines[place].split(separator)
    column = random.randrange(len(parts))
    parts[column : column + random.randrange(2)] = [random.choice(TOKENS)] * random.randrange(1, 3)
    lines[place] = separator.join(parts)
    return b"\n".join(lines)


def _swap_columns(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    parts = lines[place].split(b"\t")
    random.shuffle(parts)
    lines[place] = random.choice((b"\t", b" ", b",")).join(parts)
    return b"\n".join(lines)


LINES: tuple[Damage, ...] = (_move_line, _column, _column, _swap_columns)


def _changed(random: Random, value: Any) -> Any:
    """Change one value inside of another, or a key; lists and objects are changed in place."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        places += [(each, key) for key in keys]
        waiting += [each[key] for key in keys]
    if not places or random.random() < 0.02:
        return random.choice(VALUES)
    held, key = random.choice(places)
    kind = random.randrange(8)
    if kind == 0:
        del held[key]
    elif kind == 1 and isinstance(held, dict):
        name = random.choice(("", "a", f"{key}x", f" {key}", random.choice(list(held))))
        held[name] = held.pop(key)
    elif kind == 2 and isinstance(held, list):
        held.insert(key, random.choice((held[key], random.choice(VALUES))))
    elif kind == 3:
        there, other = random.choice(places)
        if there is not held[key] and not isinstance(there[other], dict | list):  # none inside of itself
            held[key] = there[other]
    elif kind == 4 and isinstance(held[key], int | float) and abs(held[key]) < FLOATS:
        held[key] = random.choice((-held[key], held[key] + 1, held[key] * 1000, held[key] * 1.0, str(held[key])))
    else:
        fresh = random.choice(VALUES)
        held[key] = json.loads(json.dumps(fresh)) if isinstance(fresh, dict | list) else fresh  # a copy
    return value
