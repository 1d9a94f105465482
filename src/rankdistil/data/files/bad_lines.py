"""Bad lines and repeated ids of a file: the first one ends the program, or a few are left out and counted.

Bytes that are no text always end it: nobody can say what the lines around them were meant to be.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ON_BAD = ("stop", "skip")
ONE_IN = 1000  # lines of which one may be bad
MOST = 100_000  # bad lines of any file: they are kept in memory, and nobody loses more than that without a look at the file


@dataclass(frozen=True)
class Tolerance:
    """What a reader puts up with in the user's files.

    Attributes:
        on_bad: ``stop`` at the first bad line, or ``skip`` bad lines: at most 0.1 % of a file's, but one in any file.
        allow_unknown: accept judgments of passages that the collection lacks, which then count for the ideal ranking, and of
            queries that the split lacks, which are left out.
    """

    on_bad: str = "stop"
    allow_unknown: bool = False

    def __post_init__(self) -> None:
        if self.on_bad not in ON_BAD:
            raise ValueError(f"data.on_bad is {self.on_bad!r}; expected one of {', '.join(ON_BAD)}.")
        if not isinstance(self.allow_unknown, bool):
            raise ValueError(f"data.allow_unknown is {self.allow_unknown!r}; expected true or false.")


class Tally:
    """The bad lines of one file. A line counts once, however often the file is read.

    Args:
        file: its name, for messages.
        on_bad: one of ``ON_BAD``.

    Attributes:
        first: the first complaint, with file and line.
        lines: how many the file has; None until it has been read to its end.
        names_columns: whether its first line was read as the names of its columns.
    """

    def __init__(self, file: str, on_bad: str) -> None:
        self.file, self._skips = file, on_bad == "skip"
        self.first: str | None = None
        self.lines: int | None = None
        self.names_columns = False
        self._bad: set[int] = set()
        self._before: dict[str, Any] | None = None

    def add(self, line: int, complaint: str) -> None:
        """Take down a line that can't be used.

        Raises:
            ValueError: unless it may be left out.
        """
        if not self._skips:
            self.refuse(line, complaint)
        self.first = self.first or f"{self.file}:{line}: {complaint}"
        self._bad.add(line)
        self._require_few()

    def refuse(self, line: int, complaint: str) -> None:
        """Take down a line that no file may have.

        Raises:
            ValueError: always; a check only lists it.
        """
        raise ValueError(f"{self.file}:{line}: {complaint}")

    def end(self, lines: int) -> None:
        """Say how many lines the file has.

        Raises:
            ValueError: if too many of them are bad.
        """
        self.lines = lines
        self._require_few()

    def told(self) -> dict[str, Any] | None:
        """Return ``lines``, ``bad`` and ``first``, for records; None if no line is bad."""
        if self.lines is None and self._before is not None:
            return self._before
        return {"lines": self.lines, "bad": len(self._bad), "first": self.first} if self._bad else None

    def recall(self, told: dict[str, Any] | None) -> None:
        """Take over what was told when a store was built from the file, which spares reading it.

        Raises:
            ValueError: if a line was left out then, and none may be now.
        """
        if told and not self._skips:
            raise ValueError(told["first"])
        self._before = told

    def _require_few(self) -> None:
        limit = MOST if self.lines is None else allowed(self.lines)
        if len(self._bad) > limit:
            found = f"more than {MOST}" if self.lines is None else f"{len(self._bad)} of {self.lines}"
            raise ValueError(
                f"{self.file}: {found} lines are bad; data.on_bad=skip leaves out at most {limit} (0.1 %, at least 1). "
                f"The first: {self.first}"
            )


def allowed(lines: int) -> int:
    """Return how many lines of a file may be left out."""
    return min(max(1, -(-lines // ONE_IN)), MOST)


class BadLines:
    """The tallies of all files that a reader reads.

    Args:
        on_bad: one of ``ON_BAD``.

    Attributes:
        on_bad: as given.
    """

    def __init__(self, on_bad: str = "stop") -> None:
        self.on_bad = on_bad
        self._files: dict[str, Tally] = {}

    def of(self, file: Path | str) -> Tally:
        """Return the tally of a file."""
        return self._files.setdefault(str(file), Tally(str(file), self.on_bad))

    def account(self) -> dict[str, dict[str, Any]]:
        """Return what each file tells that has bad lines, for records."""
        return {file: told for file, tally in self._files.items() if (told := tally.told())}


STOP = BadLines()
STRICT = Tolerance()


Row = tuple[int, str, str]
"""Line number, id, text."""


def distinct(rows: Iterable[Row], tally: Tally, among: Collection[int] | None = None) -> Iterator[Row]:
    """Leave out lines that repeat an earlier one; a line that gives an id another text is a bad one.

    Args:
        rows: of one file.
        tally: takes bad lines down.
        among: hashes of the ids that are looked at, ``repeated`` ones; None looks at all, which takes memory for each.
    """
    seen: dict[str, tuple[int, int]] = {}
    for number, key, text in rows:
        if among is not None and (not among or hash(key) not in among):
            yield number, key, text
            continue
        mark = hash(text)
        first, first_mark = seen.setdefault(key, (number, mark))
        if first == number:
            yield number, key, text
        elif first_mark != mark:
            tally.add(number, f"id {key!r} has another text than in line {first}. Keep one of them.")


def repeated(keys: Iterable[str]) -> set[int]:
    """Return the hashes of ids that occur more than once. Memory holds eight bytes of each id."""
    return repeated_hashes(np.array(array("q", map(hash, keys)), np.int64))


def repeated_hashes(hashes: NDArray[np.int64]) -> set[int]:
    """Return those of some hashes, (N,), that occur more than once."""
    ascending = np.sort(hashes)
    return set(ascending[1:][ascending[1:] == ascending[:-1]].tolist())
