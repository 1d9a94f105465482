"""Malformed lines and duplicate ids of a file: the first ends the program, a few are left out and counted, or all are listed.

Bytes that are no text always end it: nobody can say what the lines around them were meant to be. A check lists all, so that it
can read with the readers of a run.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ON_BAD = ("stop", "skip")
LIST = "list"  # for a check: nothing ends it
SHOWN = 20  # complaints of each file
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
        on_bad: one of ``ON_BAD``, or ``LIST``.

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

    def fail(self, error: Exception) -> None:
        """Take down why the file can't be used at all.

        Raises:
            Exception: always; a check only lists it.
        """
        raise error

    def take(self, heard: "Tally") -> None:
        """Take down what another tally of the file heard.

        Raises:
            ValueError: if too many lines are bad.
        """
        self.first, self.names_columns = self.first or heard.first, heard.names_columns
        self._bad |= heard._bad
        if heard.lines is not None:
            self.end(heard.lines)

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


class Listing(Tally):
    """All complaints about one file: counted, and the first ones kept. Memory holds eight bytes of each."""

    def __init__(self, file: str, on_bad: str = LIST) -> None:
        super().__init__(file, on_bad)
        self.failures: list[str] = []
        self._left_out, self._refused = array("q"), array("q")
        self._shown: set[tuple[int, str]] = set()
        self._heard: Tally | None = None

    @property
    def found(self) -> int:
        """Count the lines that a run may leave out."""
        return _different(self._left_out)

    @property
    def fatal(self) -> int:
        """Count the complaints that end any run."""
        return len(self.failures) + _different(self._refused)

    def add(self, line: int, complaint: str) -> None:
        """Take down a line that a run may leave out."""
        self._left_out.append(line)
        self._show(line, complaint)

    def refuse(self, line: int, complaint: str) -> None:
        """Take down a line that ends any run."""
        self._refused.append(line)
        self._show(line, complaint)

    def fail(self, error: Exception) -> None:
        """Take down what ends any run."""
        if str(error) not in self.failures:
            self.failures.append(str(error))

    def take(self, heard: Tally) -> None:
        """Take down what another listing of the file heard, once."""
        if heard is self._heard:
            return
        self._heard = heard
        self.lines, self.names_columns = heard.lines, heard.names_columns
        self._left_out.extend(heard._left_out)
        self._refused.extend(heard._refused)
        for line, complaint in sorted(heard._shown):
            self._show(line, complaint)

    def end(self, lines: int) -> None:
        """Say how many lines the file has."""
        self.lines = lines

    def stops(self, on_bad: str) -> bool:
        """Whether a run would end here."""
        return bool(self.fatal) or self.found > (allowed(self.lines or 0) if on_bad == "skip" else 0)

    def shown(self) -> list[str]:
        """Return the first complaints in the order of the lines, and how many more there are."""
        shown = self.failures + [f"{self.file}:{line}: {complaint}" for line, complaint in sorted(self._shown)]
        more = self.found + self.fatal - len(shown)
        return shown + ([f"{self.file}: and {more} more."] if more > 0 else [])

    def _show(self, line: int, complaint: str) -> None:
        if len(self._shown) < SHOWN:
            self._shown.add((line, complaint))


def _different(numbers: array) -> int:
    return len(np.unique(np.frombuffer(numbers, np.int64))) if numbers else 0


class BadLines:
    """The tallies of all files that a reader reads.

    Args:
        on_bad: one of ``ON_BAD``, or ``LIST``.

    Attributes:
        on_bad: as given.
    """

    def __init__(self, on_bad: str = "stop") -> None:
        self.on_bad = on_bad
        self._files: dict[str, Tally] = {}

    def of(self, file: Path | str) -> Tally:
        """Return the tally of a file."""
        kind = Listing if self.on_bad == LIST else Tally
        return self._files.setdefault(str(file), kind(str(file), self.on_bad))

    def all(self) -> list[Tally]:
        """Return the tallies, in the order in which files were first asked for."""
        return list(self._files.values())

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
    ascending = np.sort(np.array(array("q", map(hash, keys)), np.int64))
    return set(ascending[1:][ascending[1:] == ascending[:-1]].tolist())
