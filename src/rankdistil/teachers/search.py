"""Dense retrieval, exact: every passage against every query, shard by shard, with the best of each query kept.

An approximate index was rejected: it needs another library, and negatives that it misses are the hard ones. Memory holds one
shard of passages, all queries, and their best passages so far. Judged passages are no negatives, so they stand aside: they say
where the line is that a margin draws, and how many passages a searcher puts above them.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankdistil.files import written
from rankdistil.teachers.scorers import Vector, overlap

SHARD = 1 << 14  # passages whose vectors share a file
CELLS = 1 << 25  # numbers of float32 in a block of scores at most: 134 MB
CHUNK = 1 << 14  # pairs whose dense vectors are multiplied together

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """Vectors of several texts.

    Attributes:
        values: of dense ones, float32, (N, D); of sparse ones the weights of all, one behind the other, (words,).
        words: of sparse ones, to which word each weight belongs, int32, (words,); None of dense ones.
        starts: of sparse ones, where each text begins, and where the last one ends, int64, (N + 1,); None of dense ones.
    """

    values: Scores
    words: NDArray[np.int32] | None = None
    starts: Rows | None = None

    @classmethod
    def of(cls, vectors: Sequence[Vector]) -> "Vectors":
        """Put vectors together, at least one."""
        if not isinstance(vectors[0], tuple):
            return cls(np.stack(vectors))
        words, weights = zip(*vectors, strict=True)
        starts = np.cumsum([0, *map(len, words)], dtype=np.int64)
        return cls(np.concatenate(weights), np.concatenate(words), starts)

    @classmethod
    def joined(cls, parts: Sequence["Vectors"]) -> "Vectors":
        """Put several behind each other, at least one."""
        if parts[0].starts is None:
            return cls(np.concatenate([part.values for part in parts]))
        lengths = np.concatenate([np.diff(part.starts) for part in parts])
        values, words = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "words"))
        return cls(values, words, np.concatenate([[0], lengths.cumsum()]))

    def __len__(self) -> int:
        return len(self.values) if self.starts is None else len(self.starts) - 1

    @property
    def width(self) -> int:
        """Numbers of a dense vector; words of a sparse one, as far as any has a weight."""
        return self.values.shape[1] if self.words is None else int(self.words.max(initial=-1)) + 1

    def one(self, row: int) -> Vector:
        """Return the vector of a text."""
        if self.starts is None:
            return self.values[row]
        some = slice(*self.starts[row : row + 2])
        return self.words[some], self.values[some]

    def columns(self, some: slice, width: int) -> Tensor:
        """Return some of the vectors with all of their numbers, each a column, float32, (width, n)."""
        if self.starts is None:
            return torch.from_numpy(self.values[some]).T
        lengths, part = np.diff(self.starts)[some], slice(self.starts[some.start], self.starts[min(some.stop, len(self))])
        matrix = torch.zeros(width, len(lengths))
        matrix[self.words[part], np.repeat(np.arange(len(lengths)), lengths)] = torch.from_numpy(self.values[part])
        return matrix

    def matrix(self, width: int) -> Tensor:
        """Return all of them, (N, width): of sparse ones what isn't 0, compressed by row."""
        if self.starts is None:
            return torch.from_numpy(self.values)
        parts = (
            torch.from_numpy(np.ascontiguousarray(part)) for part in (self.starts, self.words.astype(np.int64), self.values)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Sparse CSR tensor support is in beta.*")
            return torch.sparse_csr_tensor(*parts, (len(self), width), check_invariants=True)

    def save(self, file: Path) -> None:
        """Write them, in one step."""
        with written(file) as place, place.open("wb") as out:
            np.savez(out, **{name: part for name, part in vars(self).items() if part is not None})

    @classmethod
    def load(cls, file: Path) -> "Vectors":
        """Read them.

        Raises:
            ValueError: if the file is damaged.
        """
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
                return cls(**{name: found[name] for name in found.files})
        except (ValueError, EOFError, OSError, TypeError, BadZipFile) as error:
            raise ValueError(f"{file} is damaged ({error}). Remove it, and go on with resume=true.") from None


class Hits(NamedTuple):
    """Passages found for queries, in any order. Attributes: query: its number, (N,); passage: its row, (N,); score, (N,)."""

    query: Rows
    passage: Rows
    score: Scores

    @classmethod
    def joined(cls, parts: Iterable["Hits"]) -> "Hits":
        """Put several together."""
        empty = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        return cls(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))

    def best(self, order: Rows, depth: int) -> "Hits":
        """Keep the best of each query, best first, by query; of equal scores the one that stands later in the ``order``.

        Args:
            order: place of each passage by ascending id.
            depth: passages of a query at most.
        """
        ranked = np.lexsort((-order[self.passage], -self.score, self.query))
        query = self.query[ranked]
        kept = ranked[np.arange(len(query)) - np.searchsorted(query, query) < depth]
        return Hits(self.query[kept], self.passage[kept], self.score[kept])

    def worst(self, queries: int, depth: int) -> Scores:
        """Return the last score of each query that has ``depth`` passages, -inf of others, (Q,); of what ``best`` returned."""
        ends, scores = np.searchsorted(self.query, np.arange(queries), side="right"), np.full(queries, -np.inf, np.float32)
        whole = np.diff(ends, prepend=0) == depth
        scores[whole] = self.score[ends[whole] - 1]
        return scores


class Bounds(NamedTuple):
    """Scores of queries that their positives set.

    Attributes:
        highest: of a positive, -inf without any, float32, (Q,).
        limit: what a negative may have at most: the lowest of a positive less a margin; inf without one, float32, (Q,).
    """

    highest: Scores
    limit: Scores

    @classmethod
    def of(cls, queries: int, query: Rows, score: Scores, margin: float | None) -> "Bounds":
        """Set bounds.

        Args:
            queries: how many there are.
            query: number of the query of each positive, (N,).
            score: of each positive, (N,).
            margin: between the lowest positive and any negative; None for none.

        Source: Moreira et al. 2024, arXiv:2407.15831 (NV-Retriever: positive-aware mining, absolute margin).
        """
        highest, lowest = np.full(queries, -np.inf, np.float32), np.full(queries, np.inf, np.float32)
        np.maximum.at(highest, query, score)
        np.minimum.at(lowest, query, score)
        return cls(highest, np.full_like(lowest, np.inf) if margin is None else lowest - np.float32(margin))


class Mined(NamedTuple):
    """What was found of passages that aren't judged relevant.

    Attributes:
        hits: the best of each query within its bounds.
        above: passages that are scored higher than all positives of the query, (Q,).
        left_out: passages that are scored higher than its limit, (Q,).
    """

    hits: Hits
    above: Rows
    left_out: Rows

    @classmethod
    def among(cls, hits: Hits, bounds: Bounds, order: Rows, depth: int) -> "Mined":
        """Mine passages that all have a score already; ``order``, ``depth``: see ``Hits.best``."""
        over = hits.score > bounds.limit[hits.query]
        higher = hits.score > bounds.highest[hits.query]
        counts = (np.bincount(hits.query[some], minlength=len(bounds.limit)) for some in (higher, over))
        return cls(Hits(*(column[~over] for column in hits)).best(order, depth), *counts)

    @classmethod
    def merged(cls, parts: Sequence["Mined"], order: Rows, depth: int) -> "Mined":
        """Put together what was found in several parts of a collection."""
        hits = Hits.joined(part.hits for part in parts).best(order, depth)
        return cls(hits, sum(part.above for part in parts), sum(part.left_out for part in parts))


def search(
    shards: Iterable[tuple[int, Vectors]], queries: Vectors, relevant: tuple[Rows, Rows], bounds: Bounds, order: Rows,
    depth: int, device: torch.device | str = "cpu",
) -> Mined:  # fmt: skip
    """Find the best passages of each query among shards of a collection.

    Args:
        shards: row of the first passage of each, and the vectors.
        queries: vectors, (Q,).
        relevant: numbers of queries and rows of passages that were judged relevant: these are not found.
        bounds: of each query.
        order: see ``Hits.best``.
        depth: passages of a query at most. Sparse vectors without a common word are no hit, as with BM25.
        device: computes the products, in float32.
    """
    kept, new, worst = Hits.joined([]), [], np.full(len(queries), -np.inf, np.float32)
    above, left_out = (np.zeros(len(queries), np.int64) for _ in range(2))
    for start, passages in shards:
        width = max(queries.width, passages.width)
        matrix = passages.matrix(width).to(device)
        here = (relevant[1] >= start) & (relevant[1] < start + len(passages))
        judged = relevant[0][here], relevant[1][here] - start
        for some in _blocks(len(queries), 1 if passages.starts is None else width):
            columns = queries.columns(some, width).to(device)
            scores = columns.T @ matrix.T if passages.starts is None else (matrix @ columns).T.contiguous()
            if passages.starts is not None:
                scores.masked_fill_(scores <= 0, -torch.inf)
            inside = (judged[0] >= some.start) & (judged[0] < some.stop)
            scores[judged[0][inside] - some.start, judged[1][inside]] = -torch.inf
            highest, limit, least = (torch.from_numpy(one[some]).to(device).unsqueeze(1) for one in (*bounds, worst))
            above[some] += (scores > highest).sum(1).cpu().numpy()
            if np.isfinite(bounds.limit[some]).any():
                over = scores > limit
                left_out[some] += over.sum(1).cpu().numpy()
                scores.masked_fill_(over, -torch.inf)
            new.append(_best(scores, least, some.start, start, depth))
        if sum(len(part.query) for part in new) >= len(kept.query):  # seldom, once most passages are worse than those kept
            kept, new = Hits.joined([kept, *new]).best(order, depth), []
            worst = kept.worst(len(queries), depth)
    return Mined(Hits.joined([kept, *new]).best(order, depth), above, left_out)


def _blocks(queries: int, width: int) -> Iterator[slice]:
    """Cut the queries into blocks, the same ones whoever searches."""
    each = max(1, CELLS // max(SHARD, width))
    return (slice(at, at + each) for at in range(0, queries, each))


def _best(scores: Tensor, least: Tensor, query: int, passage: int, depth: int) -> Hits:
    """Return the best of each row that aren't below its least, and all that are as good as the last of them; none is -inf."""
    last = scores.topk(min(depth, scores.shape[1])).values[:, -1:]
    rows, columns = ((scores >= last.maximum(least)) & (scores > -torch.inf)).nonzero(as_tuple=True)
    return Hits((rows + query).cpu().numpy(), (columns + passage).cpu().numpy(), scores[rows, columns].cpu().numpy())


def pair_scores(queries: Vectors, query: Rows, load: Callable[[int], Vectors], passage: Rows) -> Scores:
    """Multiply the vectors of pairs, (N,).

    Args:
        queries: vectors of all queries.
        query: of each pair, its number, (N,).
        load: gives a shard by its number.
        passage: of each pair, its row, (N,).
    """
    found = np.empty(len(query), np.float32)
    order = passage.argsort(kind="stable")
    for number in np.unique(passage // SHARD).tolist():
        vectors = load(number)
        for some in np.array_split(here := order[passage[order] // SHARD == number], -(-len(here) // CHUNK)):
            rows = passage[some] - number * SHARD
            if vectors.starts is None:
                pairs = queries.values[query[some]], vectors.values[rows]
                found[some] = np.einsum("nd,nd->n", *(side.astype(np.float64) for side in pairs))
            else:
                both = zip(query[some].tolist(), rows.tolist(), strict=True)
                found[some] = [overlap(queries.one(one), vectors.one(other)) for one, other in both]
    return found


def id_order(ids: Sequence[str]) -> Rows:
    """Return the place of each id among all, ascending, (N,)."""
    places = np.empty(len(ids), np.int64)
    places[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return places
