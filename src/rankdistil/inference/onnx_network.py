"""A ranker on ONNX Runtime, on CPUs."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder
from rankdistil.data.extras import require
from rankdistil.inference.padded import padded_batches

BUDGET = 1024  # tokens of a batch, which stay in a CPU's cache


class OnnxNetwork:
    """Scores padded batches.

    Args:
        file: the graph.
        encoder: lays out its pairs.
        precision: of the graph.
        parameters: weights of the ranker, for records.
        budget: tokens of a batch, padding included.

    Raises:
        ValueError: if the package isn't installed.
    """

    def __init__(self, file: Path, encoder: PairEncoder, precision: str, parameters: int, budget: int = BUDGET) -> None:
        runtime = require("onnxruntime", f"backend=onnx ({file})", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._encoder = encoder
        self.device, self.precision, self.parameters, self.budget = torch.device("cpu"), precision, parameters, budget

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,)."""
        batches = padded_batches(first, second, self._encoder, self.budget)
        return np.concatenate([self._session.run(None, batch)[0][:, 0] for batch in batches])
