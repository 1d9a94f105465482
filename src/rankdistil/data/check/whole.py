"""Check of all data of a config before anything is trained: counts, and every problem instead of the first one.

Nothing is written, and nothing fetched: of an ir_datasets id that isn't embedded, only what ir_datasets says about it is told.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rankdistil.data.batches.datamodule import spread
from rankdistil.data.batches.training_groups import lists_groups
from rankdistil.data.check.datasets import margin_note, read_dataset
from rankdistil.data.check.files import (
    ANYTHING,
    Judged,
    Listed,
    Listing,
    Listings,
    Named,
    Numbered,
    Ranked,
    TextsFound,
    count_candidates,
    count_judgments,
    count_text_triples,
    count_triples,
    read_texts,
)
from rankdistil.data.collections.holdout import told_sides
from rankdistil.data.collections.leaks import Asked, overlaps
from rankdistil.data.collections.reader import Reader, require_used
from rankdistil.data.encode import SPECIAL_TOKENS
from rankdistil.data.fetch import missing
from rankdistil.data.files.folder import HANDLERS, FileScoredDocs, FolderSplit, TextDocPairs
from rankdistil.data.records import Qrels, Ranking
from rankdistil.data.settings import DataSettings
from rankdistil.files import content

INDEXED = 300_000  # passages: a check builds no larger index
Count = Callable[[Path, Listing], tuple[str, Any]]


class Split(NamedTuple):
    """Attributes: name: ``train`` and so on; reader; relevance_level: lowest grade of a relevant passage."""

    name: str
    reader: Reader
    relevance_level: int


class Row(NamedTuple):
    """One file, or one part of a dataset.

    Attributes:
        splits: that it belongs to.
        file: its name; the dataset's id.
        lines: how many; None if it wasn't read to its end.
        bytes: its size; None for what is no file.
        sha256: the first digits.
        told: what was counted.
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
    """

    def __init__(self, settings: DataSettings, on_bad: str = "stop") -> None:
        self.rows: list[Row] = []
        self.facts: list[str] = []
        self.leaks: list[str] = []
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.listings = Listings()
        self._settings, self._on_bad = settings, on_bad
        self._room = settings.max_length - SPECIAL_TOKENS
        self._read: dict[tuple[Any, ...], tuple[Row, Any]] = {}
        self._asked: list[tuple[Split, dict[str, int]]] = []
        self._texts: dict[int, Texts] = {}
        self._used: set[str] = set()  # run files that rank a split, or may do so

    @property
    def texts(self) -> list[Texts]:
        """The texts that were read, those of each file once."""
        return list(self._texts.values())

    def stops(self) -> bool:
        """Whether a run would stop at what was found."""
        return bool(self.problems) or any(listing.stops(self._on_bad) for listing in self.listings.all())

    def reranked(self, split: str) -> tuple[int, int | None]:
        """Return how many candidates of a query are re-ranked in ``valid`` or ``test``, and of how many queries at most."""
        settings = self._settings
        if split == "valid":
            return settings.valid_depth, settings.valid_queries
        return settings.depth, settings.test_queries

    def ranking(self, split: Split, depth: int, limit: int | None) -> tuple[Ranking, Qrels] | None:
        """Return the candidates that a run re-ranks, and what they are judged by; None where they can't be had cheaply.

        Args:
            split: looked through; nothing of it stops a run.
            depth: candidates per query at most.
            limit: queries used at most.
        """
        reader = split.reader
        if isinstance(reader.source, str) and missing(reader.dataset, ("queries", "qrels", "scoreddocs")):
            return None
        if reader.store is not None:  # whose index would be written
            reader = Reader(reader.source, reader.holdout, reader.tolerance, reader.runs)
        if reader.scored is None and (passages := self._passages(reader)) > INDEXED:
            self.facts.append(
                f"{split.name}: what the candidates hold is not told: BM25 over {passages} passages would have to be built."
            )
            return None
        judged = self._try(lambda: spread(reader.qrels, limit))
        found = judged and self._try(lambda: reader.candidates(depth, judged))
        return None if found is None else (found, judged)

    def _passages(self, reader: Reader) -> int:
        if isinstance(reader.source, str):
            return reader.dataset.docs_count()
        return max((len(texts.found.ids) for texts in self.texts if texts.kind == "passage"), default=0)

    def look(self, splits: Sequence[Split]) -> None:
        """Look through splits; what they share is read once."""
        for split in splits:
            if isinstance(split.reader.source, FolderSplit):
                self._folder(split, split.reader.source)
            else:
                self._dataset(split)
            if split.name == "train" and (note := self._try(partial(margin_note, self._settings, split.reader))):
                self.notes.append(note)
        self._try(lambda: require_used({file: None for split in splits for file in split.reader.runs}, self._used))
        self._compare(splits)

    def _compare(self, splits: Sequence[Split]) -> None:
        """Say how many queries each side of a holdout has, and which questions two splits share."""
        held_out = [split for split in splits if split.reader.holdout is not None]
        apart = [split for split in held_out if not self.stops() and self._is_here(split) and self._tell_side(split)]
        asked, read = [], []
        tests = sum(split.name == "test" for split in splits)
        for split, marks in self._asked:
            if split.reader.holdout is not None:
                if split not in apart:
                    continue
                marks = {key: mark for key, mark in marks.items() if key in split.reader.queries}
            read.append(split)
            asked.append(Asked(f"test ({split.reader.label})" if split.name == "test" and tests > 1 else split.name, marks))
        unread = [split.name for split in splits if split.name != "passages" and split not in read]
        if unread and not self.stops():
            self.facts.append(f"leaks are not looked for in {', '.join(unread)}: those queries were not read.")
        self.leaks, notes = overlaps(asked)
        self.notes += notes

    def _tell_side(self, split: Split) -> bool:
        found = self._try(partial(split.reader.side, self._settings.relevance_level))
        if found is not None:
            self.facts += told_sides({split.name: found}, self._settings.relevance_level)
        return found is not None

    @staticmethod
    def _is_here(split: Split) -> bool:
        source = split.reader.source
        return isinstance(source, FolderSplit) or not missing(split.reader.dataset, ("queries", "qrels"))

    def _ask(self, split: Split, queries: TextsFound, used: Iterable[str]) -> None:
        if split.name != "passages":  # which are read without any question
            self._asked.append((split, {key: queries.marks[key] for key in used if key in queries.marks}))

    def _folder(self, split: Split, source: FolderSplit) -> None:
        files = source.files
        if not self._try(source.require_root):
            return
        if source.triples_text is not None:
            self._text_triples(split, source)
            return

        def read(kind: str, count: Count, *by: object) -> Any:
            return self._once(split.name, getattr(source, kind), files[kind], count, (kind, str(source.columns.get(kind)), *by))

        def texts(kind: str, what: str) -> TextsFound | None:
            def count(path: Path, _: Listing) -> tuple[str, TextsFound]:
                found = TextsFound(self._room, keep=kind == "queries")
                return read_texts(path, source.columns.get(kind), self._complaints(path), found).told(what), found

            return read(kind, count)

        def rows(kind: str, listings: Listings | None = None) -> Numbered:
            where = self._complaints(files[kind]) if listings is None else listings
            return HANDLERS[kind](files[kind], source.columns.get(kind), where).numbered()

        passages = texts("corpus", "passages")
        queries = texts("queries", "queries")
        self._keep(source.corpus, "passage", passages)
        self._keep(source.queries, "query", queries)
        named = Named(queries or ANYTHING, passages or ANYTHING)
        level, allow = split.relevance_level, split.reader.tolerance.allow_unknown

        def judgments(_: Path, listing: Listing) -> tuple[str, Judged]:
            found = count_judgments(rows("qrels"), named, level, listing, allow)
            return found.told, found

        def triples(_: Path, listing: Listing) -> tuple[str, Listed]:
            found = count_triples(rows("triples"), named, listing)
            return found.told, found

        def candidates(path: Path, listing: Listing) -> tuple[str, Ranked]:
            columns = source.columns.get("candidates") if path == files.get("candidates") else None
            once, again = (FileScoredDocs(path, columns, where).numbered() for where in (self._complaints(path), Listings()))
            found = count_candidates(once, named, listing, again)
            return found.told, found

        same = (files["corpus"], files["queries"])
        judged = read("qrels", judgments, *same, level)
        listed = read("triples", triples, *same) if source.triples else None
        runs = [self._once(split.name, file, Path(file).expanduser(), candidates, same) for file in split.reader.runs]
        found = dict(zip(split.reader.runs, runs, strict=True))
        self._used |= {file for file, run in found.items() if run is None}  # which has been complained of
        ranking = {file: run for file, run in found.items() if run is not None and run.queries}
        if ranking:
            file, ranked = max(ranking.items(), key=lambda run: len(run[1].queries))
            self._used.add(file)
        else:
            ranked = read("candidates", candidates, *same) if source.candidates else None
        if queries and self._lists(split, bool(source.triples)):
            self._ask(split, queries, listed.queries if listed else ())
        elif queries and judged:
            self._ask(split, queries, judged.answered if split.name == "train" else judged.queries)
        if queries and passages and judged:
            own = len(judged.queries) if source.shares_queries else len(queries.ids)
            self._usable(split, own, judged, ranked)

    def _usable(self, split: Split, queries: int, judged: Judged, ranked: Ranked | None) -> None:
        """Say what can't be trained on or ranked."""
        training = split.name == "train"
        files = split.reader.source.files
        if self._lists(split, "triples" in files):
            if "triples" not in files and all(path.is_file() for path in files.values()):
                self._try(split.reader.require_docpairs)
        elif training:
            able = judged.answered if ranked is None else judged.answered & ranked.queries
            if not able:
                self.problems.append("no training query has both a relevant passage and candidates (data.train_on=sampled).")
            elif left_out := queries - len(able):
                self.notes.append(
                    f"training: {left_out} of {queries} queries have no relevant passage, or no candidates: left out."
                )
        elif ranked is not None and (missing := judged.queries - ranked.queries):
            self.notes.append(
                f"{split.name}: {len(missing)} of {len(judged.queries)} judged queries have no candidates and count as 0, for "
                f"example {min(missing)}."
            )

    def _text_triples(self, split: Split, source: FolderSplit) -> None:
        columns = source.columns.get("triples_text")

        def count(path: Path, _: Listing) -> tuple[str, tuple[TextsFound, TextsFound]]:
            first, again = (TextDocPairs(path, columns, where) for where in (self._complaints(path), Listings()))
            return count_text_triples(first, again, self._room)

        found = self._once(split.name, source.name, source.files["triples"], count, ("triples_text", str(columns)))
        if found is not None:
            queries, passages = found
            self._keep(source.name, "passage", passages)
            self._keep(source.name, "query", queries)
            self._ask(split, queries, queries.marks)

    def _dataset(self, split: Split) -> None:
        source = str(split.reader.source)
        found = self._try(lambda: read_dataset(split.reader, self._settings))
        if found is None:
            return
        self.rows.append(Row([split.name], source, None, None, "", found.told))
        if found.queries is None:
            self.notes.append(f"{split.name}: {source} {found.place}.")
            self._used |= set(split.reader.runs)
        else:
            self._used |= {str(self._try(lambda: split.reader.run))}
            self._keep(source, "query", found.queries)
            self._keep(source, "passage", found.passages)
        listed = self._lists(split, split.reader.dataset.has_docpairs())
        if listed:
            self._try(split.reader.require_docpairs)
        if found.queries is not None:
            self._ask(split, found.queries, found.listed if listed else found.judged)

    def _lists(self, split: Split, has_triples: bool) -> bool:
        """Whether a split is the training split, and trained on its own triples."""
        return split.name == "train" and lists_groups(self._settings.train_on, self._settings.negatives, has_triples)

    def _keep(self, file: str, kind: str, found: TextsFound | None) -> None:
        """Keep texts that were read; splits share some, of one file or of one collection."""
        if found is not None and found.sample:
            self._texts.setdefault(hash((kind, *found.sample)), Texts(file, kind, found))

    def _once(self, split: str, name: str, path: Path, count: Count, by: tuple[object, ...]) -> Any:
        """Read a file, or find it read; None if it can't be.

        Args:
            split: that it belongs to.
            name: for the table.
            path: where it is.
            count: reads it; returns what it holds, in words and for comparisons.
            by: what else decides the outcome.
        """
        if (path, *by) in self._read:
            row, found = self._read[path, *by]
            row.splits.append(split)
            return found
        listing, told, found, sha256 = self.listings.of(path), "can't be read", None, ""
        try:
            told, found = count(path, listing)
            told += "; line 1 names the columns" if listing.names_columns else ""
            sha256 = content(path)
        except (ValueError, OSError) as error:
            listing.fail(str(error))
        row = Row([split], name, listing.lines, path.stat().st_size if path.is_file() else None, sha256, told)
        self.rows.append(row)
        self._read[path, *by] = row, found
        return found

    def _complaints(self, path: Path) -> Listings:
        """Where complaints about a file's lines go: those of a file that was read before have been heard."""
        return Listings() if any(read[0] == path for read in self._read) else self.listings

    def _try(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (ValueError, FileNotFoundError) as error:
            if str(error) not in self.problems:  # splits share a root
                self.problems.append(str(error))
            return None
