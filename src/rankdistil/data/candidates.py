"""A first stage's candidates, from scored passages or from TREC run files."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ir_datasets.formats import GenericScoredDoc

from rankdistil.data.badlines import BadLines
from rankdistil.data.handlers import FileScoredDocs
from rankdistil.data.records import Candidate, Ranking


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
        files: as named by ``data.candidates``.
        used: that of each split; None for one that none ranks.

    Raises:
        ValueError: for a file that no split uses.
    """
    for file in files:
        if file not in used:
            raise ValueError(
                f"data.candidates={file} is used by no split: it ranks none of their queries, or fewer than another run does. "
                "Name a run of these queries, or leave it out."
            )


class RunFiles:
    """Candidates in TREC run files, for those splits whose queries are among theirs.

    Args:
        files: the runs.
        bad: takes bad lines down.
    """

    def __init__(self, files: Sequence[str], bad: BadLines) -> None:
        self._files, self._bad = files, bad

    def check(self) -> None:
        """See that the files are there.

        Raises:
            FileNotFoundError: if one isn't.
        """
        for file in self._files:
            if not Path(file).expanduser().is_file():
                raise FileNotFoundError(f"data.candidates={file} is not there. Name a TREC run, or null for the dataset's own.")

    def covering(self, queries: Collection[str]) -> str | None:
        """Return the file that ranks the most of some queries; None if none ranks any."""
        counts = {file: len(self.rows(file).table().queries & set(queries)) for file in self._files}
        best = max(counts, key=lambda file: counts[file], default=None)
        return best if best is not None and counts[best] else None

    def rows(self, file: str) -> FileScoredDocs:
        """Return the candidates that a file names."""
        return FileScoredDocs(Path(file).expanduser(), bad=self._bad)
