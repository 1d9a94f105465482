"""Values of JSON lines and Parquet, where a column may hold anything: what is taken for an id, a text or a number.

Nothing is made a text that isn't one: ``str`` would turn a list or an object into an id that nobody wrote.
"""

import json
from typing import Any


def id_of(value: Any, name: str) -> str:
    """Return an id as text.

    Args:
        value: as it was read.
        name: of its column, for messages.

    Raises:
        ValueError: saying what was found, if it is neither a text nor a whole number, or empty; if it holds a zero, which
            stores cut off at the end of an id.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"{name} is {shown(value)}, expected an id: a text or a whole number.")
    if "\0" in str(value):
        raise ValueError(f"{name} is {shown(value)}, expected an id without the character zero.")
    return _whole(str(value))


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
