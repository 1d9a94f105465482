"""Measures the memory of scoring many pairs from an iterator, in a process of its own. Prints it as JSON.

python -m benchmarks.reranking_memory [--model tiny] [--pairs 1000000] [--dtype float32]
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.candidates import draw
from benchmarks.machine import memory
from benchmarks.rankers import SIZES, TOKENIZER, prepare
from rankdistil import Reranker
from rankdistil.inference.engine import CHUNK
from rankdistil.models.checkpoints import load_tokenizer

TEXTS = 5000  # drawn once and scored again and again: the process's own memory is what is measured


def main() -> None:
    """Score the candidates of one query, then all pairs; print resident memory in MiB after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reranking_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000, help="to score (default: %(default)s)")
    parser.add_argument("--model", default="tiny", help=f"one of {', '.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="of the ranker (default: %(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        ranker = Reranker(str(prepare(asked.model, Path(place), seed=0).folder), device="cpu", dtype=asked.dtype)
    tokenizer = load_tokenizer(TOKENIZER)
    query, passages = draw(tokenizer, TEXTS, seed=0)
    found = {"loaded": memory()}
    ranker.rerank(query, passages[:1000])
    found["1000 candidates"] = memory()

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(asked.pairs):
            if number == 2 * CHUNK:
                found[f"{number} pairs"] = memory()
            yield query, passages[number % TEXTS]

    scores = ranker.score(pairs())
    found[f"{len(scores)} pairs"] = memory()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
