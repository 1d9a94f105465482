"""A ranker in the user's hands: texts in, scores or an order out."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch

from rankdistil.data.encode import FEWEST_TOKENS, PairEncoder
from rankdistil.data.records import Pair
from rankdistil.inference.backend import open_network
from rankdistil.inference.engine import CHUNK, Engine
from rankdistil.inference.precisions import choose
from rankdistil.models.load import load_tokenizer, require_fitting, require_labels


class Hit(NamedTuple):
    """A passage in the order of a ranker.

    Attributes:
        index: its place among the passages given.
        score: raw logit; only differences between scores of one query mean something.
        passage: its text.
    """

    index: int
    score: float
    passage: str


class Reranker:
    """Ranks passages with a cross-encoder: an export of ours, or any BERT ranker with one or two labels.

    Two labels are folded into one logit, that of label 1 less that of label 0, which orders alike.

    Args:
        path: a folder, or a hub id ``owner/name``.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``; by default a GPU if there is one that the backend and the dtype can use.
        dtype: ``float32``, ``bfloat16``, ``int8`` (CPUs), or ``auto``: the fastest that this device computes by itself and that
            changes nDCG@10 by less than 0.005 in the check that ``python -m rankdistil.export run=<run> to=int8`` left in the
            folder; without a check float32, on a GPU with bfloat16 that.
        backend: ``torch``, ``onnx`` or ``openvino``; the latter two read what ``python -m rankdistil.export`` wrote.
        max_length: tokens of a pair at most, the three special ones among them; by default as many as the checkpoint says
            (``model_max_length``, and no more than its positions). Of a pair that has more, the longer text is cut first, as
            ``truncation="longest_first"`` does in transformers and sentence-transformers.

    Attributes:
        dtype: what the scores are computed in: what was asked for, or what ``auto`` chose.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: for a checkpoint that is no ranker, and for a device, dtype or backend that can't be had here.
    """

    def __init__(
        self, path: str, device: str | None = None, dtype: str = "float32", backend: str = "torch",
        max_length: int | None = None,
    ) -> None:  # fmt: skip
        path = str(path)
        config, tokenizer = require_labels(path), load_tokenizer(path)
        require_fitting(path, tokenizer, config)
        own = min(tokenizer.model_max_length, config.max_position_embeddings)
        if max_length is not None and not FEWEST_TOKENS <= max_length <= own:
            raise ValueError(f"max_length is {max_length}; expected {FEWEST_TOKENS} to {own}, which {path} reads of a pair.")
        encoder = PairEncoder(tokenizer, max_length or own, config.max_position_embeddings)
        place = _device(device, backend, dtype)
        self.dtype = choose(path, backend, place) if dtype == "auto" else dtype
        self._engine = Engine(open_network(backend, path, encoder, place, self.dtype), encoder)

    def score(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Score pairs of query and passage.

        Args:
            pairs: any number; those of an iterator are taken as they are needed.

        Returns:
            Logits, in the order of the pairs.

        Raises:
            TypeError: for a query or passage that is no text.
            ValueError: if there is no pair, or a query is empty.
        """
        scores = [score for chunk in _chunks(pairs) for score in self._engine.score(chunk)[0]]
        if not scores:
            raise ValueError("there are no pairs to score. Give at least one (query, passage).")
        return scores

    def rerank(self, query: str, passages: Iterable[str], top_k: int | None = None) -> list[Hit]:
        """Order passages by score, best first; equal scores in the order given.

        Args:
            query: the query.
            passages: its candidates.
            top_k: how many to return; all by default.

        Raises:
            TypeError: for a query or passage that is no text.
            ValueError: if there is no passage, the query is empty, or ``top_k`` is below 1.
        """
        if isinstance(passages, str):
            raise TypeError("passages is a text; expected a list of texts.")
        passages = list(passages)  # a data frame's column has an index of its own
        if not passages:
            raise ValueError("there are no passages to rank. Give at least one.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}; expected at least 1, or None for all.")
        scores = self.score((query, passage) for passage in passages)
        hits = [Hit(index, score, passages[index]) for index, score in enumerate(scores)]
        return sorted(hits, key=lambda hit: -hit.score)[:top_k]


def _chunks(pairs: Iterable[tuple[str, str]]) -> Iterator[list[Pair]]:
    numbered = enumerate(pairs)
    while chunk := [_pair(*each) for each in islice(numbered, CHUNK)]:
        yield chunk


def _pair(number: int, pair: tuple[str, str]) -> Pair:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"pair {number} is {pair!r}; expected (query, passage).")
    query, passage = pair
    for what, text in (("query", query), ("passage", passage)):
        if not isinstance(text, str):
            raise TypeError(f"pair {number}: the {what} is {text!r} ({type(text).__name__}); expected a text.")
    if not query.strip():
        raise ValueError(f"pair {number}: the query is empty.")
    return Pair("", str(number), query, passage)


def _device(name: str | None, backend: str, dtype: str) -> torch.device:
    if name is None:
        return torch.device("cuda" if backend == "torch" and dtype != "int8" and torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"device is {name!r}; expected cpu, cuda or cuda:<n>.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}, but torch sees {torch.cuda.device_count()} GPUs here. Use device='cpu'.")
    return device
