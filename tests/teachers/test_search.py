"""Exact search by vectors against all products and a plain sort, dense and sparse, in whatever shards."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rankdistil.teachers import search as searching
from rankdistil.teachers.search import Bounds, Hits, Mined, Vectors, id_order, pair_scores, search

QUERIES, PASSAGES, WIDTH = 7, 23, 5
SIZES = [1, 4, 100]


def whole_numbers(rows: int, seed: int, least: int) -> np.ndarray:
    """Vectors of small whole numbers: their products are exact, and many of them equal."""
    return np.random.default_rng(seed).integers(least, 3, (rows, WIDTH)).astype(np.float32)


def sparse(matrix: np.ndarray) -> Vectors:
    return Vectors.of([(np.flatnonzero(row).astype(np.int32), row[row != 0]) for row in matrix])


@pytest.fixture(params=["dense", "sparse"])
def made(request) -> tuple[np.ndarray, Vectors, Callable[[slice], Vectors]]:
    """All products, vectors of the queries, and those of some passages."""
    least = {"dense": -2, "sparse": -1}[request.param]
    queries, passages = (whole_numbers(rows, seed, least) for seed, rows in enumerate((QUERIES, PASSAGES)))
    if request.param == "dense":
        return queries @ passages.T, Vectors(queries), lambda some: Vectors(passages[some])
    queries, passages = queries.clip(min=0), passages.clip(min=0)
    queries[3] = passages[5] = 0  # no word at all
    return queries @ passages.T, sparse(queries), lambda some: sparse(passages[some])


RELEVANT = np.array([0, 0, 1, 4, 5]), np.array([3, 20, 22, 0, 9])
IDS = [f"p{(7 * row) % PASSAGES:02d}" for row in range(PASSAGES)]


def expected(scores: np.ndarray, depth: int, margin: float | None, positive: bool) -> dict[int, list[tuple[str, float]]]:
    """Sort all passages of each query by score and descending id; leave out judged ones and those over the line."""
    found = {}
    for query, row in enumerate(scores):
        judged = set(RELEVANT[1][RELEVANT[0] == query].tolist())
        line = min((row[at] for at in judged), default=np.inf) - (margin or 0) if margin is not None else np.inf
        left = [(float(row[at]), IDS[at]) for at in range(PASSAGES) if at not in judged and row[at] <= line]
        ordered = sorted(left, reverse=True)
        found[query] = [(key, score) for score, key in ordered if score > 0 or not positive][:depth]
    return found


def shards(vectors: Callable[[slice], Vectors], size: int) -> list[tuple[int, Vectors]]:
    return [(at, vectors(slice(at, at + size))) for at in range(0, PASSAGES, size)]


def bounds_of(scores: np.ndarray, margin: float | None) -> Bounds:
    return Bounds.of(QUERIES, RELEVANT[0], scores[RELEVANT], margin)


@pytest.mark.parametrize("margin", [None, 0.0, 1.0, -2.0])
@pytest.mark.parametrize("size", SIZES)
def test_the_best_of_each_query_are_those_of_a_sort_of_all(made, monkeypatch, size: int, margin: float | None) -> None:
    monkeypatch.setattr(searching, "CELLS", 3 * max(searching.SHARD, WIDTH))  # three queries in a block
    scores, queries, vectors = made
    bounds, order = bounds_of(scores, margin), id_order(IDS)
    for depth in (1, 3, 50):
        found = search(shards(vectors, size), queries, RELEVANT, bounds, order, depth)
        rows = {query: [] for query in range(QUERIES)}
        for query, passage, score in zip(*found.hits, strict=True):
            rows[query].append((IDS[passage], float(score)))
        assert rows == expected(scores, depth, margin, positive=queries.starts is not None)


@pytest.mark.parametrize("margin", [None, 1.0])
def test_passages_above_the_positives_and_over_the_line_are_counted_without_judged_ones(made, margin: float | None) -> None:
    scores, queries, vectors = made
    bounds, positive = bounds_of(scores, margin), queries.starts is not None
    found = search(shards(vectors, 4), queries, RELEVANT, bounds, id_order(IDS), 3)
    others = scores.copy()
    others[RELEVANT] = -np.inf
    if positive:
        others[others <= 0] = -np.inf
    assert found.above.tolist() == (others > bounds.highest[:, None]).sum(1).tolist()
    assert found.left_out.tolist() == (others > bounds.limit[:, None]).sum(1).tolist()
    assert found.left_out.any() == (margin is not None)


def test_processes_that_share_the_shards_find_together_what_one_finds(made) -> None:
    scores, queries, vectors = made
    bounds, order, every = bounds_of(scores, 0.0), id_order(IDS), shards(vectors, 4)
    whole = search(every, queries, RELEVANT, bounds, order, 3)
    parts = [search(every[rank::4], queries, RELEVANT, bounds, order, 3) for rank in range(4)]
    for one, other in zip(_columns(Mined.merged(parts, order, 3)), _columns(whole), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_a_processor_finds(made) -> None:
    scores, queries, vectors = made
    bounds, order = bounds_of(scores, 1.0), id_order(IDS)
    found = (search(shards(vectors, 4), queries, RELEVANT, bounds, order, 3, device) for device in ("cuda", "cpu"))
    for one, other in zip(*map(_columns, found), strict=True):
        np.testing.assert_array_equal(one, other)


def _columns(mined: Mined) -> list[np.ndarray]:
    return [*mined.hits, mined.above, mined.left_out]


def test_pairs_that_are_scored_one_by_one_are_mined_as_a_search_does(made) -> None:
    scores, queries, vectors = made
    if queries.starts is not None:
        pytest.skip("of a ranker, 0 is a score as any other")
    bounds, order = bounds_of(scores, 1.0), id_order(IDS)
    others = np.ones_like(scores, bool)
    others[RELEVANT] = False
    hits = Hits(*others.nonzero(), scores[others])
    found = search(shards(vectors, 4), queries, RELEVANT, bounds, order, 3)
    for one, other in zip(_columns(Mined.among(hits, bounds, order, 3)), _columns(found), strict=True):
        np.testing.assert_array_equal(one, other)


def test_vectors_come_back_from_their_files_and_are_multiplied_pair_by_pair(made, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(searching, "SHARD", 4)
    scores, queries, vectors = made
    for at, part in shards(vectors, 4):
        part.save(tmp_path / f"{at // 4}.npz")
    read = [Vectors.load(tmp_path / f"{number}.npz") for number in range(6)]
    for name, part in vars(vectors(slice(PASSAGES))).items():
        np.testing.assert_array_equal(getattr(Vectors.joined(read), name), part)
    query, passage = np.array([6, 0, 2, 2]), np.array([22, 5, 0, 21])
    np.testing.assert_array_equal(pair_scores(queries, query, read.__getitem__, passage), scores[query, passage])


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "part.npz"
    Vectors(np.ones((2, 3), np.float32)).save(file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"^{file} is damaged \(.*\)\. Remove it, and go on with resume=true\.$"):
        Vectors.load(file)


def test_the_line_is_the_lowest_positive_less_the_margin_and_there_is_none_without_a_margin() -> None:
    query, score = np.array([0, 0, 2]), np.array([0.75, 0.5, 2.0], np.float32)
    assert [bound.tolist() for bound in Bounds.of(3, query, score, 0.25)] == [[0.75, -np.inf, 2.0], [0.25, np.inf, 1.75]]
    assert Bounds.of(3, query, score, None).limit.tolist() == [np.inf] * 3
