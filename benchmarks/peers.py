"""sentence-transformers, as it comes and with its fastest settings: what a ranker is measured beside."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.candidates import BATCH
from rankdistil.inference.machine import computes_bfloat16

PEER = "sentence-transformers"
Pairs = list[tuple[str, str]]
Scoring = Callable[[Pairs], tuple[list[float], float]]
"""Scores pairs; returns the scores and the CPU seconds that they took."""


def timed(score: Callable[[Pairs], list[float]]) -> Scoring:
    """Measure the CPU seconds of this process."""

    def scoring(pairs: Pairs) -> tuple[list[float], float]:
        start = time.process_time()
        return score(pairs), time.process_time() - start

    return scoring


def in_process(folder: Path) -> dict[str, Scoring]:
    """Load an export in float32, which is the default, and in bfloat16 where the processor computes it by itself."""
    from sentence_transformers import CrossEncoder

    def score(ranker: CrossEncoder) -> Scoring:
        return timed(lambda pairs: ranker.predict(pairs, batch_size=BATCH, show_progress_bar=False).tolist())

    found = {PEER: score(CrossEncoder(str(folder), device="cpu"))}
    if computes_bfloat16():
        faster = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
        found[f"{PEER} bfloat16"] = score(faster)
    return found


@contextmanager
def on_openvino(python: Path, folder: Path, graph: str | None = None) -> Iterator[Scoring]:
    """Start the peer on OpenVINO, in an environment of its own: its versions don't fit into ours.

    Args:
        python: interpreter of an environment with ``sentence-transformers[openvino]``.
        folder: export. Without a graph the peer converts it by itself, and the runtime takes the CPU's fastest precision.
        graph: file in the export's ``openvino`` to load instead.
    """
    settings = {"ov_config": {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}} | ({"file_name": graph} if graph else {})
    line = [python, Path(__file__).with_name("peer_process.py"), folder, json.dumps(settings)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def answer() -> str:
            while text := process.stdout.readline():
                if text.startswith(("[", "ready")):  # its libraries print, too
                    return text
            raise RuntimeError(f"{python} ended without an answer: is sentence-transformers[openvino] installed there?")

        def scoring(pairs: Pairs) -> tuple[list[float], float]:
            file = folder.with_name(f"{folder.name}.pairs.json")
            file.write_text(json.dumps(pairs), encoding="utf-8")
            process.stdin.write(f"{file}\n")
            process.stdin.flush()
            scores, seconds = json.loads(answer())
            return scores, seconds

        answer()
        yield scoring
        process.stdin.close()
