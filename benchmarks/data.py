"""Measures the data pipeline on a synthetic collection: rate of batches, memory, start, tokenising. Prints and writes it.

    python -m benchmarks.data <folder> --results <folder> [--passages N --triples N ...]

The defaults are MS MARCO's sizes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.batches import compare
from benchmarks.batches import measure as measure_batches
from benchmarks.building import build, tokenising
from benchmarks.machine import describe
from benchmarks.setting import Setting, use_one_core
from benchmarks.synthetic import MADE, Sizes, disk_bytes, generate
from benchmarks.words import Words
from rankdistil.files import write_json
from rankdistil.inference.machine import Meter, shown_share

FULL = Sizes()
STORES = {"direct": "of passages written as drawn, not tokenised", "tokenise": "tokenised"}
FILES = {
    "index (ids, order, starts)": ("ids.bin", "order.bin", "starts.bin"),
    "token ids": ("items.bin",),
    "triples": ("rows.bin",),
}
STORED = "groups", "candidates"  # variants that read the token store
TARGETS = {"rows_per_core_s": 200_000, "over_naive": 80, "growth_mib": 300, "warm_start_s": 5}


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the collection is, or is made: needs room for it and its stores")
    parser.add_argument("--results", type=Path, required=True, help="folder that data.json is written to")
    for name, value in FULL._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value, help="of the collection (default: %(default)s)")
    parser.add_argument(
        "--store",
        choices=("direct", "tokenise"),
        default="direct",
        help="direct: the passages' token ids are written as they were drawn; tokenise: their texts are tokenised",
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=20_000, help="read for the memory (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=300, help="seconds of reading for the memory (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=100_000, help="passages tokenised (default: %(default)s)")
    return parser.parse_args(line)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Make what isn't there and measure."""
    sizes, setting = Sizes(**{name: getattr(asked, name) for name in Sizes._fields}), Setting(str(asked.folder))
    others, load = Meter(), os.getloadavg()[0]
    started = time.perf_counter()
    _refuse_full_disk(asked.folder, sizes)
    words = Words(setting.encoder().tokenizer)
    generate(asked.folder, sizes, words)
    made = time.perf_counter() - started
    building = build(setting, sizes, words, direct=asked.store == "direct")
    compared = compare(setting)
    streaming = _streaming(setting, asked.batches, asked.limit)
    all_cores = tokenising(setting, asked.sample)
    use_one_core()
    return {
        "machine": describe(),
        "sizes": sizes._asdict(),
        "setting": setting._asdict() | {"folder": asked.folder.name},
        "store": asked.store,
        "rows_compared": compared,
        "batches": measure_batches(setting, asked.rounds, asked.seconds),
        "streaming": streaming,
        "tokenising": {"all_cores": all_cores, "one_core": tokenising(setting, asked.sample), "cores": os.cpu_count()},
        "making_s": made,
        "building": building,
        "disk_gb": sum(file.stat().st_size for file in asked.folder.rglob("*") if file.is_file()) / 1e9,
        "targets": TARGETS,
        "load_before": load,
        "used_by_others": others.share(),
    }


def _streaming(setting: Setting, batches: int, limit: float) -> dict[str, Any]:
    line = [sys.executable, "-m", "benchmarks.streaming", json.dumps(setting._asdict()), str(batches), str(limit)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _refuse_full_disk(folder: Path, sizes: Sizes) -> None:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    need, free = disk_bytes(sizes), shutil.disk_usage(there).free
    if not (folder / MADE).is_file() and free < need:
        raise ValueError(f"{folder} has {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB are needed. Name another folder.")


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    title = f"Rows per core-second; token ids of {result['rows_compared']:,} rows are equal on both paths"
    rates = Table(
        "variant", "median", "least", "most", "over naive", "of bare gather", "target", title=title, title_justify="left"
    )
    for name, row in result["batches"].items():
        cells = (f"{row[key]:,.0f}" for key in ("rows_per_core_s", "least", "most"))
        target = ""
        if name.startswith(STORED):
            target = "reached" if all(row[key] >= TARGETS[key] for key in ("rows_per_core_s", "over_naive")) else "missed"
        rates.add_row(name, *cells, f"{row['over_naive']:.1f}x", f"{row['of_bare_gather']:.0%}", target)
    console.print(rates)
    rest = Table(title="Memory, start, building", title_justify="left", show_header=False)
    for name, value in _rest(result):
        rest.add_row(name, value)
    console.print(rest)


def _rest(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    sizes, streaming, once = result["sizes"], result["streaming"], result["tokenising"]
    yield "collection", f"{sizes['passages']:,} passages, {sizes['triples']:,} triples; token ids {STORES[result['store']]}"
    start, growth = streaming["after_first_batch_mib"], streaming["growth_mib"]
    yield "memory after the first batch", f"{start['VmRSS']:,.0f} MiB, its own {start['RssAnon']:,.0f}"
    yield (
        f"growth over {streaming['batches']:,} batches ({streaming['rows']:,} rows)",
        f"{growth['VmRSS']:,.0f} MiB, its own {growth['RssAnon']:,.0f} (target < {TARGETS['growth_mib']})",
    )
    for what, names in FILES.items():
        files = [file for name, file in streaming["files_mib"].items() if name.endswith(names)]
        held, size = (sum(file[key] for file in files) for key in ("resident", "size"))
        yield f"{what}, resident", f"{held:,.0f} of {size:,.0f} MiB"
    yield (
        "opening to first batch, all built",
        f"{streaming['warm_start_s']:.2f} s (target <= {TARGETS['warm_start_s']}); imports {streaming['imports_s']:.1f} s and "
        f"tokenizer {streaming['tokenizer_s']:.1f} s before",
    )
    yield "reading the candidates", f"{streaming['candidates']:,} in {streaming['candidates_s']:.1f} s"
    rate, one = (once[key]["passages_per_core_s"] for key in ("all_cores", "one_core"))
    wall = once["all_cores"]["passages_per_s"]
    yield (
        "tokenising",
        f"{one:,.0f} passages/s on one core; on {once['cores']}, {wall:,.0f}/s, {rate:,.0f} per core-second: {FULL.passages:,} "
        f"in {FULL.passages / wall / 60:.0f} min as busy as now, {FULL.passages / rate / once['cores'] / 60:.0f} at least",
    )
    yield "collection made", f"{result['making_s']:.1f} s, where it wasn't there"
    for name, time_of in result["building"].items():
        yield name, f"{time_of['wall_s']:.1f} s, {time_of['core_s']:.1f} core-seconds"
    mapped = sizes["triples"] / result["building"]["triples mapped"]["core_s"]
    yield "triples mapped per core-second", f"{mapped:,.0f}: {FULL.triples:,} in {FULL.triples / mapped / 60:.1f} min"
    yield "disk", f"{result['disk_gb']:.2f} GB"
    used = f"{shown_share(result['used_by_others'])} of the cores used by others, load before {result['load_before']:.1f}"
    yield "machine", f"{result['machine']['processor']}, {result['machine']['cores']} cores; {used}"


def main() -> None:
    """Measure, print, write."""
    asked = arguments()
    try:
        result = measure(asked)
    except ValueError as error:
        sys.exit(str(error))
    show(result, Console(width=150))
    asked.results.mkdir(parents=True, exist_ok=True)
    write_json(asked.results / "data.json", result)


if __name__ == "__main__":
    main()
