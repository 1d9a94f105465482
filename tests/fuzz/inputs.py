"""The inputs, each made of a seed and its number, and what comes of one: accepted, refused as documented, or a fault."""

import hashlib
import math
import re
import resource
import shutil
import signal
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from rankdistil import files
from rankdistil.cli import describe
from rankdistil.data.teacher_scores.formats import LocatedError
from rankdistil.models import locate
from tests.fuzz.formats import CORPUS, FORMATS, FOUND, Format

ACCEPTED, REFUSED, FAULT = "accepted", "refused", "fault"
DOCUMENTED = (ValueError, LocatedError, FileNotFoundError)  # and nothing that is made of them, as UnicodeDecodeError
LONGEST = 4000  # characters of a message
SECONDS = 10.0
MEMORY = 256 << 20  # bytes that one small file may take more than any before it
ROOM = 4 << 30  # bytes of addresses beyond those of the libraries
OUT_OF_MEMORY = re.compile(r"allocate|bad_alloc|out of memory", re.IGNORECASE)


class Outcome(NamedTuple):
    """What came of an input. Attributes: kind: ``ACCEPTED``, ``REFUSED`` or ``FAULT``; told: the message, or what is wrong."""

    kind: str
    told: str = ""


class Input(NamedTuple):
    """Attributes: form: its format; seed, number: what it is made of; valid: the file before its damage; content: behind it."""

    form: Format
    seed: int
    number: int
    valid: Path
    content: bytes

    def __str__(self) -> str:
        return f"{self.form.name}, --seed {self.seed}, input {self.number} ({self.valid.relative_to(CORPUS)})"


def made(form: Format, seed: int, number: int) -> Input:
    """Make an input of a format."""
    random, valid = Random(f"{seed} {form.name} {number}"), form.valid()
    base = random.choice(valid)
    alike = [path for path in valid if path.suffix == base.suffix]
    return Input(form, seed, number, base, form.damage(random, _read(base), _read(random.choice(alike))))


_CONTENTS: dict[Path, bytes] = {}


def _read(path: Path) -> bytes:
    if path not in _CONTENTS:
        _CONTENTS[path] = path.read_bytes()
    return _CONTENTS[path]


def counts(inputs: int) -> dict[Format, int]:
    """Share inputs out to the formats, one at least to each."""
    whole = sum(form.share for form in FORMATS)
    return {form: max(1, round(inputs * form.share / whole)) for form in FORMATS}


def keep(each: Input, corpus: Path = CORPUS) -> Path:
    """Keep an input that is a fault beside the file that it was made of."""
    folder = corpus / each.valid.parent.relative_to(CORPUS) / FOUND
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{each.valid.name}-{hashlib.sha256(each.content).hexdigest()[:12]}"
    place.write_bytes(each.content)
    return place


@contextmanager
def in_memory() -> Iterator[Path]:
    """Give an empty folder, in memory where the system has one: a disk takes ten times as long to replace a file."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class Bench:
    """A copy of the corpus, in which one file at a time is put in the place of a valid one and read.

    Args:
        folder: for the copy; none yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(CORPUS, folder, ignore=shutil.ignore_patterns(FOUND))
        self._done, self._room = 0, resource.getrlimit(resource.RLIMIT_AS)[0]
        for form in FORMATS:
            for valid in form.valid():
                outcome = self.outcome(form, valid, _read(valid), math.inf)  # with the memory of libraries, which is no input's
                if outcome.kind != ACCEPTED:
                    raise RuntimeError(f"{valid} is not accepted: {outcome.told}")
        if (told := Path("/proc/self/statm")).is_file():  # of Linux
            self._room = int(told.read_text().split()[0]) * resource.getpagesize() + ROOM

    def outcome(self, form: Format, valid: Path, content: bytes, memory: float = MEMORY) -> Outcome:
        """Read a content in the place of a valid one."""
        place = self._folder / valid.relative_to(CORPUS)
        place.write_bytes(content)
        before, told = _peak(), None
        try:
            with _bounded(self._room), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                form.read(place)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a library's panic, too
            told = error
        finally:
            place.write_bytes(_read(valid))
            self._forget()
        if (grown := _peak() - before) > memory:
            return Outcome(FAULT, f"took {grown >> 20} MiB")
        if told is None:
            return Outcome(ACCEPTED)
        return _of_error(told, self._folder)

    def _forget(self) -> None:
        self._done += 1
        if self._done % 1000 == 0:  # a process that reads a million files is none of a user's
            files._content.cache_clear()
            locate._of_json.cache_clear()


def _of_error(error: BaseException, folder: Path) -> Outcome:
    """Tell the documented error from all others."""
    said = describe(error, "train") if isinstance(error, Exception) else repr(error)
    wrong = None
    if type(error) not in DOCUMENTED:
        wrong = "no error of the product"
    elif str(folder) not in said:
        wrong = "names no file"
    elif len(said) > LONGEST:
        wrong = f"a message of {len(said)} characters"
    elif odd := next((letter for letter in said if unicodedata.category(letter) in ("Cc", "Cs") and letter != "\n"), None):
        wrong = f"U+{ord(odd):04X} in the message"
    elif OUT_OF_MEMORY.search(said):
        wrong = "out of memory"
    return Outcome(REFUSED, said) if wrong is None else Outcome(FAULT, f"{wrong}: {type(error).__name__}: {said[:600]}")


class TooLongError(BaseException):
    """Reading takes longer than it may. No ``Exception``, which a reader might take for one of a library."""


@contextmanager
def _bounded(room: int) -> Iterator[None]:
    """Bound the time of a block, and the addresses of this process meanwhile, so that no input takes the machine's memory."""

    def stop(signum: int, frame: object) -> None:
        raise TooLongError(f"not read in {SECONDS:g} s")

    before, limits = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
