"""Building a folder of scores out of any stream of them, in one step for whoever looks at it."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdistil.data.score_records import Score
from rankdistil.data.score_repeats import BUCKETS, Tally, collect, spread
from rankdistil.data.scores import HEADER, SHARD, Shard, shard_name, write_shard
from rankdistil.files import write_json
from rankdistil.locks import LOCK, locked
from rankdistil.progress import counted

if TYPE_CHECKING:
    import pyarrow as pa


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
    with locked(building, wait=False, choice="to", ours=True):
        _clear(building)  # of a process that was killed: the lock says that none is at work
        try:
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
        finally:
            _clear(building)
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


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path)
