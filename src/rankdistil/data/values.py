"""Values of columns: what is taken for an id, a text or a number. One rule for ids holds whatever they are read from.

Nothing is made a text that isn't one: ``str`` would turn a list or an object into an id that nobody wrote.
"""

import json
import re
import unicodedata
from typing import Any

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
