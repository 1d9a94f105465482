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
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.batches import measure as measure_batches
from benchmarks.building import build, mapping, tokenising
from benchmarks.machine import Others, describe
from benchmarks.setting import Setting, use_one_core
from benchmarks.synthetic import MADE, Sizes, disk_bytes, generate
from benchmarks.words import Words
from rankdistil.files import write_json

FULL = Sizes()
STORES = {"direct": "written as drawn, not tokenised", "tokenise": "tokenised"}
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
    parser.add_argument("--sample", type=int, default=100_000, help="passages tokenised, triples mapped (default: %(default)s)")
    return parser.parse_args(line)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Make what isn't there and measure."""
    sizes, setting = Sizes(**{name: getattr(asked, name) for name in Sizes._fields}), Setting(str(asked.folder))
    others, load = Others(), os.getloadavg()[0]
    started = time.perf_counter()
    _refuse_full_disk(asked.folder, sizes)
    words = Words(setting.encoder().tokenizer)
    generate(asked.folder, sizes, words)
    steps = {"collection made": time.perf_counter() - started}
    steps |= build(setting, sizes, words, direct=asked.store == "direct")
    streaming = _streaming(setting, asked.batches, asked.limit)
    all_cores = tokenising(setting, asked.sample)
    use_one_core()
    result = {
        "machine": describe(),
        "sizes": sizes._asdict(),
        "setting": setting._asdict() | {"folder": asked.folder.name},
        "store": asked.store,
        "seconds": steps,
        "streaming": streaming,
        "tokenising": {
            "all_cores": all_cores,
            "one_core": tokenising(setting, asked.sample),
            "cores": os.cpu_count(),
            "full_minutes": FULL.passages / all_cores["passages_per_s"] / 60,
        },
        "mapping": mapping(setting, asked.sample),
        "batches": measure_batches(setting, asked.rounds, asked.seconds),
        "targets": TARGETS,
    }
    result["mapping"]["full_minutes"] = FULL.triples / result["mapping"]["triples_per_core_s"] / 60
    result["disk_gb"] = sum(file.stat().st_size for file in asked.folder.rglob("*") if file.is_file()) / 1e9
    return result | {"load_before": load, "used_by_others": others.share()}


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
    rates = Table(
        title=f"Rows per core-second, {result['batches']['rows_compared']} rows compared and equal", title_justify="left"
    )
    for name in ("variant", "median", "least", "most", "over naive", "of bare gather"):
        rates.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for name, row in result["batches"]["variants"].items():
        cells = (f"{row[key]:,.0f}" for key in ("rows_per_core_s", "least", "most"))
        rates.add_row(name, *cells, f"{row['over_naive']:.1f}x", f"{row['of_bare_gather']:.0%}")
    console.print(rates)
    rest = Table(title="Memory, start, building", title_justify="left", show_header=False)
    for name, value in _rest(result):
        rest.add_row(name, value)
    console.print(rest)


def _rest(result: dict[str, Any]) -> list[tuple[str, str]]:
    sizes, streaming, mapped = result["sizes"], result["streaming"], result["mapping"]
    growth, start, once = streaming["growth_mib"], streaming["after_first_batch_mib"], result["tokenising"]
    rows = [
        (
            "collection",
            f"{sizes['passages']:,} passages, {sizes['triples']:,} triples, passages' token ids {STORES[result['store']]}",
        ),
        ("memory after the first batch", f"{start['VmRSS']:,.0f} MiB, of which its own {start['RssAnon']:,.0f}"),
        (
            f"growth over {streaming['batches']:,} batches ({streaming['rows']:,} rows)",
            f"{growth['VmRSS']:,.0f} MiB, of which its own {growth['RssAnon']:,.0f} (target < {TARGETS['growth_mib']})",
        ),
        ("resident of mapped files", ", ".join(f"{name} {size:.0f} MiB" for name, size in streaming["index_mib"].items())),
        (
            "opening to first batch, all built",
            f"{streaming['warm_start_s']:.2f} s (target <= {TARGETS['warm_start_s']}); "
            f"imports {streaming['imports_s']:.1f} s and tokenizer {streaming['tokenizer_s']:.1f} s before",
        ),
        ("reading the candidates", f"{streaming['candidates']:,} in {streaming['candidates_s']:.1f} s"),
        (
            "tokenising",
            f"{once['one_core']['passages_per_core_s']:,.0f} passages/s on one core, "
            f"{once['all_cores']['passages_per_s']:,.0f} on {once['cores']}: {FULL.passages:,} in {once['full_minutes']:.0f} min",
        ),
        (
            "mapping triples",
            f"{mapped['triples_per_core_s']:,.0f} triples/s on one core: {FULL.triples:,} in {mapped['full_minutes']:.1f} min",
        ),
    ]
    rows += [(name, "there" if seconds is None else f"{seconds:.1f} s") for name, seconds in result["seconds"].items()]
    rows.append(("disk", f"{result['disk_gb']:.2f} GB"))
    used = f"{result['used_by_others']:.0%} of the cores used by others, load before {result['load_before']:.1f}"
    return [*rows, ("machine", f"{result['machine']['processor']}, {result['machine']['cores']} cores; {used}")]


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
