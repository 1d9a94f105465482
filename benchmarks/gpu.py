"""Measures a GPU in ten minutes: training steps and their waits, passages/s by dtype, and whether it gives what a CPU gives.

python -m benchmarks.gpu --results <file.json> [--models 4l,6l] [--stages teacher,lm,layers,logits] [--minutes 10]
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from benchmarks.limits import gpu_limits
from benchmarks.machine import MIB, describe
from benchmarks.rankers import SIZES, prepare
from benchmarks.training_steps import LOSSES, TEACHER, module_of
from benchmarks.training_texts import Work, draw_work
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair, PairBatch
from rankdistil.files import write_json
from rankdistil.inference.engine import Engine, TorchNetwork
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.stages.train import quieten

PRECISIONS = ("32-true", "bf16-mixed")
DTYPES = {"float32": ("float32", "highest"), "float32, TF32": ("float32", "high"), "bfloat16": ("bfloat16", "highest")}
COMPARED = 64  # pairs that a CPU scores, too
WARM = 3  # steps before the clock starts


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--models", default="4l,6l", help=f"sizes of students, of {', '.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--stages", default="teacher,lm,layers,logits", help=f"of {', '.join(LOSSES)} (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of a training (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=16_384, help="per batch; scale=paper has 64 pairs (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=20_000, help="to score (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="what isn't measured by then is left out (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of texts and weights (default: %(default)s)")
    return parser.parse_args(line)


class Waits(L.Callback):
    """Times the steps behind the first few, and counts how often one waits for the GPU, those that write to a logger apart.

    Args:
        device: the GPU, or a CPU, which nobody waits for.
    """

    def __init__(self, device: str) -> None:
        self._device, self._started = device, 0.0
        self.seconds, self.waits = 0.0, []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: PairBatch, index: int) -> None:
        """Start the clock, or to count."""
        if index == WARM:
            synchronise(self._device)
            self._started = time.perf_counter()
        if index < WARM:  # to count costs time
            self._counting = counted_waits(self._device)
            self._count = self._counting.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Stop."""
        if index < WARM:
            self._counting.__exit__(None, None, None)
            self.waits.append(len(self._count))
        if index + 1 == trainer.max_steps:
            synchronise(self._device)
            self.seconds = time.perf_counter() - self._started


@contextmanager
def counted_waits(device: str) -> Iterator[list[str]]:
    """Collect what torch says of each operation that waits for the GPU."""
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before, warnings.showwarning = warnings.showwarning, lambda message, *_: found.append(str(message))
        try:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            yield found
        finally:
            warnings.showwarning = before
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    found[:] = [message for message in found if "synchroniz" in message]


def synchronise(device: str) -> None:
    """Wait until all is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def trained(stage: str, model: str, precision: str, work: Work, device: str) -> dict[str, Any]:
    """Train as a run does, and measure a step."""
    batches = [_cached(batch) if stage == "logits" else batch for batch in work.grouped]
    steps, waits = len(batches), Waits(device)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device), devices=1, precision=precision, max_steps=steps, **off,
        callbacks=[ProgressReport(f"{stage} {model} {precision}"), waits],
    )  # fmt: skip
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    loader = DataLoader(batches, batch_size=None, collate_fn=_as_it_is, pin_memory=device == "cuda")
    trainer.fit(module_of(stage, model), loader)
    timed = batches[WARM:]
    return {
        "stage": stage, "model": model, "precision": precision, "step_ms": 1e3 * waits.seconds / len(timed),
        "pairs_per_s": sum(len(batch.labels) for batch in timed) / waits.seconds,
        "tokens_per_s": sum(batch.tokens for batch in timed) / waits.seconds, "waits": waits.waits[1:],
        "peak_mib": torch.cuda.max_memory_allocated() / MIB if device == "cuda" else None,
    }  # fmt: skip


def scored(model: str, name: str, pairs: list[Pair], folder: Path, seed: int, device: str) -> dict[str, Any]:
    """Score texts, and compare some scores with a CPU's in float32."""
    ranker, encoder = prepare(model, folder, seed).ranker, PairEncoder(load_tokenizer(str(folder / model)), 256)
    precision, matmul = DTYPES[name]
    some = pairs[:COMPARED]
    expected = np.array(Engine(TorchNetwork(ranker, encoder, torch.device("cpu")), encoder).score(some)[0])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul)
    try:
        engine = Engine(TorchNetwork(ranker, encoder, torch.device(device), precision, fused=True), encoder, ahead=True)
        found = np.array(engine.score(some)[0])
        engine.score(pairs)  # every shape once
        start = time.perf_counter()
        _, sample = engine.score(pairs)
        seconds = time.perf_counter() - start
    finally:
        torch.set_float32_matmul_precision(before)
    return {
        "model": model, "dtype": name, "passages_per_s": len(pairs) / seconds, "waiting_for_tokens": sample.tokenise / seconds,
        "largest_difference": float(np.abs(found - expected).max()), "spread": float(expected.std()),
    }  # fmt: skip


def agrees(stage: str, model: str, work: Work, device: str) -> dict[str, Any]:
    """Compare a step's loss and gradient, in float32 and without dropout, with a CPU's."""
    batch = min(work.grouped, key=lambda batch: batch.tokens)
    batch, found = _few(_cached(batch) if stage == "logits" else batch, 8), []
    for place in ("cpu", device):
        module = module_of(stage, model).to(place).eval()
        if getattr(module, "teacher", None) is not None:
            module.teacher.to(place)
        total = module.loss(PairBatch(*(part.to(place) if isinstance(part, torch.Tensor) else part for part in batch))).total
        total.backward()
        gradients = [part.grad.cpu().flatten() for part in module.parameters() if part.grad is not None]
        found.append((total.item(), torch.cat(gradients)))
    (loss, gradient), (other, others) = found
    apart = float((others - gradient).norm() / gradient.norm())
    return {"stage": stage, "model": model, "cpu_loss": loss, "loss": other, "gradient_apart": apart}


def _few(batch: PairBatch, pairs: int) -> PairBatch:
    """Keep the first pairs, which a CPU computes in seconds."""
    cut = [part[:pairs] if isinstance(part, torch.Tensor | tuple) else part for part in batch[:8]]
    kept = PairBatch(*cut)
    groups = kept.groups.unique(return_counts=True)[1]
    return kept._replace(tokens=int(kept.attention_mask.sum()), sizes=(len(groups), int(groups.max())))


def _cached(batch: PairBatch) -> PairBatch:
    return batch._replace(teacher_logits=torch.zeros(len(batch.labels)))


def _as_it_is(batch: PairBatch) -> PairBatch:
    return batch


def measure(asked: argparse.Namespace, device: str, console: Console) -> dict[str, Any]:
    """Measure all that there is time for, what it agrees with first, and write it."""
    end = time.monotonic() + 60 * asked.minutes
    work = draw_work(WARM + asked.steps, asked.tokens, asked.seed)
    texts = [(query, text) for query, *both in work.triples for text in both]
    pairs = [Pair(str(at), str(at), *texts[at % len(texts)]) for at in range(asked.pairs)]
    models, stages = asked.models.split(","), asked.stages.split(",")
    parts: dict[str, list[Any]] = {"agreement": [], "training": [], "scoring": []}
    with tempfile.TemporaryDirectory() as place:
        tasks: list[tuple[str, str, Callable[[], dict[str, Any]]]] = []
        for model in models:
            for stage in stages:
                size = TEACHER if stage == "teacher" else model
                tasks.append(("agreement", f"{stage} {size}", lambda s=stage, m=size: agrees(s, m, work, device)))
            for name in DTYPES:
                tasks.append(
                    ("scoring", f"{model} {name}", lambda m=model, n=name: scored(m, n, pairs, _new(place), asked.seed, device))
                )
            for stage in stages:
                size = TEACHER if stage == "teacher" else model
                for precision in PRECISIONS:
                    tasks.append(
                        (
                            "training",
                            f"{stage} {size} {precision}",
                            lambda s=stage, m=size, p=precision: trained(s, m, p, work, device),
                        )
                    )
        result = {
            "machine": describe(), "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "limits_gflops": gpu_limits(("float32", "bfloat16")) if device == "cuda" else {}, **parts, "left_out": [],
            "settings": {name: value for name, value in vars(asked).items() if name != "results"},
        }  # fmt: skip
        asked.results.parent.mkdir(parents=True, exist_ok=True)
        done = set()
        for part, name, task in tasks:
            if (part, name) in done:  # the teacher's, beside another student
                continue
            done.add((part, name))
            if time.monotonic() > end:
                result["left_out"].append(f"{part} {name}")
                continue
            console.print(f"{part} {name}")
            parts[part].append(task())
            write_json(asked.results, result)  # each time: what is ended early leaves what it has
        write_json(asked.results, result)
    return result


def _new(place: str) -> Path:
    return Path(tempfile.mkdtemp(dir=place))


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    columns = {
        "agreement": ("stage", "model", "cpu_loss", "loss", "gradient_apart"),
        "scoring": ("model", "dtype", "passages_per_s", "waiting_for_tokens", "largest_difference", "spread"),
        "training": ("stage", "model", "precision", "step_ms", "pairs_per_s", "tokens_per_s", "waits", "peak_mib"),
    }
    for part, names in columns.items():
        table = Table(*names, title=f"{part} ({result['device']})", title_justify="left")
        for row in result[part]:
            table.add_row(*(f"{row[name]:,.4g}" if isinstance(row[name], float) else str(row[name]) for name in names))
        console.print(table)
    if result["left_out"]:
        console.print(f"left out, as {result['settings']['minutes']:g} minutes were over: {'; '.join(result['left_out'])}")


def main(line: list[str] | None = None) -> None:
    """Measure, print, write."""
    asked, console = arguments(line), Console(width=150)
    if not torch.cuda.is_available():
        sys.exit(
            f"error: benchmarks.gpu measures a GPU, and torch {torch.__version__} sees none here. Start it on a machine with "
            "one, with a build of torch for it; benchmarks.training and benchmarks.inference measure a CPU."
        )
    quieten()
    show(measure(asked, "cuda", console), console)
    console.print(f"file: {asked.results}")


if __name__ == "__main__":
    main()
