"""OpenVINO: a ranker as a graph in float32 and in 8 bits, and on its runtime, on CPUs."""

import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.inference.export_files import WEIGHT_BITS, WEIGHTS, require_exact, require_one_logit, require_weights
from rankdistil.inference.machine import LEVELS, LIMITS, require_bfloat16
from rankdistil.inference.onnx import Inputs, padded_batches
from rankdistil.words import require

TELEMETRY = "openvino_telemetry"  # sends usage to a web service as soon as openvino or nncf is imported; both do without it


def load_openvino(what: str) -> ModuleType:
    """Import openvino.

    Args:
        what: needs it, for the message.

    Raises:
        ValueError: if it isn't installed.
    """
    return _silent("openvino", what)


def load_nncf(what: str) -> ModuleType:
    """Import nncf, OpenVINO's quantiser; see ``load_openvino``."""
    return _silent("nncf", what)


@cache
def openvino_core() -> Any:
    """Return this process's only ``openvino.Core``.

    A core puts a signal stack of its own in place and, when it goes, the one that it found. Two that don't go in the opposite
    order leave a stack that is gone, and the next signal with a handler (Ctrl-C) ends the process; so one is made, and stays.
    Its CPU plugin is loaded without the limits that are set for oneDNN: OpenVINO's own kernels don't heed them, and a graph of
    both, each for another processor, ends the process (2026.4, SmoothQuant's statistics on a processor with AVX-512).
    """
    core = load_openvino("backend=openvino").Core()
    held = {name: os.environ.pop(name) for name in LIMITS if name in os.environ}
    try:
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    finally:
        os.environ.update(held)
    return core


def _silent(name: str, what: str) -> ModuleType:
    sys.modules.setdefault(TELEMETRY, None)
    return require(name, what, "openvino")


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

    Raises:
        ValueError: if the package isn't installed, the CPU can't compute the precision, or the graph is of other weights.
    """

    def __init__(self, file: Path, encoder: PairEncoder, precision: str, weights: str | None = None) -> None:
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
        self._encoder, self._names = encoder, {name for given in graph.inputs for name in given.get_names()}
        self.device, self.precision, self.budget = torch.device("cpu"), precision, BUDGET

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,)."""
        found: dict[int, NDArray[np.float32]] = {}
        with self._calls:
            batches = padded_batches(first, second, self._encoder, self.budget, MULTIPLE, self._names)
            for number, batch in enumerate(batches):
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


SMOOTHING = 0.85  # SmoothQuant's alpha (arXiv 2211.10438): of 0.6 to 0.95 it kept the orders of three trained rankers best


def write_openvino(source: Path, file: Path, weights: str) -> None:
    """Convert an ONNX graph.

    Args:
        source: the ONNX graph, in float32.
        file: ``.xml``; the weights go beside it, into ``.bin``.
        weights: tells of which weights the graph is made; written into it.

    Raises:
        ValueError: if the package isn't installed.
    """
    openvino = load_openvino(f"to=openvino ({file.name})")
    file.parent.mkdir(parents=True, exist_ok=True)
    graph = openvino.convert_model(source)
    graph.set_rt_info(weights, WEIGHTS)
    openvino.save_model(graph, file, compress_to_fp16=False)


def write_openvino_int8(source: Path, file: Path, batches: Sequence[Inputs], weights: str, bits: int) -> None:
    """Quantise an OpenVINO graph to 8 bits, weights and activations, with scales found on real batches.

    Scales are fixed, so that no score depends on its neighbours in a batch.

    Args:
        source: the graph in float32.
        file: ``.xml``; the weights go beside it, into ``.bin``.
        batches: what the graph is run on to find the ranges of its activations.
        weights: see ``write_openvino``.
        bits: of its weights: 8, or 7, with which a graph is exact on processors, too, that sum two products in 16 bits.

    Raises:
        ValueError: if a package isn't installed.
    """
    openvino, nncf = load_openvino(f"to=int8 ({file.name})"), load_nncf(f"to=int8 ({file.name})")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    overflow = nncf.OverflowFix.DISABLE if bits == max(LEVELS) else nncf.OverflowFix.ENABLE
    with redirect_stdout(io.StringIO()):  # its progress bars
        graph = nncf.quantize(
            openvino_core().read_model(source), nncf.Dataset(batches), subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER, advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=overflow, smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING)
            ),
        )  # fmt: skip
    graph.set_rt_info(weights, WEIGHTS)
    graph.set_rt_info(str(bits), WEIGHT_BITS)
    openvino.save_model(graph, file, compress_to_fp16=False)
