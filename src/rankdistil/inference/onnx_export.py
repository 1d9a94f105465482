"""A ranker as an ONNX graph: pairs of any number and length in, logits out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import Dim

from rankdistil.data.extras import require
from rankdistil.inference.exported import WEIGHTS
from rankdistil.inference.padded import NAMES
from rankdistil.inference.padded_ranker import PaddedRanker
from rankdistil.models.bert import CrossEncoder

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
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in NAMES)  # one tensor three times would be one input
    sizes = {0: Dim("batch"), 1: Dim("length", max=ranker.config.max_position_embeddings)}
    with _quiet(), torch.random.fork_rng(devices=[]):
        program = torch.onnx.export(
            PaddedRanker(ranker), example, dynamo=True, dynamic_shapes=(sizes,) * len(NAMES),
            input_names=NAMES, output_names=["logits"], opset_version=OPSET, verbose=False,
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
