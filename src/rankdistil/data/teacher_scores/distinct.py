"""Deduplication of teacher scores: each pair once, however often a file repeats it, in a folder built in one step.

Triples repeat a positive with every negative. Telling repeats from scores that differ takes all scores of a query together, so
scores go to buckets on disk first, by query, and memory holds one bucket.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from rankdistil.data.teacher_scores.folder import HEADER, SHARD, Shard, shard_name, write_shard
from rankdistil.data.teacher_scores.formats import Score
from rankdistil.files import workshop, write_json
from rankdistil.processes.progress import counted

if TYPE_CHECKING:
    import pyarrow as pa

BUCKETS = 64  # of a million scores each, where a file has as many as 40 million triples
CHUNK = 1 << 17  # scores on their way to the buckets
PAIR = ["query_id", "passage_id"]


@dataclass
class Tally:
    """What was read.

    Attributes:
        read: scores in the file.
        pairs: different pairs.
        queries: different queries.
        low: the lowest score.
        high: the highest.
        differing: pairs with scores that differ.
        widest: largest difference between them.
    """

    read: int = 0
    pairs: int = 0
    queries: int = 0
    low: float = math.inf
    high: float = -math.inf
    differing: int = 0
    widest: float = 0.0

    def add(self, once: "pa.Table") -> None:
        """Count a table of ``collect``."""
        import pyarrow.compute as pc

        self.pairs += once.num_rows
        self.queries += pc.count_distinct(once["query_id"]).as_py()
        self.low = min(self.low, pc.min(once["score"]).as_py())
        self.high = max(self.high, pc.max(once["score"]).as_py())
        self.differing += pc.sum(pc.greater(once["gap"], 0)).as_py()
        self.widest = max(self.widest, pc.max(once["gap"]).as_py())


def spread(scores: Iterable[Score], folder: Path, file: Path, keep_first: bool, tally: Tally) -> None:
    """Write scores into buckets, by query.

    Args:
        scores: in the file's order.
        folder: for the buckets.
        file: where they come from, for messages.
        keep_first: let a pair have scores that differ.
        tally: counts them.

    Raises:
        ValueError: for scores of a pair that differ, where these are near each other; ``collect`` finds the others.
    """
    import pyarrow as pa

    schema = pa.schema([("line", pa.int64()), *((name, pa.string()) for name in PAIR), ("score", pa.float32())])
    scores = iter(scores)
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(str(_bucket(folder, n)), schema)) for n in range(BUCKETS)]
        while chunk := list(islice(scores, CHUNK)):
            tally.read += len(chunk)
            lines, queries, passages, values = zip(*chunk, strict=True)
            table = pa.table([lines, queries, passages, np.array(values, np.float32)], schema=schema)
            if not keep_first:
                table = _once(table, file, keep_first).select(schema.names)
            buckets = _buckets_of(table["query_id"].combine_chunks())
            order = buckets.argsort(kind="stable")
            ends = np.searchsorted(buckets[order], np.arange(BUCKETS + 1))
            table = table.take(order)
            for writer, start, end in zip(writers, ends[:-1], ends[1:], strict=True):
                writer.write_table(table.slice(start, end - start))


def collect(folder: Path, file: Path, keep_first: bool, tally: Tally) -> Iterator["pa.Table"]:
    """Read the buckets back, each pair once with its first score, and remove them.

    Args:
        folder: what ``spread`` wrote.
        file: as there.
        keep_first: as there.
        tally: counts what is yielded.

    Yields:
        Columns query_id, passage_id, line, score and gap, between the highest and the lowest of a pair; no two hold one query.

    Raises:
        ValueError: for scores of a pair that differ, unless the first is kept.
    """
    import pyarrow as pa

    for number in range(BUCKETS):
        bucket = _bucket(folder, number)
        with pa.OSFile(str(bucket)) as source:
            table = pa.ipc.open_stream(source).read_all()
        bucket.unlink()
        if table.num_rows:
            once = _once(table, file, keep_first)
            tally.add(once)
            yield once


def _once(table: "pa.Table", file: Path, keep_first: bool) -> "pa.Table":
    """Return each pair once: its first line and score, and the gap between its lowest and highest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = [("line", "first"), ("score", "first"), ("score", "min"), ("score", "max")]
    groups = table.group_by(PAIR, use_threads=False).aggregate(wanted)  # in one thread, first is the file's first
    gaps = pc.subtract(*(groups[name].cast("double") for name in ("score_max", "score_min")))
    if not keep_first and pc.max(gaps).as_py() > 0:
        _refuse(table, groups.filter(pc.greater(gaps, 0)).slice(0, 1).to_pylist()[0], file)
    columns = {name: groups[name] for name in PAIR} | {
        "line": groups["line_first"],
        "score": groups["score_first"],
        "gap": gaps,
    }
    return pa.table(columns)


def _refuse(table: "pa.Table", pair: dict[str, str | float], file: Path) -> None:
    import pyarrow.compute as pc

    same = pc.and_(*(pc.equal(table[name], pair[name]) for name in PAIR))
    first, *others = table.filter(same).to_pylist()
    other = next(row for row in others if row["score"] != first["score"])
    raise ValueError(
        f"{file}:{other['line']}: query {pair['query_id']} and passage {pair['passage_id']} have the score "
        f"{other['score']:.9g}; in line {first['line']} they have {first['score']:.9g}. A teacher gives a pair one score: "
        "import one teacher's scores, or set repeats=first to keep the first score of each pair."
    )


def _buckets_of(queries: "pa.Array") -> np.ndarray:
    coded = queries.dictionary_encode()
    buckets = np.array([crc32(key.encode()) % BUCKETS for key in coded.dictionary.to_pylist()])
    return buckets[coded.indices.to_numpy()]


def _bucket(folder: Path, number: int) -> Path:
    return folder / f"bucket-{number:02d}.arrow"


def build_folder(
    folder: Path, scores: Iterable[Score], file: Path, keep_first: bool, made_of: Callable[[], dict[str, Any]]
) -> Tally:
    """Write scores into a folder, each pair once. Memory doesn't grow with their number.

    Args:
        folder: not there yet, or empty; until it is complete, work goes on in ``.<name>.importing`` beside it.
        scores: in the file's order.
        file: where they come from, for messages.
        keep_first: keep the first score of a pair whose scores differ.
        made_of: says what the header should; asked for once the scores are written.

    Raises:
        RuntimeError: if another process is building the folder.
        ValueError: if there is no score, or scores of a pair differ and the first isn't to be kept.
    """
    folder = folder.resolve()
    building, tally = folder.with_name(f".{folder.name}.importing"), Tally()
    with workshop(building, "to"):
        buckets, made = building / "buckets", building / "scores"
        buckets.mkdir()
        made.mkdir()
        spread(counted(scores, f"import {file.name}", "scores"), buckets, file, keep_first, tally)
        if not tally.read:
            raise ValueError(f"{file} holds no score.")
        tables = counted(collect(buckets, file, keep_first, tally), "write each pair once", "parts", BUCKETS)
        shards = dict(_write(tables, made))
        write_json(made / HEADER, {"made_of": made_of(), "shards": shards})
        made.rename(folder)
    return tally


def _write(tables: Iterable["pa.Table"], folder: Path) -> Iterator[tuple[str, int]]:
    """Write shards of equal size; yield name and size of each."""
    for number, table in enumerate(_cut(tables)):
        columns = (table[name].to_pylist() for name in ("query_id", "passage_id"))
        write_shard(folder / shard_name(number), Shard(*columns, table["score"].to_numpy()))
        yield shard_name(number), table.num_rows


def _cut(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    import pyarrow as pa

    left: list[pa.Table] = []
    for table in tables:
        joined = pa.concat_tables([*left, table])
        whole = joined.num_rows // SHARD * SHARD
        yield from (joined.slice(at, SHARD) for at in range(0, whole, SHARD))
        left = [joined.slice(whole)]
    yield from (rest for rest in left if rest.num_rows)
