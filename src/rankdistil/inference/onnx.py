"""ONNX: a ranker as a graph, pairs of any number and length in, logits out; and on ONNX Runtime, on CPUs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.files import require
from rankdistil.inference.export_files import WEIGHTS, require_one_logit, require_weights
from rankdistil.inference.padded import PaddedRanker, input_names, padded_batches
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.families import max_positions

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
        self._encoder, self._names = encoder, {given.name for given in self._session.get_inputs()}
        self.device, self.precision, self.budget = torch.device("cpu"), precision, budget

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,)."""
        batches = padded_batches(first, second, self._encoder, self.budget, names=self._names)
        return np.concatenate([self._session.run(None, batch)[0][:, 0] for batch in batches])


OPSET = 18  # the lowest that torch writes without converting; old runtimes read it


def write_onnx(ranker: CrossEncoder, file: Path, weights: str) -> None:
    """Write a ranker in float32, as one file.

    Args:
        ranker: with one logit.
        file: its folder is made.
        weights: tells of which weights the graph is made; written into it.

    Raises:
        ValueError: if a package is missing.
    """
    for package in ("onnx", "onnxscript"):
        require(package, f"to=onnx ({file.name})", "onnx")
    file.parent.mkdir(parents=True, exist_ok=True)
    names = input_names(ranker)
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)  # one tensor three times would be one input
    sizes = {0: Dim("batch"), 1: Dim("length", max=max_positions(ranker.config))}
    with _quiet(), torch.random.fork_rng(devices=[]):
        program = torch.onnx.export(
            PaddedRanker(ranker), example, dynamo=True, dynamic_shapes=(sizes,) * len(names),
            input_names=names, output_names=["logits"], opset_version=OPSET, verbose=False,
        )  # fmt: skip
        program.model.metadata_props[WEIGHTS] = weights
        program.save(file, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice of the libraries to each other; errors still show."""
    root = logging.getLogger()
    before = root.level, logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(before[0])
            logging.getLogger("torch.onnx").setLevel(before[1])
