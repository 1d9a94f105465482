"""A made collection of the size of MS MARCO, in the files of ir_datasets: what is measured on it needs no download.

Words have the lengths and frequencies of real text and no meaning. All is decided by the sizes and the seed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ir_datasets
import numpy as np
from ir_datasets.formats import TrecQrels, TrecScoredDocs, TsvDocPairs, TsvDocs, TsvQueries
from ir_datasets.util.download import LocalDownload
from numpy.typing import NDArray

from benchmarks.words import Words
from rankdistil.files import write_json
from rankdistil.processes.progress import counted

CHUNK = 1 << 14  # lines made at a time
MADE = "sizes.json"
PASSAGE_WORDS = 55.6, 24.0, 130  # mean and standard deviation of MS MARCO's; at most: nothing is cut to 220 tokens then
QUERY_WORDS = 6.0, 2.5, 16


class Sizes(NamedTuple):
    """How large a collection is; the defaults are MS MARCO's.

    Attributes:
        passages: of the collection.
        queries: in all.
        triples: for training.
        judged: queries with a judgment and candidates.
        depth: candidates of each of them.
        seed: of everything.
    """

    passages: int = 8_841_823
    queries: int = 808_731
    triples: int = 39_780_811
    judged: int = 6_980
    depth: int = 1000
    seed: int = 0


class Drawn(NamedTuple):
    """Attributes: ids: of texts, (N,); words: of all, one after the other; lengths: words of each, (N,)."""

    ids: NDArray[np.bytes_]
    words: NDArray[np.uint16]
    lengths: NDArray[np.int64]


def passages(words: Words, sizes: Sizes) -> Iterator[Drawn]:
    """Draw the passages, some at a time."""
    return _texts(words, sizes.passages, PASSAGE_WORDS, (sizes.seed, 0))


def queries(words: Words, sizes: Sizes) -> Iterator[Drawn]:
    """Draw the queries, some at a time."""
    return _texts(words, sizes.queries, QUERY_WORDS, (sizes.seed, 1))


def _texts(words: Words, count: int, length: tuple[float, float, int], seed: tuple[int, ...]) -> Iterator[Drawn]:
    mean, deviation, most = length
    for start, end in _ranges(count):
        random = np.random.default_rng([*seed, start])
        drawn = random.gamma((mean / deviation) ** 2, deviation**2 / mean, end - start)
        lengths = drawn.round().astype(np.int64).clip(1, most)
        yield Drawn(np.arange(start, end).astype("S"), words.draw(random, int(lengths.sum())), lengths)


def generate(folder: Path, sizes: Sizes, words: Words) -> None:
    """Write the files of a collection, unless they are there.

    Raises:
        ValueError: if the folder holds a collection of other sizes.
    """
    made = folder / MADE
    if made.is_file():
        found = json.loads(made.read_text(encoding="utf-8"))
        if found != sizes._asdict():
            raise ValueError(f"{folder} holds a collection of {found}, asked for {sizes._asdict()}. Name another folder.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn, count in (
        ("docs", passages(words, sizes), sizes.passages),
        ("queries", queries(words, sizes), sizes.queries),
    ):
        _write(folder / f"{name}.tsv", (words.lines(*texts) for texts in drawn), count)
    _write(folder / "triples.tsv", _triples(sizes), sizes.triples)
    _write(folder / "run.txt", _run(sizes), sizes.judged)
    asked = np.arange(sizes.judged)
    (folder / "qrels.txt").write_bytes(_rows(sizes.judged, asked, b" 0 ", answer(asked, sizes), b" 1"))
    write_json(made, sizes._asdict())


def disk_bytes(sizes: Sizes) -> int:
    """Estimate what a collection and all that is built from it need: files, ir_datasets' docstore, token stores, rows."""
    each = {"passages": 385 + 440 + 165, "queries": 45 + 35, "triples": 25 + 12}
    return sum(getattr(sizes, name) * size for name, size in each.items()) + 32 * sizes.judged * sizes.depth


def register(folder: Path, name: str) -> None:
    """Make a collection known to ``ir_datasets.load`` in this process; calling it again changes nothing."""
    if name not in ir_datasets.registry:
        parts = (
            TsvDocs(LocalDownload(folder / "docs.tsv"), namespace=name, lang="en"),
            TsvQueries(LocalDownload(folder / "queries.tsv")),
            TrecQrels(LocalDownload(folder / "qrels.txt"), {1: "relevant"}),
            TsvDocPairs(LocalDownload(folder / "triples.tsv")),
            TrecScoredDocs(LocalDownload(folder / "run.txt")),
        )
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))


def answer(asked: NDArray[np.int64], sizes: Sizes) -> NDArray[np.int64]:
    """Return the one relevant passage of each query, (N,)."""
    return (asked * 7_368_787 + 17) % sizes.passages


def _triples(sizes: Sizes) -> Iterator[bytes]:
    for start, end in _ranges(sizes.triples):
        random = np.random.default_rng([sizes.seed, 2, start])
        asked = random.integers(0, sizes.queries, end - start)
        other = (answer(asked, sizes) + random.integers(1, sizes.passages, end - start)) % sizes.passages
        yield _rows(end - start, asked, b"\t", answer(asked, sizes), b"\t", other)


def _run(sizes: Sizes) -> Iterator[bytes]:
    places = np.arange(sizes.depth)
    for asked in range(sizes.judged):
        found = np.random.default_rng([sizes.seed, 3, asked]).choice(sizes.passages, sizes.depth, replace=False)
        yield _rows(
            sizes.depth, np.full(sizes.depth, asked), b" Q0 ", found, b" ", places + 1, b" ", sizes.depth - places, b" x"
        )


def _rows(count: int, *cells: NDArray[np.int64] | bytes) -> bytes:
    """Write lines of numbers and what stands between them."""
    columns = [np.full(count, cell) if isinstance(cell, bytes) else cell.astype("S") for cell in (*cells, b"\n")]
    flat = np.concatenate([column.view(np.uint8).reshape(count, -1) for column in columns], axis=1)
    return flat[flat != 0].tobytes()


def _ranges(count: int) -> list[tuple[int, int]]:
    return [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _write(path: Path, chunks: Iterator[bytes], lines: int) -> None:
    with path.open("wb") as file:
        for chunk in counted(chunks, f"{path.name}, {lines} lines", "pieces"):
            file.write(chunk)
