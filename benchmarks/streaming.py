"""A training run's start with everything built, and its memory while it reads: in a process of its own.

python -m benchmarks.streaming <setting as JSON> <batches> <seconds>
"""

import json
import sys
import time

STARTED = time.perf_counter()

from typing import Any  # noqa: E402 - the imports are part of what is measured

from benchmarks.machine import MIB, memory, resident  # noqa: E402
from benchmarks.setting import Setting, use_one_core  # noqa: E402
from rankdistil.data.batches.datamodule import RankingDataModule  # noqa: E402
from rankdistil.data.settings import DataSettings  # noqa: E402

SAMPLED_EVERY = 50  # batches


def measure(setting: Setting, batches: int, seconds: float) -> dict[str, Any]:
    """Measure start and memory.

    Args:
        setting: of the collection; its stores are built.
        batches: read at most, behind the first.
        seconds: to read for at most.

    Returns:
        Seconds of the start; resident memory in MiB, of the process and of the index; seconds of reading the candidates.
    """
    imported = time.perf_counter()
    data = _data(setting)
    prepared = time.perf_counter()
    data.open_training()
    opened = time.perf_counter()
    stream = iter(data.train_dataloader())
    next(stream)
    first = time.perf_counter()
    start = memory()
    most, done, rows = start, 0, 0
    while done < batches and time.perf_counter() - first < seconds:
        rows += len(next(stream).labels)
        done += 1
        if done % SAMPLED_EVERY == 0 or done == batches:
            now = memory()
            most = {key: max(value, now[key]) for key, value in most.items()}
    held = resident(setting.store)
    files = {f"{file.parent.name}/{file.name}": file.stat().st_size / MIB for file in setting.store.glob("*/*.bin")}
    reading = time.perf_counter()
    candidates = data.task("test").candidates
    return {
        "imports_s": imported - STARTED,
        "tokenizer_s": prepared - imported,
        "open_s": opened - prepared,
        "first_batch_s": first - opened,
        "warm_start_s": first - prepared,
        "batches": done,
        "rows": rows,
        "after_first_batch_mib": start,
        "most_mib": most,
        "growth_mib": {key: most[key] - start[key] for key in ("VmRSS", "RssAnon", "RssFile")},
        "files_mib": {name: {"size": size, "resident": held.get(name, 0.0)} for name, size in files.items()},
        "candidates": sum(map(len, candidates.values())),
        "candidates_s": time.perf_counter() - reading,
    }


def _data(setting: Setting) -> RankingDataModule:
    settings = DataSettings(
        batch_size=32, eval_batch_size=256, max_length=setting.max_length,
        train_on="docpairs", negatives_depth=100, relevance_level=1, depth=1000, valid_depth=100, valid_queries=500,
        store=str(setting.store),
    )  # fmt: skip
    reader = setting.reader()
    return RankingDataModule(reader, reader, reader, setting.encoder(), settings, seed=0)


if __name__ == "__main__":
    use_one_core()
    print(json.dumps(measure(Setting(**json.loads(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3]))))
