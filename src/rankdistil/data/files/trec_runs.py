"""TREC runs, read once for all splits and purposes of a process: compact, and one file at a time.

Objects for each line were rejected: a run of seven million candidates takes a gigabyte so, and 0.3 here.
"""

from array import array
from collections.abc import Iterable, Iterator, KeysView
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ir_datasets.formats import GenericScoredDoc

from rankdistil.data.files.bad_lines import BadLines, Tally
from rankdistil.data.files.layout import Columns
from rankdistil.data.files.lines import fields, number_in
from rankdistil.files import stamp

NAMES = ("query_id", "Q0", "passage_id", "rank", "score", "tag")


class RunTable:
    """The candidates of a run.

    Args:
        rows: query, passage and score of each line.
    """

    def __init__(self, rows: Iterable[GenericScoredDoc]) -> None:
        queries: dict[str, int] = {}
        passages: dict[str, int] = {}
        columns = array("i"), array("i"), array("d")
        for query, passage, score in rows:
            columns[0].append(queries.setdefault(query, len(queries)))
            columns[1].append(passages.setdefault(passage, len(passages)))
            columns[2].append(score)
        query, passage, score = (np.array(column) for column in columns)
        order = query.argsort(kind="stable")
        ends = np.searchsorted(query[order], np.arange(len(queries) + 1))
        self._spans = {key: slice(start, end) for key, start, end in zip(queries, ends[:-1], ends[1:], strict=True)}
        self._passages, self._passage, self._score = list(passages), passage[order], score[order]

    @property
    def queries(self) -> KeysView[str]:
        """The queries that it ranks."""
        return self._spans.keys()

    def of(self, queries: Iterable[str]) -> Iterator[GenericScoredDoc]:
        """Yield the candidates of some queries, those of each in the order of the file."""
        for query in queries:
            span = self._spans.get(query, slice(0))
            for passage, score in zip(self._passage[span].tolist(), self._score[span].tolist(), strict=True):
                yield GenericScoredDoc(query, self._passages[passage], score)


def scored_lines(path: Path, columns: Columns | None, bad: BadLines) -> Iterator[tuple[int, GenericScoredDoc]]:
    """Yield (line, candidate) of a run file."""
    for line, (query, _, passage, _, score, _) in fields(path, None, NAMES, columns, bad):
        if (value := number_in(path, line, score, float, "score", bad)) is not None:
            yield line, GenericScoredDoc(query, passage, value)


class _Heard(Tally):
    """Keeps the complaints about a file, to tell them to others."""

    def __init__(self, file: str, on_bad: str) -> None:
        super().__init__(file, on_bad)
        self._complaints: list[tuple[int, str]] = []

    def add(self, line: int, complaint: str) -> None:
        super().add(line, complaint)
        self._complaints.append((line, complaint))

    def tell(self, tally: Tally) -> None:
        for line, complaint in self._complaints:
            tally.add(line, complaint)
        if self.lines is not None:
            tally.end(self.lines)


class _HeardLines(BadLines):
    def of(self, file: Path | str) -> _Heard:
        return self._files.setdefault(str(file), _Heard(str(file), self.on_bad))


class _Read(NamedTuple):
    table: RunTable
    heard: _Heard


_LAST: dict[tuple[object, ...], _Read] = {}


def run_table(path: Path, columns: Columns | None, bad: BadLines) -> RunTable:
    """Return the candidates of a run file: those read last, if they are the same file's and it hasn't changed.

    Args:
        path: the file.
        columns: where fields stand.
        bad: takes its bad lines down, whoever reads it.
    """
    if not path.is_file():
        return RunTable(row for _, row in scored_lines(path, columns, bad))  # which says that
    key = str(path.resolve()), *stamp(path).values(), bad.on_bad, str(sorted((columns or {}).items()))
    if key not in _LAST:
        forget_run()
        heard = _HeardLines(bad.on_bad)
        _LAST[key] = _Read(RunTable(row for _, row in scored_lines(path, columns, heard)), heard.of(path))
    _LAST[key].heard.tell(bad.of(path))
    return _LAST[key].table


def forget_run() -> None:
    """Give the memory of the run that was read last back."""
    _LAST.clear()
