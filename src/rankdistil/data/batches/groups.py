"""Hard negatives and training groups: one positive and its negatives, as rows of texts.

A triple is a group with one negative. Groups come from the dataset's own triples, or are sampled from judgments and a first
stage's hits. The order of an epoch depends on (seed, epoch) only, never on the process that reads it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from rankdistil.data.collections.texts import known_triples, require_known
from rankdistil.data.encode import Rows, Texts
from rankdistil.data.files.bad_lines import Tally
from rankdistil.data.records import Qrels, Ranking, Triple
from rankdistil.data.stores.ragged import StoredRows
from rankdistil.data.teacher_scores.folder import TeacherScores

Item = TypeVar("Item")
BLOCK = 1 << 12  # triples that stay together on their way into the shuffle: they are read from disk in one piece
SHUFFLED = 1 << 8  # blocks that are shuffled together; the bound of the shuffle is a million triples
CHUNK = 1 << 16


class ByMargin(NamedTuple):
    """What ``data.negatives_margin`` leaves out.

    Attributes:
        what: ``triples`` or ``negatives``.
        of: how many there were.
        left_out: how many of them are left out.
        queries: training queries that have too few negatives without them.
    """

    what: str
    of: int
    left_out: int
    queries: int = 0


class GroupSource(Protocol):
    """A source of groups, read in epochs.

    Attributes:
        left_out: training queries that no group can be made of.
        by_margin: what a margin leaves out; None without one.
        same_text: negatives that are left out since they have the text of the positive.
    """

    left_out: int
    by_margin: ByMargin | None
    same_text: int

    def __len__(self) -> int:
        """Return the number of groups in an epoch."""
        ...

    def epoch(self, seed: int, epoch: int) -> Iterator[Rows]:
        """Yield the groups of an epoch in their order, some at a time: query, positive and negatives, (N, 2 + K)."""
        ...

    def pairs(self) -> Rows:
        """Return query and passage of every pair that any epoch may hold, once each, (N, 2)."""
        ...

    def queries(self) -> Rows:
        """Return the query of every group that any epoch may hold, once each, (N,)."""
        ...


class ListedGroups:
    """Groups that are given, each once an epoch; shuffled within bounds, so that they needn't be in memory.

    Args:
        rows: query, positive and negatives, (N, 2 + K).
        same_text: groups that aren't among them, since their negative has the text of the positive.

    Raises:
        ValueError: if there is none.
    """

    left_out = 0  # triples are given for some queries, and promised for none
    by_margin = None

    def __init__(self, rows: Rows | StoredRows, same_text: int = 0) -> None:
        self.same_text = same_text
        require_triples(len(rows), same_text)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def epoch(self, seed: int, epoch: int) -> Iterator[Rows]:
        """Yield every group once."""
        random = np.random.default_rng([seed, epoch])
        blocks = random.permutation(-(-len(self._rows) // BLOCK))
        for at in range(0, len(blocks), SHUFFLED):
            rows = np.concatenate([self.read(block * BLOCK, BLOCK) for block in blocks[at : at + SHUFFLED]])
            yield rows[random.permutation(len(rows))]

    def pairs(self) -> Rows:
        """Return every pair once."""
        return _distinct(self.read(at, CHUNK)[:, [0, column]] for column in (1, 2) for at in range(0, len(self), CHUNK))

    def queries(self) -> Rows:
        """Return every query once."""
        return np.unique(np.concatenate([np.unique(self.read(at, CHUNK)[:, 0]) for at in range(0, len(self), CHUNK)]))

    def read(self, at: int, count: int) -> Rows:
        """Return some of them, one behind the other."""
        return self._rows[at : at + count]


def require_triples(count: int, same_text: int) -> None:
    """Refuse a ``count`` of no triples; ``same_text``: how many were left out for a negative with the positive's text.

    Raises:
        ValueError: if there is none.
    """
    if not count and same_text:
        raise ValueError(f"all {same_text} triples of the training split have a negative with the text of the positive.")
    if not count:
        raise ValueError("the training split has no triple for its queries. Do triples and queries belong together?")


class SampledGroups:
    """One group per query and epoch: a positive drawn from the judged passages, negatives from a first stage's other hits.

    Args:
        queries: row of each query.
        positives: rows of the passages judged relevant, for each query.
        negatives: rows of its hard negatives.
        size: negatives in a group.
        left_out: queries that no group can be made of.
        by_margin: what a margin leaves out; None without one.
        same_text: negatives that aren't among them, since they have the text of a positive.
    """

    def __init__(
        self, queries: Rows, positives: list[Rows], negatives: list[Rows], size: int, left_out: int = 0,
        by_margin: ByMargin | None = None, same_text: int = 0,
    ) -> None:  # fmt: skip
        self._queries, self._positives, self._negatives, self._size = queries, positives, negatives, size
        self.left_out, self.by_margin, self.same_text = left_out, by_margin, same_text

    def __len__(self) -> int:
        return len(self._queries)

    def epoch(self, seed: int, epoch: int) -> Iterator[Rows]:
        """Yield one group of every query."""
        random = np.random.default_rng([seed, epoch])
        order = iter(random.permutation(len(self._queries)).tolist())
        while chunk := list(islice(order, CHUNK)):
            yield np.array([self._group(index, random) for index in chunk])

    def pairs(self) -> Rows:
        """Return every query with all of its positives and negatives."""
        return _distinct(
            np.stack(np.broadcast_arrays(query, rows), axis=1)
            for pools in (self._positives, self._negatives)
            for query, rows in zip(self._queries, pools, strict=True)
        )

    def queries(self) -> Rows:
        """Return every query."""
        return self._queries

    def _group(self, index: int, random: np.random.Generator) -> list[int]:
        positives, negatives = self._positives[index], self._negatives[index]
        positive = positives[random.integers(len(positives))]
        if self._size == 1:
            return [self._queries[index], positive, negatives[random.integers(len(negatives))]]
        return [self._queries[index], positive, *random.choice(negatives, self._size, replace=False)]


def _distinct(pairs: Iterable[Rows]) -> Rows:
    keys = np.unique(np.concatenate([rows[:, 0].astype(np.int64) << 32 | rows[:, 1].astype(np.int64) for rows in pairs]))
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1)


def list_groups(triples: Iterable[tuple[int, Triple]], queries: Texts, passages: Texts, tally: Tally) -> Rows:
    """Turn (line, triple) into rows, int32, (N, 3).

    Raises:
        ValueError: for a query or passage that isn't there, unless the tally lets its line be left out.
    """
    return np.concatenate([np.zeros((0, 3), np.int32), *row_chunks(triples, queries, passages, tally)])


def row_chunks(triples: Iterable[tuple[int, Triple]], queries: Texts, passages: Texts, tally: Tally) -> Iterator[Rows]:
    """Turn (line, triple) into rows, int32, (up to ``CHUNK``, 3) at a time.

    Raises:
        ValueError: for a query or passage that isn't there, unless the tally lets its line be left out.
    """
    triples = iter(triples)
    while chunk := list(islice(chain.from_iterable(triples), 2 * CHUNK)):  # line, triple, line, triple, ...
        lines, named = chunk[::2], list(chain.from_iterable(chunk[1::2]))
        asked, ids = named[::3], named[1::3] + named[2::3]
        columns = [queries.rows(asked), *passages.rows(ids).reshape(2, -1)]
        yield known_triples(lines, chunk[1::2], columns, tally).astype(np.int32)


def sample_groups(
    positives: Mapping[str, list[str]], negatives: Mapping[str, list[str]], size: int, queries: Texts, passages: Texts,
    safe: Callable[[Rows, list[Rows], list[Rows]], list[Rows]] | None = None, same_text: int = 0,
) -> SampledGroups:  # fmt: skip
    """Prepare the sampling of groups.

    Args:
        positives: query id -> passages judged relevant.
        negatives: query id -> hard negatives.
        size: negatives in a group.
        queries: gives the rows of queries.
        passages: gives the rows of passages.
        safe: keeps some of the negatives of each query, given the rows of queries, positives and negatives; None keeps all.
        same_text: negatives that were left out before.

    Raises:
        ValueError: if no query has a relevant passage and enough negatives; for a passage that isn't in the collection.
    """
    able = [query for query, row in positives.items() if row and len(negatives.get(query, ())) >= size]
    for side in (positives, negatives):
        ids = [key for query in able for key in side[query]]
        require_known({key for key, row in zip(ids, passages.rows(ids).tolist(), strict=True) if row < 0})
    asked = queries.rows(able)
    good, bad = ([passages.rows(side[query]) for query in able] for side in (positives, negatives))
    whole = bad
    if safe is not None:
        bad = safe(asked, good, whole)
    left = [index for index, row in enumerate(bad) if len(row) >= size]
    require_groups(len(left), size, by_margin=safe is not None and bool(able))
    pools = [good[index] for index in left], [bad[index] for index in left]
    before, after = (sum(map(len, rows)) for rows in (whole, bad))
    by_margin = None if safe is None else ByMargin("negatives", before, before - after, len(able) - len(left))
    return SampledGroups(asked[left], *pools, size, len(positives) - len(left), by_margin, same_text)


def require_groups(count: int, size: int, by_margin: bool = False) -> None:
    """Refuse a ``count`` of no queries with groups; ``size``: negatives in each, ``by_margin``: whether a margin left none.

    Raises:
        ValueError: if there is none.
    """
    if not count:
        few = "a negative" if size == 1 else f"{size} negatives (data.negatives)"
        raise ValueError(
            f"no training query has both a relevant passage and {few} among its candidates"
            f"{' that data.negatives_margin leaves' if by_margin else ''}."
        )


def own_share(batches: Iterable[Item], rank: int, world: int, start: int) -> Iterator[tuple[int, Item]]:
    """Pick the batches of this process and loader worker out of all.

    Args:
        batches: those of every process, in order.
        rank: this process.
        world: number of processes.
        start: local batches to skip, for a run that resumes.

    Yields:
        Number of the batch among all, and the batch.
    """
    info = get_worker_info()
    worker, workers = (info.id, info.num_workers) if info else (0, 1)
    for number, batch in enumerate(batches):
        step, owner = divmod(number, world)
        if owner == rank and step >= start and (step - start) % workers == worker:
            yield number, batch


def longest_pairs(queries: Texts, passages: Texts, groups: Rows) -> NDArray[np.int64]:
    """Return how long the longest pair of each group is, (N,), in the texts' unit."""
    return queries.lengths(groups[:, 0]) + passages.lengths(groups[:, 1:]).max(axis=1)


def cut_windows(chunks: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Cut a stream of rows into windows of ``size``; the last may be smaller."""
    rest: Rows | None = None
    for chunk in chunks:
        rest = chunk if rest is None else np.concatenate([rest, chunk])
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    if rest is not None and len(rest):
        yield rest


def told_left_out(left_out: int, queries: int) -> str:
    """Say how many training queries no group can be sampled for, of how many."""
    return (
        f"training: {left_out} of {queries} queries are left out: they have no relevant passage, or too few candidates "
        "that aren't relevant."
    )


def hard_negatives(candidates: Ranking, qrels: Qrels, skip: int = 0) -> dict[str, list[str]]:
    """Candidates that aren't judged relevant (grade 1 or more), by query; the ``skip`` best are left out."""
    return {
        query: [hit.passage_id for hit in row[skip:] if qrels.get(query, {}).get(hit.passage_id, 0) < 1]
        for query, row in candidates.items()
    }


class Margin(NamedTuple):
    """How far a positive is above its negatives.

    Attributes:
        scores: a teacher's.
        least: what a positive's score exceeds a negative's by, at least, in the unit of the scores.
    """

    scores: TeacherScores
    least: float


class SafeGroups:
    """Triples whose negative is scored below the positive by a margin.

    Args:
        source: all triples.
        margin: the margin.

    Attributes:
        by_margin: how many triples are left out.

    Raises:
        ValueError: if no triple is left.
    """

    left_out = 0

    def __init__(self, source: ListedGroups, margin: Margin) -> None:
        self._source, self._margin, self.same_text = source, margin, source.same_text
        self._safe_groups = sum(int(self._safe(source.read(at, CHUNK)).sum()) for at in range(0, len(source), CHUNK))
        self.by_margin = ByMargin("triples", len(source), len(source) - self._safe_groups)
        if not self._safe_groups:
            raise ValueError(
                f"data.negatives_margin={margin.least:g} leaves no triple of {len(source)}: the teacher scores no negative "
                "that far below its positive. Lower it, or set it to null."
            )

    def __len__(self) -> int:
        return self._safe_groups

    def epoch(self, seed: int, epoch: int) -> Iterator[Rows]:
        """Yield the groups of an epoch."""
        return (rows[self._safe(rows)] for rows in self._source.epoch(seed, epoch))

    def pairs(self) -> Rows:
        """Return every pair that is listed: the scores decide which are used."""
        return self._source.pairs()

    def queries(self) -> Rows:
        """Return every query that is listed."""
        return self._source.queries()

    def _safe(self, rows: Rows) -> NDArray[np.bool_]:
        positive, negative = (self._margin.scores.of(rows[:, 0], rows[:, column]) for column in (1, 2))
        return negative <= positive - np.float32(self._margin.least)


def safe_negatives(margin: Margin, queries: Rows, positives: list[Rows], negatives: list[Rows]) -> list[Rows]:
    """Keep the negatives of each query that are scored below all of its positives by a margin.

    Args:
        margin: the margin.
        queries: row of each query.
        positives: rows of its positives.
        negatives: rows of its negatives.
    """
    kept = []
    for query, good, bad in zip(queries, positives, negatives, strict=True):
        lowest = margin.scores.of(np.repeat(query, len(good)), good).min()
        kept.append(bad[margin.scores.of(np.repeat(query, len(bad)), bad) <= lowest - np.float32(margin.least)])
    return kept
