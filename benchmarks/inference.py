"""Measures strings to scores beside sentence-transformers, interleaved, on one core. Prints and writes it.

python -m benchmarks.inference --results <folder> [--models 4l,6l,12l] [--backends onnx,openvino] [--peer-python <python>]
"""

import argparse
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig

from benchmarks.candidates import BATCH, draw, sample, whole_batches
from benchmarks.limits import gflop, limits
from benchmarks.machine import describe
from benchmarks.peers import PEER, Pairs, Scoring, in_process, on_openvino, timed
from benchmarks.rankers import MOST_TOKENS, TOKENIZER, Measured, prepare
from rankdistil import Reranker
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.files import write_json
from rankdistil.inference.export_files import find_exported, precisions, weights
from rankdistil.inference.machine import Meter, computes_bfloat16, shown_share
from rankdistil.inference.onnx import text_batches
from rankdistil.inference.packed import PRECISIONS
from rankdistil.inference.write_graphs import write_graphs
from rankdistil.metrics.comparing import kendall_tau
from rankdistil.models.checkpoints import load_tokenizer

NARROW = 400  # up to this width every 4th batch of the candidates is timed, above every 16th
CALIBRATION = 64  # pairs that 8-bit ranges are found on
SINGLE = 100  # candidates of the query that is timed alone
TARGETS = {
    "4l": {"float32": 1.4, "bfloat16": 2.4, "int8": 3.0, "openvino int8": 3.5},
    "6l": {"float32": 1.4, "bfloat16": 2.7, "int8": 4.2, "openvino int8": 5.3},
    "12l": {"float32": 1.2, "bfloat16": 2.3, "int8": 4.0},
}
SINGLE_TARGETS = {"4l": {"int8": 4.0}, "6l": {"int8": 5.5}}


class Variant(NamedTuple):
    """One way to score, of one ranker, on one list of pairs.

    Attributes:
        model: the ranker.
        name: the way.
        pairs: what is scored: many, or the candidates of one query.
        scoring: gives scores and CPU seconds.
        gflop: the work that this way has to do.
        single: whether the pairs are those of one query.
    """

    model: str
    name: str
    pairs: Pairs
    scoring: Scoring
    gflop: float
    single: bool


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder that inference.json is written to")
    parser.add_argument("--models", default="4l,6l,12l", help="sizes, or folders of exports (default: %(default)s)")
    parser.add_argument("--backends", default="", help="further runtimes: onnx,openvino")
    parser.add_argument("--peer-python", type=Path, help="of an environment with sentence-transformers[openvino]")
    parser.add_argument("--passages", type=int, default=1000, help="candidates of a query (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, help="id<TAB>text: real passages, in place of drawn words")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of texts and weights (default: %(default)s)")
    return parser.parse_args(line)


def ways(measured: Measured, asked: argparse.Namespace, texts: list[str], stack: ExitStack) -> dict[str, Scoring]:
    """Load a ranker in every way that is compared.

    Args:
        measured: the ranker.
        asked: the command line.
        texts: a query and passages, which 8-bit ranges are found on.
        stack: ends other processes.
    """
    folder, backends = measured.folder, [each for each in asked.backends.split(",") if each]
    found = in_process(folder)
    if asked.peer_python:
        own = shutil.copytree(folder, folder.with_name(f"{folder.name}.peer"))  # without our graph it writes its own
        found[f"{PEER} openvino"] = stack.enter_context(on_openvino(asked.peer_python, own))
    found |= {precision: timed(Reranker(str(folder), device="cpu", dtype=precision).score) for precision in computed()}
    if backends:
        encoder = PairEncoder(load_tokenizer(TOKENIZER), MOST_TOKENS)
        pairs = [Pair("", "", texts[0], passage) for passage in texts[1:]]
        write_graphs(measured.ranker, [*backends, "int8"], folder, text_batches(pairs, encoder, 1024), weights(folder))
    for backend in backends:
        for precision in [each for each in precisions(backend) if each in computed()]:
            found[f"{backend} {precision}"] = timed(Reranker(str(folder), "cpu", precision, backend).score)
    if asked.peer_python and "openvino" in backends:
        graph = find_exported(str(folder), "openvino", "int8").name
        found[f"{PEER}, our openvino int8"] = stack.enter_context(on_openvino(asked.peer_python, folder, graph))
    return found


def computed() -> list[str]:
    """List the precisions that this processor computes by itself."""
    lacking = {"bfloat16"} if not computes_bfloat16() else set()
    return [precision for precision in PRECISIONS if precision not in lacking]


def interleaved(variants: list[Variant], rounds: int, console: Console) -> list[list[float]]:
    """Return the CPU seconds of each turn of each variant; a first turn isn't counted."""
    taken: list[list[float]] = [[] for _ in variants]
    for turn in range(rounds + 1):
        console.print(f"turn {turn} of {rounds}" if turn else f"warm-up of {len(variants)} variants")
        for variant, seconds in zip(variants, taken, strict=True):
            _, each = variant.scoring(variant.pairs)
            if turn:
                seconds.append(each)
    return taken


def variants_of(
    measured: Measured, asked: argparse.Namespace, query: str, passages: list[str], stack: ExitStack
) -> list[Variant]:
    """Return all ways of a ranker, on many pairs and on those of one query."""
    config = measured.ranker.config
    scorings = ways(measured, asked, [query, *passages[-CALIBRATION:]], stack)
    lists = {
        False: [(query, text) for text in whole_batches(passages, 4 if config.hidden_size <= NARROW else 16)],
        True: [(query, text) for text in passages[:SINGLE]],
    }
    work = {single: _work(config, pairs) for single, pairs in lists.items()}
    return [
        Variant(measured.name, name, pairs, scoring, work[single][not name.startswith(PEER)], single)
        for single, pairs in lists.items()
        for name, scoring in scorings.items()
    ]


def rows_of(variants: list[Variant], taken: list[list[float]], most: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row of each variant: its rate, and over the peer, over the limit, over the largest ranker."""
    middle = {(each.model, each.name, each.single): float(np.median(row)) for each, row in zip(variants, taken, strict=True)}
    scores = {(each.model, each.name): np.array(each.scoring(each.pairs)[0]) for each in variants if each.single}
    largest = max(variants, key=lambda each: each.gflop if each.single else 0).model
    rows = []
    for each, seconds in zip(variants, taken, strict=True):
        own = middle[each.model, each.name, each.single]
        arithmetic = next((name for name in PRECISIONS if name in each.name), "float32")
        targets = (SINGLE_TARGETS if each.single else TARGETS).get(each.model, {})
        rows.append(
            {
                "model": each.model, "variant": each.name, "single_query": each.single, "pairs": len(each.pairs),
                "passages_per_core_s": len(each.pairs) / own, "least": len(each.pairs) / max(seconds),
                "most": len(each.pairs) / min(seconds), "over_peer": middle[each.model, PEER, each.single] / own,
                "over_largest": middle[largest, each.name, True] / own if each.single else None,
                "of_limit": None if PEER in each.name and "openvino" in each.name else each.gflop / own / most[arithmetic],
                "target": targets.get(each.name), **_agreement(scores[each.model, each.name], scores[each.model, PEER]),
            }
        )  # fmt: skip
    return rows


def _work(config: BertConfig, pairs: Pairs) -> dict[bool, float]:
    """Count the GFLOP of pairs, with a last layer for [CLS] only (True) and without."""
    texts = load_tokenizer(TOKENIZER)(
        [query for query, _ in pairs], [text for _, text in pairs], truncation=True, max_length=MOST_TOKENS
    )
    tokens = np.array([len(row) for row in texts["input_ids"]])
    return {own: gflop(config, tokens, last_for_first=own) for own in (False, True)}


def _agreement(scores: np.ndarray, peer: np.ndarray) -> dict[str, float | None]:
    """Compare scores with the peer's: the largest difference, and Kendall's tau."""
    own, other = ({"q": [str(place) for place in (-row).argsort(kind="stable")]} for row in (scores, peer))
    return {
        "largest_difference": float(abs(scores - peer).max()),
        "spread": float(peer.std()),
        "tau": kendall_tau(other, own),
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    table = Table(
        "model", "pairs", "variant", "passages/s", "least", "most", "over s.-t.", "of limit", "over largest", "largest diff.",
        "tau", "target", title="Passages per core-second, strings to scores", title_justify="left",
    )  # fmt: skip
    for row in result["rows"]:
        target = row["target"]
        reached = "" if target is None else f">= {target:g}x {'reached' if row['over_peer'] >= target else 'missed'}"
        table.add_row(
            Path(row["model"]).name, f"1 x {row['pairs']}" if row["single_query"] else str(row["pairs"]), row["variant"],
            *(f"{row[key]:,.1f}" for key in ("passages_per_core_s", "least", "most")), f"{row['over_peer']:.2f}x",
            "" if row["of_limit"] is None else f"{row['of_limit']:.0%}",
            "" if row["over_largest"] is None else f"{row['over_largest']:.2f}x", f"{row['largest_difference']:.1e}",
            f"{row['tau']:.3f}", reached,
        )  # fmt: skip
    console.print(table)
    most = ", ".join(f"{name} {value:,.0f}" for name, value in result["limits_gflops"].items())
    used = f"{shown_share(result['used_by_others'])} of the cores used by others"
    console.print(f"limit of one core in GFLOP/s: {most}; {result['machine']['processor']}; {used}")


def main() -> None:
    """Measure, print, write."""
    asked, console = arguments(), Console(width=170)
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    others, most, tokenizer = Meter(), limits(), load_tokenizer(TOKENIZER)
    query, passages = (
        draw(tokenizer, asked.passages, asked.seed)
        if asked.corpus is None
        else sample(asked.corpus, tokenizer, asked.passages, asked.seed)
    )
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        models = [prepare(name, Path(place), asked.seed) for name in asked.models.split(",")]
        variants = [each for model in models for each in variants_of(model, asked, query, passages, stack)]
        rows = rows_of(variants, interleaved(variants, asked.rounds, console), most)
    result = {
        "machine": describe(), "limits_gflops": most, "rows": rows,
        "parameters": {each.name: sum(value.numel() for value in each.ranker.parameters()) for each in models},
        "used_by_others": others.share(), "texts": asked.corpus.name if asked.corpus else "drawn", "passages": asked.passages,
        "rounds": asked.rounds, "seed": asked.seed, "batch_of_peer": BATCH,
    }  # fmt: skip
    show(result, console)
    asked.results.mkdir(parents=True, exist_ok=True)
    write_json(asked.results / "inference.json", result)
    console.print(f"files: {asked.results}/inference.json")


if __name__ == "__main__":
    main()
