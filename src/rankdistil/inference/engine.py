"""Engine of inference: strings to scores, on torch or on a runtime that reads an exported graph."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.data.records import Pair
from rankdistil.inference.export_files import find_exported, weights
from rankdistil.inference.machine import require_bfloat16
from rankdistil.inference.packed import PackedBatch, PackedRanker, cut, pack
from rankdistil.metrics.timing import Sample
from rankdistil.models.bert import CrossEncoder

CHUNK = 1 << 13  # pairs that are tokenised and sorted at a time: memory stays flat, however many there are


class _Threads:
    """Threads that compute, torch's or a runtime's. A forked process hasn't got them, and would wait for them for ever.

    Attributes: of: the process that has them, once it has loaded a ranker; lost: this process was forked from that one.
    """

    of, lost = 0, False


def _note_fork() -> None:
    _Threads.lost = _Threads.lost or _Threads.of != 0


os.register_at_fork(after_in_child=_note_fork)


def require_threads() -> None:
    """See that this process can load rankers, and compute their scores.

    Raises:
        RuntimeError: if it was forked from one that has loaded one, and computes in several threads.
    """
    if _Threads.lost:
        raise RuntimeError(
            f"process {os.getpid()} was forked from {_Threads.of}, which had loaded a ranker: it lacks the threads that "
            "compute, and would wait for them for ever. Load rankers behind the fork only; or start processes by spawn or "
            "forkserver (multiprocessing.get_context('spawn')); or set OMP_NUM_THREADS=1."
        )
    if torch.get_num_threads() > 1:
        _Threads.of = os.getpid()


class Network(Protocol):
    """Scores pairs that are given in ascending order of length; several threads may ask at once.

    Attributes:
        budget: tokens of a batch.
    """

    budget: int

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs of queries and passages, (B,)."""
        ...


class Tokens(NamedTuple):
    """Pairs as the network reads them.

    Attributes:
        first: queries.
        second: passages, or windows of documents, those of one behind the other, with the query beside each.
        counts: windows of each document, (N,); None where each pair is of a whole passage.
    """

    first: Segment
    second: Segment
    counts: NDArray[np.int64] | None = None

    @classmethod
    def joined(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Put the pairs of several behind each other."""
        *sides, counts = zip(*parts, strict=True)
        segments = (Segment(*(np.concatenate(each) for each in list(zip(*side, strict=True))[:2])) for side in sides)
        return cls(*segments, None if counts[0] is None else np.concatenate(counts))

    def lengths(self, special: int) -> NDArray[np.int64]:
        """Return the tokens of each pair, ``special`` ones added, (N,); of a document those of all its windows."""
        each = self.first.lengths + self.second.lengths + special
        return each if self.counts is None else np.add.reduceat(each, self.counts.cumsum() - self.counts)

    def take(self, rows: NDArray[np.int64]) -> "Tokens":
        """Take some pairs, (M,), with all of their windows."""
        if self.counts is None:
            return Tokens(self.first.take(rows), self.second.take(rows))
        counts = self.counts[rows]
        shift = (self.counts.cumsum() - self.counts)[rows] - (counts.cumsum() - counts)
        windows = np.arange(counts.sum()) + np.repeat(shift, counts)
        return Tokens(self.first.take(windows), self.second.take(windows), counts)


class Engine:
    """Scores pairs: tokenises each text once, without padding, and hands the pairs over in the order of their lengths.

    Args:
        network: gives the scores.
        encoder: gives the token ids.
        ahead: tokenises in a thread while a GPU scores what is tokenised; on a CPU the two would be in each other's way.
    """

    def __init__(self, network: Network, encoder: PairEncoder, ahead: bool = False) -> None:
        self.network, self.encoder, self._ahead = network, encoder, ahead
        self._chunk = CHUNK if encoder.windows is None else max(CHUNK // encoder.windows.read, 1)

    def score(self, pairs: Sequence[Pair]) -> tuple[list[float], Sample]:
        """Score pairs.

        Returns:
            Logits in the order of the pairs (of a document in windows what theirs are united to), and the seconds spent on
            tokenising, or on waiting for it, and in the network.

        Raises:
            RuntimeError: in a process that was forked from one that has loaded a ranker.
        """
        require_threads()
        scores, tokenising, scoring = np.empty(len(pairs), np.float32), 0.0, 0.0
        start = time.perf_counter()
        for at, tokens in zip(range(0, len(pairs), self._chunk), self._tokenised(pairs), strict=True):
            tokenised = time.perf_counter()
            scores[at : at + self._chunk] = self.score_tokens(tokens)
            ended = time.perf_counter()
            tokenising, scoring, start = tokenising + tokenised - start, scoring + ended - tokenised, ended
        return scores.tolist(), Sample(tokenising, scoring)

    def _tokenised(self, pairs: Sequence[Pair]) -> Iterator[Tokens]:
        """Tokenise chunk by chunk; where that is done ahead, the next one while this one is scored."""
        chunks = (pairs[at : at + self._chunk] for at in range(0, len(pairs), self._chunk))
        if not self._ahead or len(pairs) <= self._chunk:
            yield from map(self.tokens, chunks)
            return
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(self.tokens, next(chunks))
            for chunk in chunks:
                found, asked = asked, beside.submit(self.tokens, chunk)
                yield found.result()
            yield asked.result()

    def tokens(self, pairs: Sequence[Pair]) -> Tokens:
        """Tokenise queries and passages of pairs, cut to what fits; a query that stands in many pairs is tokenised once."""
        place = {text: number for number, text in enumerate(dict.fromkeys(pair.query for pair in pairs))}
        asked = np.fromiter((place[pair.query] for pair in pairs), np.int64, len(pairs))
        texts = self.encoder.segment(list(place)).take(asked), self.encoder.segment([pair.passage for pair in pairs])
        return Tokens(*self.encoder.windowed(*texts))

    def score_tokens(self, tokens: Tokens) -> NDArray[np.float32]:
        """Score tokenised pairs in any order, (N,)."""
        first, second, counts = tokens
        order = (first.lengths + second.lengths).argsort(kind="stable")
        scores = np.empty(len(order), np.float32)
        scores[order] = self.network(first.take(order), second.take(order))
        return scores if counts is None else self.encoder.windows.unite(scores, counts)


BUDGET = {"cpu": 1024, "cuda": 32_768}  # tokens of a batch: what fits a CPU's cache, and what fills a GPU


class TorchNetwork:
    """Scores packed batches.

    Args:
        ranker: moved to the device.
        encoder: says where special tokens go.
        device: where it runs.
        precision: see ``PackedRanker``.
        budget: tokens of a batch; by default what suits the device.
        weight_bits: of int8, see ``Int8Linear``.
        fused: pairs attend in one padded batch, see ``PackedBatch``; by default everywhere but on a CPU.

    Raises:
        ValueError: for a precision that the device can't compute.
    """

    def __init__(
        self,
        ranker: CrossEncoder,
        encoder: PairEncoder,
        device: torch.device,
        precision: str = "float32",
        budget: int | None = None,
        weight_bits: int | None = None,
        fused: bool | None = None,
    ) -> None:
        if precision == "int8" and device.type != "cpu":
            raise ValueError(f"dtype=int8 runs on CPUs only, not on {device}. Use bfloat16 there.")
        if precision == "bfloat16" and device.type == "cpu":
            require_bfloat16("dtype=bfloat16", "dtype=float32 or int8")
        self.ranker = PackedRanker(ranker, precision, weight_bits, stays=device.type == "cpu").to(device)
        self.device, self.precision = device, precision
        self._fused = device.type != "cpu" if fused is None else fused
        self._rounded = precision != "float32" and not self._fused
        self._layout = encoder.layout
        self.budget = budget or BUDGET.get(device.type, BUDGET["cpu"])

    @torch.inference_mode()
    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,); the scores are fetched from the device once."""
        sizes = cut(first.lengths + second.lengths + self._layout.special, self.budget)
        parts = zip(sizes, first.parts(sizes), second.parts(sizes), strict=True)
        found = [self.ranker(self._on_device(pack(*pair, self._layout)))[:size] for size, *pair in parts]
        return torch.cat(found).cpu().numpy()

    def _on_device(self, batch: PackedBatch) -> PackedBatch:
        if self.device.type != "cpu":
            tensors = (tensor.pin_memory().to(self.device, non_blocking=True) for tensor in batch[:4])
            batch = PackedBatch(*tensors, batch.runs)
        return batch.side_by_side() if self._fused else batch.rounded() if self._rounded else batch


BACKENDS = ("torch", "onnx", "openvino")


def open_network(backend: str, path: str, encoder: PairEncoder, device: torch.device, precision: str) -> Network:
    """Load a ranker.

    Args:
        backend: one of ``BACKENDS``.
        path: folder or hub id.
        encoder: of its tokens.
        device: where it runs.
        precision: one of those that the backend has.

    Raises:
        FileNotFoundError: if the runtime's file isn't there, with the command that writes it.
        RuntimeError: in a process that was forked from one that has loaded a ranker.
        ValueError: for a backend, device or precision that can't be had.
    """
    require_threads()
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}.")
    if backend == "torch":
        from rankdistil.models.checkpoints import load_cross_encoder

        return TorchNetwork(load_cross_encoder(path), encoder, device, precision)
    if device.type != "cpu":
        raise ValueError(f"backend={backend} runs on CPUs only, not on {device}. Give device='cpu', or use backend='torch'.")
    file = find_exported(path, backend, precision)
    return open_graph(backend, file, encoder, precision, weights(file.parents[1]))


def open_graph(backend: str, file: Path, encoder: PairEncoder, precision: str, weights: str | None = None) -> Network:
    """Load an exported graph.

    Args:
        backend: ``onnx`` or ``openvino``.
        file: the graph.
        encoder: of its tokens.
        precision: one of those that the backend has.
        weights: tells of which weights it has to be made; None takes any.

    Raises:
        ValueError: if the backend's package isn't installed, this CPU can't compute the precision, or the graph is of others.
    """
    if backend == "onnx":
        from rankdistil.inference.onnx import OnnxNetwork

        return OnnxNetwork(file, encoder, precision, weights)
    from rankdistil.inference.openvino import OpenVinoNetwork

    return OpenVinoNetwork(file, encoder, precision, weights)
