"""ONNX: a ranker as a graph over padded batches, of any number and length, logits out; and on ONNX Runtime, on CPUs.

OpenVINO's graphs are made of these, and take the same batches.
"""

import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.data.records import Pair
from rankdistil.inference.export_files import WEIGHTS, require_one_logit, require_weights
from rankdistil.inference.packed import Dense, InferenceRanker, cut
from rankdistil.models.bert import CrossEncoder, embed, encode, score
from rankdistil.models.families import max_positions
from rankdistil.models.layout import HIDDEN, Padded
from rankdistil.words import require

Inputs = dict[str, NDArray[np.int64]]
"""What the graphs take: ``input_ids``, ``attention_mask`` and, of networks with types, ``token_type_ids``, (B, T) each."""

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def input_names(ranker: CrossEncoder) -> tuple[str, ...]:
    """Name what the graph of a ranker takes: no token types where there is but one."""
    types = ranker.encoder.types
    return NAMES if types is not None and types.num_embeddings > 1 else NAMES[:2]


def padded_batches(
    first: Segment, second: Segment, encoder: PairEncoder, budget: int, multiple: int = 1, names: Collection[str] = NAMES
) -> Iterator[Inputs]:
    """Yield batches of pairs that are given in ascending order of length.

    Args:
        first: queries.
        second: passages, as many.
        encoder: lays them out.
        budget: tokens of a batch, padding included.
        multiple: of which batches have lengths, up to the longest that the encoder makes, so that there are few of them.
        names: the inputs that the graph takes.
    """
    lengths = -(-(first.lengths + second.lengths + encoder.layout.special) // multiple) * multiple
    lengths = np.minimum(lengths, encoder.max_length)
    sizes, last = cut(lengths, budget, padded=True), -1
    fill = encoder.pad, 0, 0
    for size, *pair in zip(sizes, first.parts(sizes), second.parts(sizes), strict=True):
        last += size
        arrays = [part.numpy() for part in encoder.assemble(*pair)]
        wider = (0, 0), (0, int(lengths[last]) - arrays[0].shape[1])
        padded = (np.pad(array, wider, constant_values=value) for array, value in zip(arrays, fill, strict=True))
        yield {name: array for name, array in zip(NAMES, padded, strict=True) if name in names}


def text_batches(pairs: Sequence[Pair], encoder: PairEncoder, budget: int, names: Collection[str] = NAMES) -> list[Inputs]:
    """Tokenise pairs and lay them out in batches, in the order of their lengths.

    Args:
        pairs: texts.
        encoder: gives the tokens.
        budget: tokens of a batch, padding included.
        names: the inputs that the graph takes.
    """
    texts = [pair.query for pair in pairs], [pair.passage for pair in pairs]
    first, second = encoder.cut(*map(encoder.segment, texts))
    order = (first.lengths + second.lengths).argsort(kind="stable")
    return list(padded_batches(first.take(order), second.take(order), encoder, budget, names=names))


class PaddedRanker(InferenceRanker):
    """A ranker for padded batches, to be exported.

    Args:
        ranker: in float32, with one logit.
    """

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__(ranker.encoder, Dense)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Score a batch, (B, T) each, of token type 0 where none are given; returns logits, (B, 1)."""
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        rows = embed(self.encoder, input_ids, token_type_ids, positions)
        mask = (1 - attention_mask[:, None, None].to(rows.dtype)) * HIDDEN
        return score(self.encoder, encode(self.encoder, rows.flatten(0, 1), Padded(*input_ids.shape, mask))[0])


BUDGET = 1024  # tokens of a batch, which stay in a CPU's cache


class OnnxNetwork:
    """Scores padded batches.

    Args:
        file: the graph.
        encoder: lays out its pairs.
        precision: of the graph.
        weights: tells of which weights it has to be made; None takes any.

    Raises:
        ValueError: if the package isn't installed, or the graph is of other weights.
    """

    def __init__(self, file: Path, encoder: PairEncoder, precision: str, weights: str | None = None) -> None:
        runtime = require("onnxruntime", f"backend=onnx ({file})", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # it would keep a plan of memory for each shape, and no two batches are of one
        self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        require_weights(file, self._session.get_modelmeta().custom_metadata_map.get(WEIGHTS), weights)
        require_one_logit(file, [output.shape for output in self._session.get_outputs()])
        self._encoder, self._names = encoder, {given.name for given in self._session.get_inputs()}
        self.device, self.precision, self.budget = torch.device("cpu"), precision, BUDGET

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
