"""Dataset check (``plan=check``): counts, and every problem instead of the first one.

Files are read by the readers of a run, with an account of bad lines that lists them all: a run says what the check says. Files
that are named are read, whether this run has a use for them or not.

Nothing is written, and nothing fetched: of an ir_datasets id that isn't embedded, only what ir_datasets says about it is told.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rankdistil.data.batches.datamodule import spread
from rankdistil.data.batches.groups import hard_negatives, require_groups, require_triples, told_left_out
from rankdistil.data.batches.training_groups import answers, known_judgments, lists_groups
from rankdistil.data.check.counts import TextsFound, TriplesFound, count_candidates, count_judgments, count_lines, count_triples
from rankdistil.data.collections import almanac
from rankdistil.data.collections.reader import Reader, require_used
from rankdistil.data.collections.splits import Asked, overlaps, told_sides, without_twins
from rankdistil.data.collections.texts import judgments, known_candidates, negative_candidates
from rankdistil.data.encode import FEWEST_SPECIAL
from rankdistil.data.fetch import missing
from rankdistil.data.files.bad_lines import LIST, BadLines
from rankdistil.data.files.folder import FileScoredDocs, FolderSplit
from rankdistil.data.records import Qrels, Ranking
from rankdistil.data.settings import DataSettings
from rankdistil.data.stores.ragged import in_chunks
from rankdistil.data.teacher_scores.folder import matching_header, texts_scored
from rankdistil.files import content

INDEXED = 300_000  # passages: a check builds no larger index
CHUNK = 1 << 14  # lines or queries that are looked at together
PARTS = {"docs": "passages", "queries": "queries", "qrels": "judgments", "docpairs": "triples", "scoreddocs": "candidates"}
FILES = {"docs": "corpus", "queries": "queries", "qrels": "qrels", "docpairs": "triples", "scoreddocs": "candidates"}


class Split(NamedTuple):
    """Attributes: name: ``train`` and so on; reader; relevance_level: lowest grade of a relevant passage."""

    name: str
    reader: Reader
    relevance_level: int

    @property
    def is_read(self) -> bool:
        """Whether a check reads it: it is on this machine for sure."""
        return isinstance(self.reader.source, FolderSplit) or self.reader.source in almanac.IDS

    def place(self, part: str) -> tuple[str, Path | None]:
        """Return the name, and the file, that a part is read from; without a file the id of a dataset."""
        source, run = self.reader.source, self.reader.run if part == "scoreddocs" else None
        if part in self.reader.negatives_runs:
            run = part
        if run is not None:
            return run, Path(run).expanduser()
        if isinstance(source, str):
            return source, None
        return source.name if source.triples_text else getattr(source, FILES[part]), source.files[FILES[part]]


class Row(NamedTuple):
    """One file, or one dataset.

    Attributes:
        splits: that it belongs to.
        file: its name; the dataset's id.
        lines: how many; None if it wasn't read to its end.
        bytes: its size; None for what is no file.
        sha256: the first digits.
        told: what was counted, a part a line.
    """

    splits: list[str]
    file: str
    lines: int | None
    bytes: int | None
    sha256: str
    told: str


class Texts(NamedTuple):
    """Attributes: file: its name, or the dataset's id; kind: ``passage`` or ``query``; found: in it."""

    file: str
    kind: str
    found: TextsFound


class Check:
    """Looks through splits.

    Args:
        settings: of ``data``.
        on_bad: of ``data``.

    Attributes:
        rows: what was found.
        facts: what a reader of its results may want to know beforehand.
        leaks: questions that two splits share.
        notes: what no run would stop at, but a reader of its results should know.
        problems: what concerns no single file.
        listings: complaints about files.
        texts: that were read, those of each file once.
        settings: as given.
    """

    def __init__(self, settings: DataSettings, on_bad: str = "stop") -> None:
        self.rows: list[Row] = []
        self.facts: list[str] = []
        self.leaks: list[str] = []
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.listings = BadLines(LIST)
        self.texts: list[Texts] = []
        self.settings, self._on_bad = settings, on_bad
        self._own: dict[Split, Split] = {}  # with a reader that lists complaints and writes no store
        self._counted: dict[tuple[object, ...], tuple[str, Any]] = {}
        self._asked: dict[Split, tuple[TextsFound, set[int]]] = {}
        self._ranked: dict[Split, tuple[Ranking, Qrels]] = {}

    def stops(self) -> bool:
        """Whether a run would stop at what was found."""
        return bool(self.problems) or any(listing.stops(self._on_bad) for listing in self.listings.all())

    def look(self, splits: Sequence[Split]) -> None:
        """Look through splits; what they share is counted once."""
        for split in splits:
            reader = split.reader
            reader = Reader(
                reader.source, reader.holdout, reader.tolerance, reader.runs, bad=self.listings, language=reader.language,
                negatives_runs=reader.negatives_runs,
            )  # fmt: skip
            own = self._own[split] = split._replace(reader=reader)
            if own.is_read:
                self._read(own)
            else:
                self._try(partial(self._tell_known, own))
            if split.name == "train":
                self._try(partial(self._tell_margin, reader))
        ranked = [own for own in self._own.values() if own.reader.runs]
        if all(own.is_read for own in ranked):
            files = dict.fromkeys(file for own in ranked for file in own.reader.runs)
            self._try(lambda: require_used(files, [own.reader.run for own in ranked]))
        self._compare(list(self._own.values()))

    def ranking(self, split: Split) -> tuple[Ranking, Qrels] | None:
        """Return the candidates that a run re-ranks, and what they are judged by; None where they can't be had cheaply.

        Args:
            split: ``valid`` or ``test``, looked through; nothing of it stops a run.
        """
        own = self._own[split]
        reader = own.reader
        if own in self._ranked:
            return self._ranked[own]
        if isinstance(reader.source, str) and missing(reader.dataset, ("queries", "qrels", "scoreddocs")):
            return None
        if reader.scored is None:
            found = [len(texts.found) for texts in self.texts if texts.kind == "passage"]
            passages = reader.dataset.docs_count() if isinstance(reader.source, str) else max(found)
            if passages > INDEXED:
                self.facts.append(
                    f"{split.name}: what the candidates hold is not told: BM25 over {passages} passages would have to be built."
                )
                return None
        self._try(lambda: self._rank(own, reader.qrels))
        return self._ranked.get(own)

    def _read(self, split: Split) -> None:
        """Read all parts of a split."""
        reader = split.reader
        for file in reader.source.files.values() if isinstance(reader.source, FolderSplit) else ():
            self.listings.of(file)  # in this order
        dataset = self._try(lambda: reader.dataset)
        if dataset is None:
            return
        passages = self._texts(split, "docs", reader.passages)
        if split.name == "passages":  # which are read without any question
            return
        queries = self._texts(split, "queries", lambda: reader.all_queries.items())
        whole, same = queries is not None and passages is not None, (split.place("docs"), split.place("queries"))

        def part(name: str, count: Callable[..., tuple[str, Any]], *by: object) -> Any:
            known = partial(count, reader, queries, passages, *by)
            return self._part(split, name, known if whole else partial(count_lines, reader, name, PARTS[name]), *same, *by)

        by_grade = split.relevance_level, split.name == "train"
        judged = part("qrels", count_judgments, *by_grade) if dataset.has_qrels() else None
        triples = part("docpairs", count_triples) if dataset.has_docpairs() else None
        if by_file := isinstance(self._try(lambda: reader.scored), FileScoredDocs):
            asked = None if queries is None else reader.all_queries
            self._part(split, "scoreddocs", lambda: count_candidates(reader, asked), *same)
        for run in reader.negatives_runs:
            self._part(split, run, partial(count_candidates, reader, queries and reader.all_queries, run), *same)
        if whole:
            asked = (triples and triples.queries) if self._lists(split) else judged
            if asked is not None:
                self._asked[split] = queries, asked
            self._use(split, passages, triples, by_file)

    def _use(self, split: Split, passages: TextsFound, triples: TriplesFound | None, by_file: bool) -> None:
        """See that a run can train on a split, or rank it; ``by_file``: whether a file names its candidates."""
        reader, listed = split.reader, self._lists(split)
        judged = None
        if reader.dataset.has_qrels() or not listed:
            judged = self._try(lambda: judgments(reader, passages))
        if listed and not reader.dataset.has_docpairs():
            self._try(reader.require_docpairs)
        elif listed and triples is not None and not self.stops():  # by lines that are no triples
            self._try(lambda: require_triples(triples.count - triples.same_text, triples.same_text))
        if split.name == "train":
            self._try(lambda: self._sample(split, judged, passages, by_file or bool(reader.negatives_runs)))
        elif by_file:
            self._try(lambda: self._rank(split, judged, passages))

    def _lists(self, split: Split) -> bool:
        """Whether a split is the training split, and trained on its own triples."""
        settings, triples = self.settings, split.reader.dataset.has_docpairs()
        return split.name == "train" and lists_groups(settings.train_on, settings.negatives, triples)

    def _texts(self, split: Split, part: str, read: Callable[[], Iterable[tuple[str, str]]]) -> TextsFound | None:
        def count() -> tuple[str, TextsFound]:
            found = TextsFound(read(), self.settings.max_length - FEWEST_SPECIAL)
            kind = "query" if part == "queries" else "passage"
            if found.sample and all((kind, found.sample) != (other.kind, other.found.sample) for other in self.texts):
                self.texts.append(Texts(split.place(part)[0], kind, found))  # datasets share collections
            return found.told(PARTS[part]), found

        return self._part(split, part, count)

    def _sample(self, split: Split, judged: Qrels | None, passages: TextsFound, by_file: bool) -> None:
        """Look through what groups are sampled from, as a run does; without a file of candidates, at judgments alone.

        BM25 isn't asked: for all training queries that can take hours.
        """
        reader, settings = split.reader, self.settings
        known = known_judgments(judged or {}, passages)
        positives, relevant, able = answers(known, split.relevance_level), answers(known, 1), 0
        several = len(reader.negatives_runs) > 1  # of which memory holds one at a time
        for queries in in_chunks(reader.queries, len(reader.queries) if several else CHUNK):
            candidates = negative_candidates(reader, settings.negatives_depth, passages, queries) if by_file else {}
            negatives = hard_negatives(candidates, known, settings.negatives_skip)
            left, _ = without_twins(negatives, relevant, passages, passages)
            answered = [query for query in queries if positives.get(query)]
            able += sum(not by_file or len(left[query]) >= settings.negatives for query in answered)
        if judged is not None and not self._lists(split) and not self.stops():
            require_groups(able, settings.negatives)
            if able < len(reader.queries):
                self.notes.append(told_left_out(len(reader.queries) - able, len(reader.queries)))

    def _rank(self, split: Split, judged: Qrels | None, passages: TextsFound | None = None) -> None:
        """Rank candidates as a run does; where ``passages`` are given, see that they hold them."""
        depth, limit = self.settings.reranked(split.name)
        asked = split.reader.queries if judged is None else spread(judged, limit)
        found = split.reader.candidates(depth, asked)
        if passages is not None:
            found = known_candidates(split.reader, found, passages)
        if judged is not None:
            self._ranked[split] = found, asked
            if unranked := [query for query, row in found.items() if not row]:
                self.notes.append(
                    f"{split.name}: {len(unranked)} of {len(asked)} judged queries have no candidates and count as 0, for "
                    f"example {min(unranked)}."
                )

    def _part(self, split: Split, part: str, count: Callable[[], tuple[str, Any]], *by: object) -> Any:
        """Count a part of a split for the table, or find it counted; None if it can't be read.

        Args:
            split: whose part it is.
            part: a key of ``PARTS``.
            count: returns what was counted, in words and for comparisons.
            by: what else than the part's file decides the outcome.
        """
        file, path = place = split.place(part)
        told, found = "can't be read", None
        try:
            told, found = self._counted[part, place, by] if (part, place, by) in self._counted else count()
            self._counted[part, place, by] = told, found
        except (ValueError, OSError) as error:
            self._hear(error, path)
        row = Row([split.name], file, None, None, "", told)
        if path is not None:
            listing, size = self.listings.of(path), path.stat().st_size if path.is_file() else None
            named = "; line 1 names the columns" if listing.names_columns and found is not None else ""
            row = Row([split.name], file, listing.lines, size, content(path) if found is not None else "", told + named)
        if part != "docs" and place == split.place("docs"):  # one file, or a dataset, holds several parts
            self.rows[-1] = self.rows[-1]._replace(told=f"{self.rows[-1].told}\n{told}")
        elif same := next((other for other in self.rows if other[1:] == row[1:]), None):
            same.splits.append(split.name)
        else:
            self.rows.append(row)
        return found

    def _tell_known(self, split: Split) -> None:
        """Tell what ir_datasets says about a dataset."""
        source, dataset = str(split.reader.source), split.reader.dataset
        rows = {part: row for part, row in dataset.metadata().items() if part in PARTS}
        counts = [f"{row.get('count', 'an unknown number of')} {PARTS[part]}" for part, row in rows.items()]
        self.rows.append(Row([split.name], source, None, None, "", "\n".join(counts)))
        here = "is on this machine; the counts are those that ir_datasets knows"
        where = "is not on this machine: a run would fetch it first" if missing(dataset, PARTS) else here
        self.notes.append(f"{split.name}: {source} {where}.")
        if self._lists(split):
            split.reader.require_docpairs()

    def _tell_margin(self, reader: Reader) -> None:
        """Compare ``data.negatives_scores`` with the texts of the training split."""
        files = reader.source.files.values() if isinstance(reader.source, FolderSplit) else ()
        if self.settings.negatives_scores is not None and all(path.is_file() for path in files):
            folder = Path(self.settings.negatives_scores).expanduser()
            matching_header(folder, texts_scored(reader), "data.negatives_scores")
            self.notes.append("training: how many negatives data.negatives_margin leaves out is told as a run starts.")

    def _compare(self, splits: Sequence[Split]) -> None:
        """Say how many queries each side of a holdout has, and which questions two splits share."""
        tests, asked = sum(split.name == "test" for split in splits), {}
        for split, (queries, rows) in self._asked.items():
            if (own := self._try(partial(getattr, split.reader, "queries"))) is not None:
                marks = zip(split.reader.all_queries, np.where(queries.empty, 0, queries.marks).tolist(), strict=True)
                name = f"test ({split.reader.label})" if split.name == "test" and tests > 1 else split.name
                named = {key: mark for row, (key, mark) in enumerate(marks) if row in rows and key in own}
                asked[split] = Asked(name, named)
        self.leaks, notes = overlaps(list(asked.values()))
        self.notes += notes
        if self.stops():
            return
        level = self.settings.relevance_level
        for split in splits:
            if split.reader.holdout is None:
                continue
            if split.is_read or not missing(split.reader.dataset, ("queries", "qrels")):
                found = self._try(partial(split.reader.side, level))
                self.facts += [] if found is None else told_sides({split.name: found}, level)
        unread = [split.name for split in splits if split.name != "passages" and split not in asked]
        if unread and not self.stops():
            self.facts.append(f"leaks are not looked for in {', '.join(unread)}: those queries were not read.")

    def _try(self, ask: Callable[[], Any]) -> Any:
        """Return what is asked for; None if a run would end there."""
        try:
            return ask()
        except (ValueError, OSError) as error:
            self._hear(error)
            return None

    def _hear(self, error: Exception, path: Path | None = None) -> None:
        """Take down what ends any run, once: under its file, if the message begins with one, or names the one that is read."""
        listings, message = self.listings.all(), str(error)
        if any(message in listing.failures for listing in listings) or message in self.problems:  # splits share files
            return
        listing = next((listing for listing in listings if message.startswith(f"{listing.file}:")), None)
        if listing is None and path is not None and str(path) in message:
            listing = self.listings.of(path)
        if listing is None:
            self.problems.append(message)
        else:
            listing.fail(error)
