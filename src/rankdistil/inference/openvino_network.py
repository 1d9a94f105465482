"""A ranker on OpenVINO, on CPUs."""

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder
from rankdistil.inference.exported import WEIGHT_BITS, WEIGHTS, require_exact, require_one_logit, require_weights
from rankdistil.inference.openvino_runtime import load_openvino, openvino_core
from rankdistil.inference.padded import padded_batches
from rankdistil.inference.processor import LEVELS, require_bfloat16

BUDGET = 1024  # tokens of a batch, which stay in a CPU's cache
MULTIPLE = 8  # the runtime prepares itself for every new shape, in 8 bits for as long as it then computes
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # left alone, the runtime takes bfloat16 where the CPU has it


class OpenVinoNetwork:
    """Scores padded batches, one on each thread.

    Args:
        file: the graph.
        encoder: lays out its pairs.
        precision: ``float32`` or ``bfloat16`` of a graph in float32, or ``int8``, which the graph holds.
        weights: tells of which weights it has to be made; None takes any.
        budget: tokens of a batch, padding included.

    Raises:
        ValueError: if the package isn't installed, the CPU can't compute the precision, or the graph is of other weights.
    """

    def __init__(
        self, file: Path, encoder: PairEncoder, precision: str, weights: str | None = None, budget: int = BUDGET
    ) -> None:
        openvino = load_openvino(f"backend=openvino ({file})")
        core, threads = openvino_core(), torch.get_num_threads()
        if precision == "bfloat16":
            require_bfloat16("dtype=bfloat16", "dtype=float32 or int8")
        graph = core.read_model(file)
        require_weights(file, _entry(graph, WEIGHTS), weights)
        if precision == "int8":
            self.weight_bits = int(_entry(graph, WEIGHT_BITS) or max(LEVELS))
            require_exact(file, self.weight_bits)
        require_one_logit(file, [_sizes(output) for output in graph.outputs])
        settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        self._queue = openvino.AsyncInferQueue(core.compile_model(graph, "CPU", settings), threads)
        self._queue.set_callback(_keep)
        self._calls = Lock()  # a service calls from several threads
        self._encoder = encoder
        self.device, self.precision, self.budget = torch.device("cpu"), precision, budget

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,)."""
        found: dict[int, NDArray[np.float32]] = {}
        with self._calls:
            for number, batch in enumerate(padded_batches(first, second, self._encoder, self.budget, MULTIPLE)):
                self._queue.start_async(batch, (found, number))
            self._queue.wait_all()
        return np.concatenate([found[number] for number in sorted(found)])


def _entry(graph: Any, name: str) -> str | None:
    return graph.get_rt_info(name).value if graph.has_rt_info(name) else None


def _sizes(output: Any) -> list[int]:
    return [axis.get_length() if axis.is_static else -1 for axis in output.partial_shape]


def _keep(request: Any, place: tuple[dict[int, NDArray[np.float32]], int]) -> None:
    found, number = place
    found[number] = request.get_output_tensor().data[:, 0].copy()  # the runtime reuses its memory
