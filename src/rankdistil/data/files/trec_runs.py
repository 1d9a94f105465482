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
        rows: line and candidate.
    """

    def __init__(self, rows: Iterable[tuple[int, GenericScoredDoc]]) -> None:
        queries: dict[str, int] = {}
        passages: dict[str, int] = {}
        columns = array("i"), array("i"), array("d"), array("i")
        for line, (query, passage, score) in rows:
            columns[0].append(queries.setdefault(query, len(queries)))
            columns[1].append(passages.setdefault(passage, len(passages)))
            columns[2].append(score)
            columns[3].append(line)
        query, passage, score, line = (np.array(column) for column in columns)
        order = query.argsort(kind="stable")
        ends = np.searchsorted(query[order], np.arange(len(queries) + 1))
        self._spans = {key: slice(start, end) for key, start, end in zip(queries, ends[:-1], ends[1:], strict=True)}
        self._passages, self._passage, self._score, self._line = list(passages), passage[order], score[order], line[order]

    @property
    def queries(self) -> KeysView[str]:
        """The queries that it ranks."""
        return self._spans.keys()

    @property
    def passages(self) -> list[str]:
        """The passages that it names."""
        return self._passages

    def counts(self) -> dict[str, int]:
        """Count the lines of each query."""
        return {query: int(span.stop - span.start) for query, span in self._spans.items()}

    def of(self, queries: Iterable[str], tally: Tally) -> Iterator[tuple[int, GenericScoredDoc]]:
        """Yield (line, candidate) of some queries, those of each in the order of the file.

        Args:
            queries: that are wanted.
            tally: takes down passages that a query names twice.

        Raises:
            ValueError: naming both lines of the first such passage.
        """
        for query in queries:
            span, first = self._spans.get(query, slice(0)), {}
            for passage, score, line in zip(
                *(each[span].tolist() for each in (self._passage, self._score, self._line)), strict=True
            ):
                name = self._passages[passage]
                if (before := first.setdefault(passage, line)) == line:
                    yield line, GenericScoredDoc(query, name, score)
                else:
                    tally.refuse(line, f"query {query} names passage {name} again (line {before}). Remove the repetition.")


def scored_lines(path: Path, columns: Columns | None, bad: BadLines) -> Iterator[tuple[int, GenericScoredDoc]]:
    """Yield (line, candidate) of a run file."""
    for line, (query, _, passage, _, score, _) in fields(path, None, NAMES, columns, bad):
        if (value := number_in(path, line, score, float, "score", bad)) is not None:
            yield line, GenericScoredDoc(query, passage, value)


class _Read(NamedTuple):
    table: RunTable
    heard: Tally


_LAST: dict[tuple[object, ...], _Read] = {}


def run_table(path: Path, columns: Columns | None, bad: BadLines) -> RunTable:
    """Return the candidates of a run file: those read last, if they are the same file's and it hasn't changed.

    Args:
        path: the file.
        columns: where fields stand.
        bad: takes its bad lines down, whoever reads it.
    """
    if not path.is_file():
        return RunTable(scored_lines(path, columns, bad))  # which says that
    key = str(path.resolve()), *stamp(path).values(), bad.on_bad, str(sorted((columns or {}).items()))
    if key not in _LAST:
        forget_run()
        heard = BadLines(bad.on_bad)
        _LAST[key] = _Read(RunTable(scored_lines(path, columns, heard)), heard.of(path))
    bad.of(path).take(_LAST[key].heard)
    return _LAST[key].table


def forget_run() -> None:
    """Give the memory of the run that was read last back."""
    _LAST.clear()
