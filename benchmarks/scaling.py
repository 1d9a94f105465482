"""Measures training with one process and with several, data-parallel, a core each. Prints and writes it.

python -m benchmarks.scaling --results <file.json> [--processes 1,2] [--stage layers] [--model 4l]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from benchmarks.machine import describe
from benchmarks.training_steps import LOSSES, OPTIM, module_of
from benchmarks.training_texts import draw_work
from rankdistil.data.records import PairBatch
from rankdistil.files import write_json
from rankdistil.inference.machine import Meter, shown_share
from rankdistil.modules.stage import StageModule, adamw


class Whole(nn.Module):
    """A stage's loss as one network, which is what data-parallel training wraps."""

    def __init__(self, module: StageModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: PairBatch) -> Tensor:
        """Return what is minimised."""
        return self.module.loss(batch).total


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--processes", default="1,2", help="numbers of processes, in turns (default: %(default)s)")
    parser.add_argument("--stage", default="layers", choices=LOSSES, help="(default: %(default)s)")
    parser.add_argument("--model", default="4l", help="size of what learns (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="of each process and turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    return parser.parse_args(line)


def train(asked: argparse.Namespace) -> None:
    """Be one of the processes; the first one writes the seconds that all steps took, from one barrier to another."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    module = module_of(asked.stage, asked.model).train()
    network = DistributedDataParallel(Whole(module)) if world > 1 else Whole(module)
    optimizer, _ = adamw(module, OPTIM)
    batches = draw_work(asked.steps + 1, None, seed=0).grouped
    pairs = 0
    for number, batch in enumerate(batches):
        if number == 1:
            dist.barrier()
            start = time.perf_counter()
        if asked.stage == "logits":
            batch = batch._replace(teacher_logits=torch.zeros(len(batch.labels)))
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(batch)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(module.parameters(), OPTIM.gradient_clip)
        optimizer.step()
        pairs += len(batch.labels) if number else 0
    dist.barrier()
    if rank == 0:
        write_json(asked.results, {"pairs_per_s": world * pairs / (time.perf_counter() - start)})
    dist.destroy_process_group()


def launch(asked: argparse.Namespace, processes: int) -> float:
    """Start processes and return the pairs per second of all of them."""
    part = asked.results.with_suffix(".part.json")
    settings = ["--stage", asked.stage, "--model", asked.model, "--steps", str(asked.steps), "--results", str(part)]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    subprocess.run([*line, "-m", "benchmarks.scaling", *settings], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    rate = json.loads(part.read_text())["pairs_per_s"]
    part.unlink()
    return rate


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    table = Table("processes", "pairs/s", "least", "most", "over one", title=f"Training {result['stage']} {result['model']}")
    for row in result["rows"]:
        rates = (f"{row[key]:,.2f}" for key in ("pairs_per_s", "least", "most"))
        table.add_row(str(row["processes"]), *rates, f"{row['over_one']:.2f}x")
    console.print(table)
    console.print(f"{result['machine']['processor']}; {shown_share(result['used_by_others'])} of the cores used by others")


def main() -> None:
    """Measure in turns, print, write."""
    asked = arguments()
    if "RANK" in os.environ:
        train(asked)
        return
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    others, counts = Meter(), [int(number) for number in asked.processes.split(",")]
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(asked.rounds):
        for count in counts:
            rates[count].append(launch(asked, count))
    middle = {count: sorted(row)[len(row) // 2] for count, row in rates.items()}
    rows = [
        {"processes": count, "pairs_per_s": middle[count], "least": min(row), "most": max(row),
         "over_one": middle[count] / middle[counts[0]]}
        for count, row in rates.items()
    ]  # fmt: skip
    result = {
        "machine": describe(), "stage": asked.stage, "model": asked.model, "steps": asked.steps, "rounds": asked.rounds,
        "rows": rows, "used_by_others": others.share(),
    }  # fmt: skip
    write_json(asked.results, result)
    show(result, Console(width=120))


if __name__ == "__main__":
    main()
