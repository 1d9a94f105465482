"""A ranker on ONNX Runtime, on CPUs."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder
from rankdistil.data.extras import require
from rankdistil.inference.exported import WEIGHTS, require_one_logit, require_weights
from rankdistil.inference.padded import padded_batches

BUDGET = 1024  # tokens of a batch, which stay in a CPU's cache


class OnnxNetwork:
    """Scores padded batches.

    Args:
        file: the graph.
        encoder: lays out its pairs.
        precision: of the graph.
        weights: tells of which weights it has to be made; None takes any.
        budget: tokens of a batch, padding included.

    Raises:
        ValueError: if the package isn't installed, or the graph is of other weights.
    """

    def __init__(
        self, file: Path, encoder: PairEncoder, precision: str, weights: str | None = None, budget: int = BUDGET
    ) -> None:
        runtime = require("onnxruntime", f"backend=onnx ({file})", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        require_weights(file, self._session.get_modelmeta().custom_metadata_map.get(WEIGHTS), weights)
        require_one_logit(file, [output.shape for output in self._session.get_outputs()])
        self._encoder = encoder
        self.device, self.precision, self.budget = torch.device("cpu"), precision, budget

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,)."""
        batches = padded_batches(first, second, self._encoder, self.budget)
        return np.concatenate([self._session.run(None, batch)[0][:, 0] for batch in batches])
