"""A ranker as an OpenVINO graph, in float32 and in 8 bits."""

import io
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from rankdistil.inference.exported import WEIGHT_BITS, WEIGHTS
from rankdistil.inference.openvino_runtime import load_nncf, load_openvino, openvino_core
from rankdistil.inference.padded import Inputs
from rankdistil.inference.processor import LEVELS, weight_bits

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


def write_openvino_int8(source: Path, file: Path, batches: Sequence[Inputs], weights: str) -> None:
    """Quantise an OpenVINO graph to 8 bits, weights and activations, with scales found on real batches.

    Weights get 7 bits where this processor sums pairs of products in 16; such a graph is exact everywhere.

    Args:
        source: the graph in float32.
        file: ``.xml``; the weights go beside it, into ``.bin``.
        batches: what the graph is run on to find the ranges of its activations.
        weights: see ``write_openvino``.

    Raises:
        ValueError: if a package isn't installed.
    """
    openvino, nncf = load_openvino(f"to=int8 ({file.name})"), load_nncf(f"to=int8 ({file.name})")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    bits = weight_bits() or min(LEVELS)
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
