"""Reader of a collection, an ir_datasets id or a folder of plain files, and of its candidates.

A reader holds no open file until it is used and can be pickled, because ir_datasets' stores survive neither fork nor spawn.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ir_datasets
from ir_datasets.formats import GenericScoredDoc
from ir_datasets.indices.base import DocstoreOptions, FileAccess

from rankdistil.data.collections import almanac
from rankdistil.data.collections.bm25 import Bm25, shared_index
from rankdistil.data.collections.origin import KINDS, Origin, of_dataset, of_file, require_own_home, with_ids
from rankdistil.data.collections.splits import Holdout, answered
from rankdistil.data.files.bad_lines import LIST, STRICT, BadLines, Tally, Tolerance
from rankdistil.data.files.folder import BM25, FileScoredDocs, FolderSplit, RunFiles
from rankdistil.data.records import Candidate, Qrels, Ranking
from rankdistil.data.stores.contents import TextDocstore, TextStore, open_texts
from rankdistil.files import named


def rank(scored: Iterable[GenericScoredDoc], queries: Collection[str], depth: int, name: str) -> Ranking:
    """Rank the scored passages of some queries.

    Args:
        scored: query, passage and score.
        queries: those wanted; each gets a row, which may be empty.
        depth: candidates per query at most, best first; equal scores in order of descending passage id, as trec_eval.
        name: where they come from, for messages.

    Raises:
        ValueError: if a candidate occurs twice, or candidates that nobody ordered would be cut to a depth.
    """
    found: Ranking = {key: [] for key in queries}
    for row in scored:
        if row.query_id in found:
            found[row.query_id].append(Candidate(row.doc_id, row.score))
    for query_id, row in found.items():
        if len({candidate.passage_id for candidate in row}) < len(row):
            raise ValueError(f"{name}: the candidates of query {query_id} name a passage twice. Remove the repetition.")
        row.sort(key=lambda candidate: candidate.passage_id, reverse=True)
        row.sort(key=lambda candidate: -candidate.score)
        if len(row) > depth and not is_ordered({query_id: row}):
            raise ValueError(
                f"{name}: the {len(row)} candidates of query {query_id} all have the score {row[0].score:g}, so which {depth} "
                f"are the best isn't known. Re-rank all of them (data.depth={len(row)}, in validation data.valid_depth, for "
                "negatives data.negatives_depth), or name a run that orders them: data.candidates=<TREC run>."
            )
        del row[depth:]
    return found


def is_ordered(ranking: Ranking) -> bool:
    """Whether scores tell any two candidates of a query apart."""
    return any(row[0].score != row[-1].score for row in ranking.values() if row)


def require_used(files: Iterable[str], used: Collection[str | None]) -> None:
    """See that each run file ranks some split: a wrong one would leave all to BM25 in silence.

    Args:
        files: as named by ``data.candidates``; what names no file has its use wherever the others have none.
        used: that of each split; None for one that none ranks.

    Raises:
        ValueError: for a file that no split uses.
    """
    for file in files:
        if file not in (*used, BM25, None):
            raise ValueError(
                f"data.candidates={file} is used by no split: it ranks none of their queries, or fewer than another run does. "
                "Name a run of these queries, or leave it out."
            )


class Reader:
    """Reads one split of a collection.

    Args:
        source: an ir_datasets id, or the files of a folder.
        holdout: restricts the split to, or keeps it clear of, queries set apart.
        tolerance: what becomes of bad lines and unknown ids.
        runs: TREC run files whose candidates are taken in place of the dataset's own, where they rank the split's queries;
            ``BM25`` among them stands for that, built here, where none does.
        store: folder where passages are kept as text, and BM25's index; None keeps those of files in memory, those of an
            ir_datasets id in its own store.
        bad: takes bad lines down in place of an account of its own. One that lists them all is a check's, which keeps no text.
        language: of the collection, see ``Bm25``.
        negatives_runs: TREC run files that hard negatives are drawn from in place of candidates.
    """

    def __init__(
        self, source: str | FolderSplit, holdout: Holdout | None = None, tolerance: Tolerance = STRICT,
        runs: Sequence[str] = (), store: Path | None = None, bad: BadLines | None = None, language: str | None = "en",
        negatives_runs: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.source, self.holdout, self.tolerance, self.runs, self.store = source, holdout, tolerance, tuple(runs), store
        self.language, self.negatives_runs = language, tuple(negatives_runs)
        self.bad = BadLines(tolerance.on_bad) if bad is None else bad

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (
            self.source, self.holdout, self.tolerance, self.runs, self.store, None, self.language, self.negatives_runs,
        )  # fmt: skip

    def check(self) -> None:
        """See that the id is known and named files are there; nothing is read or fetched.

        Raises:
            FileNotFoundError: if a file isn't.
            ValueError: for an id that ir_datasets doesn't know.
        """
        _ = self.dataset
        self._runs.check()
        RunFiles(self.negatives_runs, self.bad, "data.negatives_runs").check()

    @property
    def passages_tally(self) -> Tally | None:
        """The bad lines of the file that holds the passages, if they are in one."""
        return self.bad.of(self.source.files["corpus"]) if isinstance(self.source, FolderSplit) else None

    @property
    def name(self) -> str:
        """The id, or where the files are, for messages."""
        return self._named(self.source if isinstance(self.source, str) else f"{self.source.root}/{self.source.name}")

    @property
    def label(self) -> str:
        """The id, or folder and file, for records and model cards: a path of this machine means nothing elsewhere."""
        if isinstance(self.source, str):
            return self._named(self.source)
        return self._named(f"{Path(self.source.root).expanduser().resolve().name}/{self.source.name}")

    def _named(self, text: str) -> str:
        return text if self.holdout is None else self.holdout.named(text)

    @cached_property
    def dataset(self) -> ir_datasets.Dataset:
        """The dataset behind the reader.

        Raises:
            ValueError: for an id that ir_datasets doesn't know, or a home of its files that others can write into.
        """
        if isinstance(self.source, FolderSplit):
            return self.source.open(self.bad, stored=self.store is not None or self.bad.on_bad == LIST)
        almanac.register()
        if self.source not in almanac.IDS:
            require_own_home()
        try:
            return ir_datasets.load(self.source)
        except KeyError:
            raise ValueError(
                f"ir_datasets knows no dataset {self.source!r}. Ids are listed at https://ir-datasets.com; "
                f"the embedded ones are {', '.join(almanac.IDS)}."
            ) from None

    def origin(self, kind: str) -> Origin:
        """Say where ``queries``, ``passages`` or ``docpairs`` come from; splits of one collection share that of passages."""
        if isinstance(self.source, str):
            self.dataset  # noqa: B018 - registers the embedded collection, and answers unknown ids
            return of_dataset(self.source, kind)
        file = {"passages": "corpus", "queries": "queries", "docpairs": "triples"}[kind]
        columns = "triples_text" if self.source.triples_text else file
        return of_file(self.source.files[file], self.source.columns.get(columns))

    def contents(self) -> dict[str, str]:
        """Say what each of the split's parts holds (see ``Origin.content``), by kind: nothing of it is parsed.

        Candidates of run files are among them whichever split they rank: which one that is shows only once queries are read.

        Raises:
            FileNotFoundError: if a file isn't there.
        """
        self.check()
        if isinstance(self.source, FolderSplit):
            whole = {"triples_text": self.source.files["triples"]} if self.source.triples_text else self.source.files
            held = {kind: named(path) for kind, path in whole.items()}
        else:
            held = {kind: self.origin(kind).content() for kind, part in KINDS.items() if self.dataset.has(part)}
        runs = {"run": self.runs, "negatives run": self.negatives_runs}
        return held | {
            f"{kind} {number}": run if run == BM25 else named(Path(run).expanduser())
            for kind, of in runs.items() for number, run in enumerate(of, 1)
        }  # fmt: skip

    @cached_property
    def all_queries(self) -> dict[str, str]:
        """Text by query id, of held-out queries and others."""
        if not self.dataset.has_queries():
            raise ValueError(f"{self.name} has no queries: name a split of it, for example {self.name}/train.")
        return {query.query_id: query.default_text() for query in self._rows("queries")}

    def _rows(self, kind: str) -> Iterable[Any]:
        """Return the dataset's ``docs``, ``queries``, ``qrels`` or ``scoreddocs``; files look at their ids themselves."""
        rows = getattr(self.dataset, f"{kind}_iter")()
        if isinstance(self.source, FolderSplit):
            return rows
        return (row for _, row in with_ids(rows, kind, self.bad.of(f"{self.source} {kind}")))

    @cached_property
    def queries(self) -> dict[str, str]:
        """Text by query id."""
        own = self.all_queries
        if isinstance(self.source, FolderSplit) and self.source.shares_queries:
            judged = {qrel.query_id for qrel in self._rows("qrels")}
            own = {key: text for key, text in own.items() if key in judged}
        if self.holdout is None:
            return own
        return self.holdout.of(own, self._all_qrels if self.dataset.has_qrels() else None)

    @cached_property
    def _all_qrels(self) -> Qrels:
        judged: Qrels = {}
        for qrel in self._rows("qrels"):
            judged.setdefault(qrel.query_id, {})[qrel.doc_id] = max(qrel.relevance, 0)
        return judged

    @cached_property
    def qrels(self) -> Qrels:
        """Judgments of the split's queries; a negative grade counts as 0."""
        if not self.dataset.has_qrels():
            raise ValueError(f"{self.name} has no judgments (qrels). Name splits that have some: data.valid, data.test.")
        judged = {query: row for query, row in self._all_qrels.items() if query in self.queries}
        if not judged:
            raise ValueError(f"{self.name}: no query of the split has a judgment. Do queries and qrels belong together?")
        return judged

    def side(self, level: int) -> dict[str, int]:
        """Count the queries on this side of a holdout: ``queries``, and the ``answered`` ones, with a passage of the level.

        Raises:
            ValueError: if queries are held out and none is judged.
        """
        inside = self.holdout is not None and self.holdout.inside
        judged = self.qrels if inside else self._all_qrels if self.dataset.has_qrels() else {}
        return {"queries": len(self.queries), "answered": len(answered(list(self.queries), judged, level))}

    def open_texts(self) -> TextStore:
        """Open the text store of the passages, which has to be where ``store`` says."""
        origin = self.origin("passages")
        return open_texts(origin.folder(self.store, "texts"), self.passages, origin.source, self.passages_tally)

    @cached_property
    def _store(self) -> ir_datasets.indices.Docstore:
        if self.store is not None:
            return TextDocstore(self.open_texts())
        return self.dataset.docs_store(options=DocstoreOptions(file_access=FileAccess.MMAP))

    def texts(self, passage_ids: Iterable[str]) -> dict[str, str]:
        """Text by passage id.

        Raises:
            ValueError: if a passage isn't in the collection; none is left out silently.
        """
        wanted = list(dict.fromkeys(passage_ids))
        found = self.find(wanted)
        if len(found) < len(wanted):
            missing = [key for key in wanted if key not in found]
            raise ValueError(
                f"{self.name}: {len(missing)} passages named by triples, judgments or candidates are not in the collection, "
                f"for example {', '.join(missing[:3])}. Do the files belong together?"
            )
        return found

    def find(self, passage_ids: Iterable[str]) -> dict[str, str]:
        """Text by passage id, of those that the collection holds."""
        return {key: doc.default_text() for key, doc in self._store.get_many(list(passage_ids)).items()}

    def passages(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text) of the whole collection."""
        return ((doc.doc_id, doc.default_text()) for doc in self._rows("docs"))

    def require_docpairs(self) -> None:
        """See that the dataset has triples of its own.

        Raises:
            ValueError: if it has none.
        """
        if not self.dataset.has_docpairs():
            raise ValueError(f"{self.name} has no docpairs (triples). Set data.train_on=sampled, or name a triples file.")

    @cached_property
    def _runs(self) -> RunFiles:
        return RunFiles(self.runs, self.bad)

    @cached_property
    def run(self) -> str | None:
        """The run file that ranks the split's queries; ``BM25`` where that is named and no file does."""
        return self._runs.covering(self.queries) if self.runs else None

    def ranked_by(self, run: str | None) -> "Reader":
        """Return the same split with the candidates of one run (see ``runs``), or its own; what was read of it is shared."""
        other = object.__new__(type(self))
        vars(other).update({key: value for key, value in vars(self).items() if key not in ("run", "_runs")})
        other.runs = () if run is None else (run,)
        return other

    @property
    def scored(self) -> FileScoredDocs | ir_datasets.formats.BaseScoredDocs | None:
        """The first stage's candidates, as they are named in a run file or by the dataset; None where BM25 is built here."""
        if self.run == BM25:
            return None
        if self.run is not None:
            return self._runs.rows(self.run)
        return self.dataset.scoreddocs_handler() if self.dataset.has_scoreddocs() else None

    @property
    def first_stage(self) -> str:
        """What ranked the candidates: the name of the run file, BM25 where it is built here, else the dataset's own."""
        if self.run == BM25:
            return "BM25"
        if self.run is not None:
            return Path(self.run).name
        if isinstance(self.source, FolderSplit) and self.source.candidates:
            return Path(self.source.candidates).name
        built_here = isinstance(self.source, FolderSplit) or self.source in almanac.IDS or not self.dataset.has_scoreddocs()
        return "BM25" if built_here else "scoreddocs"

    def topics(self, query_ids: Iterable[str]) -> dict[str, str] | None:
        """Topic by query id, of a collection whose questions come in topics; None for others. Tests are made by topic."""
        known = isinstance(self.source, str) and self.source in almanac.IDS
        return {query_id: almanac.topic(query_id) for query_id in query_ids} if known else None

    def candidates(self, depth: int, query_ids: Iterable[str] | None = None, run: str | None = None) -> Ranking:
        """Rank the first stage's candidates: those of a run file, the dataset's scoreddocs, or BM25 over the collection.

        Args:
            depth: candidates per query at most, best first.
            query_ids: the queries wanted; all by default.
            run: one of ``negatives_runs``, whose passages are ranked instead.

        Raises:
            ValueError: if a candidate occurs twice, or candidates that nobody ordered would be cut.
        """
        wanted = self.queries if query_ids is None else {key: self.queries[key] for key in query_ids}
        if run is None and self.scored is None:
            return self._bm25.search(wanted, depth)
        return rank((row for _, row in self.scored_rows(wanted, run)[1]), wanted, depth, run or self.run or self.name)

    def mined(self, run: str) -> FileScoredDocs:
        """Return the passages that one of ``negatives_runs`` names.

        Raises:
            ValueError: if it ranks none of the split's queries.
        """
        found = FileScoredDocs(Path(run).expanduser(), bad=self.bad)
        if found.table().queries.isdisjoint(self.queries):
            raise ValueError(
                f"data.negatives_runs={run} ranks none of the training queries. Name a run of these, as mine_negatives makes."
            )
        return found

    def scored_rows(
        self, queries: Iterable[str], run: str | None = None
    ) -> tuple[Tally, Iterator[tuple[int, GenericScoredDoc]]]:
        """Return the tally of the candidates that are named, and (line, candidate): of a file those of some queries, else all.

        Args:
            queries: that are wanted.
            run: see ``candidates``.

        Raises:
            ValueError: naming file and lines of a passage that one of the queries names twice.
        """
        scored = self.scored if run is None else self.mined(run)
        if isinstance(scored, FileScoredDocs):
            tally = self.bad.of(scored.path)
            return tally, scored.table().of(queries, tally)
        tally = self.bad.of(f"{self.source} scoreddocs")
        return tally, with_ids(self.dataset.scoreddocs_iter(), "scoreddocs", tally)

    @cached_property
    def _bm25(self) -> Bm25:
        return shared_index(self.origin("passages"), self.passages, self.store, self.passages_tally, self.language)
