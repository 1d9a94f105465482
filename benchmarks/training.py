"""Measures training steps beside a naive step and sentence-transformers' trainer, interleaved. Prints and writes it.

python -m benchmarks.training --results <file.json> [--models 4l,6l] [--stages layers,logits] [--device cuda --tokens 16384]
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.limits import gflop, gpu_limits, limits
from benchmarks.machine import MIB, describe
from benchmarks.training_peer import peer
from benchmarks.training_steps import LOSSES, TEACHER, Step, module_of, naive_step, our_step, shape
from benchmarks.training_texts import Work, draw_work
from rankdistil.data.records import PairBatch
from rankdistil.files import write_json
from rankdistil.inference.machine import Meter, shown_share

PEER = "sentence-transformers"
PRECISIONS = ("float32", "bfloat16")
OWN = "bfloat16"  # what targets are about
BASE = {"layers": "naive", "lm": "naive", "teacher": "naive", "logits": PEER}
TARGETS = {("layers", "4l"): 3.5, ("layers", "6l"): 3.5, ("logits", "4l"): 2.0, ("logits", "6l"): 2.3}
MOST_MEMORY = 0.6  # of the naive step's
LEAST_OF_LIMIT = 0.6


class Variant(NamedTuple):
    """One way to train.

    Attributes:
        stage: what is learnt from whom.
        model: size of what learns.
        name: the way.
        run: trains on all pairs; gives seconds.
        warm: trains on some of them.
        gflop: the work of all pairs, padding left out.
        memory: MiB of the GPU that a turn took beyond what lay there; None on a CPU, where a fresh process tells.
    """

    stage: str
    model: str
    name: str
    run: Callable[[], float]
    warm: Callable[[], Any]
    gflop: float
    memory: Callable[[], float] | None


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--models", default="4l,6l", help="sizes of students (default: %(default)s)")
    parser.add_argument("--stages", default="layers,logits", help=f"of {', '.join(LOSSES)} (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="batches in a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="(default: %(default)s)")
    parser.add_argument("--tokens", type=int, help="per batch, as data.max_tokens; 16 pairs without")
    parser.add_argument("--no-memory", action="store_true", help="don't measure memory in fresh processes (CPU)")
    parser.add_argument(
        "--no-peer", action="store_true", help="without sentence-transformers, which needs accelerate, datasets"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the texts (default: %(default)s)")
    return parser.parse_args(line)


def variants_of(stage: str, model: str, work: Work, asked: argparse.Namespace) -> list[Variant]:
    """Return every way to train in a stage."""
    device, amount = asked.device, work_of(stage, model, work)
    grouped, arbitrary = ([_on(batch, device, stage) for batch in batches] for batches in (work.grouped, work.arbitrary))

    def variant(name: str, step: Step, batches: list[PairBatch]) -> Variant:
        clock = _clock(device)

        most = [0.0]

        def run() -> float:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                idle = torch.cuda.memory_allocated()  # weights and optimisers of every variant
            start = clock()
            for batch in batches:
                step(batch)
            taken = clock() - start
            if device == "cuda":
                most[0] = (torch.cuda.max_memory_allocated() - idle) / MIB
            return taken

        memory = (lambda: most[0]) if device == "cuda" else None
        return Variant(stage, model, name, run, lambda: step(batches[0]), amount, memory)

    found = [variant("naive", naive_step(stage, model, device), arbitrary)] if BASE[stage] == "naive" else []
    for name in PRECISIONS:
        found.append(variant(name, our_step(module_of(stage, model), device, name == OWN), grouped))
    if BASE[stage] == PEER and device == "cpu" and not asked.no_peer:
        for name in PRECISIONS:
            run = peer(model, work, name == OWN)
            found.append(Variant(stage, model, PEER if name == "float32" else f"{PEER} {name}", run, run, amount, None))
    return found


def work_of(stage: str, model: str, work: Work) -> float:
    """Count the GFLOP that a stage can't do without: a forward pass of the teacher, three of what learns."""
    alone = not set(LOSSES[stage]) & {"hidden", "attention"}  # of the last layer, the head reads [CLS] alone
    own = 3 * gflop(shape(model), work.lengths, last_for_first=alone)
    return own + (gflop(shape(TEACHER), work.lengths, last_for_first=False) if stage in ("lm", "layers") else 0.0)


def interleaved(variants: list[Variant], rounds: int, console: Console) -> tuple[list[list[float]], list[float | None]]:
    """Return the seconds of each turn of each variant, and its peak memory on a GPU."""
    taken, peaks = [[] for _ in variants], [None for _ in variants]
    for turn in range(rounds + 1):
        console.print(f"turn {turn} of {rounds}" if turn else f"warm-up of {len(variants)} variants")
        for place, variant in enumerate(variants):
            if turn:
                taken[place].append(variant.run())
                peaks[place] = variant.memory() if variant.memory else None
            else:
                variant.warm()
    return taken, peaks


def rows_of(
    variants: list[Variant], taken: list[list[float]], peaks: list[float | None], pairs: int, most: dict[str, float]
) -> list[dict[str, Any]]:
    """Return a row of each variant: its rate, over the one it is measured beside, and of the limit."""
    middle = {(each.stage, each.model, each.name): float(np.median(row)) for each, row in zip(variants, taken, strict=True)}
    rows = []
    for each, seconds, peak in zip(variants, taken, peaks, strict=True):
        own, base = middle[each.stage, each.model, each.name], middle.get((each.stage, each.model, BASE[each.stage]))
        rows.append(
            {
                "stage": each.stage, "model": each.model, "variant": each.name, "pairs_per_s": pairs / own,
                "least": pairs / max(seconds), "most": pairs / min(seconds), "over": None if base is None else base / own,
                "gflop_per_pair": each.gflop / pairs, "of_limit": {name: each.gflop / own / most[name] for name in PRECISIONS},
                "memory_mib": peak, "target": TARGETS.get((each.stage, each.model)) if each.name == OWN else None,
            }
        )  # fmt: skip
    return rows


def add_memory(rows: list[dict[str, Any]]) -> None:
    """Measure the memory of each way in a process of its own; the peer's isn't."""
    for row in rows:
        if PEER not in row["variant"]:
            line = [sys.executable, "-m", "benchmarks.training_memory", row["stage"], row["model"], row["variant"]]
            done = subprocess.run(line, capture_output=True, text=True, check=True)
            row |= {"memory_mib": (found := json.loads(done.stdout.splitlines()[-1]))["above_idle_mib"], "memory": found}


def _clock(device: str) -> Callable[[], float]:
    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised if device == "cuda" else time.process_time


def _on(batch: PairBatch, device: str, stage: str) -> PairBatch:
    if stage == "logits":
        batch = batch._replace(teacher_logits=torch.zeros(len(batch.labels)))
    return PairBatch(*(part.to(device) if isinstance(part, torch.Tensor) else part for part in batch))


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    rows, unit = result["rows"], "core-second" if result["device"] == "cpu" else "second"
    naive = {(row["stage"], row["model"]): row["memory_mib"] for row in rows if row["variant"] == "naive"}
    table = Table(
        "stage", "model", "variant", "pairs/s", "least", "most", "over", "beside", "of float32", "of bfloat16 limit",
        "peak MiB", "of naive", "targets", title=f"Training: pairs per {unit}", title_justify="left",
    )  # fmt: skip
    for row in rows:
        beside = naive.get((row["stage"], row["model"]))
        share = row["memory_mib"] / beside if beside and row["memory_mib"] else None
        table.add_row(
            row["stage"], row["model"], row["variant"], *(f"{row[key]:,.2f}" for key in ("pairs_per_s", "least", "most")),
            "" if row["over"] is None else f"{row['over']:.2f}x", BASE[row["stage"]],
            *(f"{row['of_limit'][name]:.0%}" for name in PRECISIONS),
            "" if row["memory_mib"] is None else f"{row['memory_mib']:,.0f}", "" if share is None else f"{share:.0%}",
            _reached(row, share),
        )  # fmt: skip
    console.print(table)
    most = ", ".join(f"{name} {result['limits_gflops'][name]:,.0f}" for name in PRECISIONS)
    padding = f"{result['real_tokens_per_pair']:.1f} real tokens per pair, {result['padding']:.0%} padding in our batches"
    used = f"{shown_share(result['used_by_others'])} of the cores used by others"
    console.print(f"limit in GFLOP/s: {most}; {padding}; {result['machine']['processor']}; {used}")


def _reached(row: dict[str, Any], share: float | None) -> str:
    if row["target"] is None or row["over"] is None:
        return ""
    asked = [(f">= {row['target']:g}x", row["over"] >= row["target"])]
    if row["stage"] == "layers":
        asked.append((f">= {LEAST_OF_LIMIT:.0%}", row["of_limit"][OWN] >= LEAST_OF_LIMIT))
        asked += [] if share is None else [(f"<= {MOST_MEMORY:.0%}", share <= MOST_MEMORY)]
    return ", ".join(f"{text} {'reached' if good else 'missed'}" for text, good in asked)


def main() -> None:
    """Measure, print, write."""
    asked, console = arguments(), Console(width=190)
    torch.set_num_threads(1)
    others, most = Meter(), limits() if asked.device == "cpu" else gpu_limits(PRECISIONS)
    work = draw_work(asked.steps, asked.tokens, asked.seed)
    padded = sum(batch.attention_mask.numel() for batch in work.grouped)
    rows: list[dict[str, Any]] = []
    result = {
        "machine": describe(), "device": torch.cuda.get_device_name() if asked.device == "cuda" else "cpu",
        "limits_gflops": most, "rows": rows, "pairs": len(work.lengths), "real_tokens_per_pair": float(work.lengths.mean()),
        "padding": 1 - float(work.lengths.sum()) / padded, "used_by_others": 0.0, "steps": asked.steps,
        "rounds": asked.rounds, "tokens": asked.tokens, "seed": asked.seed,
    }  # fmt: skip
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    for stage in asked.stages.split(","):
        for model in [TEACHER] if stage == "teacher" else asked.models.split(","):
            console.print(f"{stage} {model}")
            variants = variants_of(stage, model, work, asked)
            found = rows_of(variants, *interleaved(variants, asked.rounds, console), len(work.lengths), most)
            del variants
            if asked.device == "cpu" and not asked.no_memory:
                add_memory(found)
            rows += found
            result["used_by_others"] = others.share()
            write_json(asked.results, result)  # each time: a long run that is ended leaves what it has
    show(result, console)
    console.print(f"file: {asked.results}")


if __name__ == "__main__":
    main()
