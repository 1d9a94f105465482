"""Reranker, the public inference API: texts in, scores or an order out."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rankdistil.data.encode import PairEncoder, PairLayout
from rankdistil.data.records import Pair
from rankdistil.data.windows import Windows
from rankdistil.inference.engine import CHUNK, Engine, open_network
from rankdistil.inference.export_files import choose, read_fitted, read_windows
from rankdistil.models.checkpoints import load_tokenizer, require_fitting, require_labels
from rankdistil.models.families import max_positions

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

UNORDERED = str, bytes, Mapping, Set  # what would be iterated over in other units than passages, or in no order


class Hit(NamedTuple):
    """A passage in the order of a ranker.

    Attributes:
        index: its place among the passages given.
        score: raw logit; only differences between scores of one query mean something.
        passage: its text.
        probability: that it is judged relevant, by the fit that the export keeps, comparable between queries; None without one.
        fused: what it is ordered by, the score united with the first stage's; None where these weren't given.
    """

    index: int
    score: float
    passage: str
    probability: float | None = None
    fused: float | None = None


class Reranker:
    """Ranks passages with a cross-encoder: an export of ours, or any other with one or two labels.

    It may be of any family in ``models.families``: BERT, ELECTRA, RoBERTa, XLM-RoBERTa, DistilBERT, MPNet, ModernBERT.

    Two labels are folded into one logit, that of the relevant label less that of the other, which orders alike; which one is
    relevant is read from their names (``id2label``). Text is text: a ``[SEP]`` in a passage doesn't end it.

    Args:
        path: a folder, or a hub id ``owner/name``.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``, or torch's; by default a GPU if there is one that the backend and the dtype
            can use.
        dtype: ``float32``, ``bfloat16`` (or torch's), ``int8`` (CPUs), or ``auto``: the fastest that this device computes by
            itself and that changes nDCG@10 by less than 0.005 in the check that ``python -m rankdistil.export run=<run>
            to=int8`` left in the folder; without a check float32, on a GPU with bfloat16 that.
        backend: ``torch``, ``onnx`` or ``openvino``; the latter two read what ``python -m rankdistil.export`` wrote.
        max_length: tokens of a pair at most, the special ones among them; by default as many as the checkpoint says
            (``model_max_length``, and no more than its positions). Of a pair that has more, the longer text is cut first, as
            ``truncation="longest_first"`` does in transformers and sentence-transformers.
        windows: that longer passages are read in (``stride``, ``most``, ``size``, ``aggregate``, ``top``, see
            ``data.windows.Windows``); by default those of the export; False cuts passages as other tools do.

    Attributes:
        dtype: what the scores are computed in: what was asked for, or what ``auto`` chose.
        engine: scores the pairs.
        windows: that longer passages are read in; None where they are cut.
        fusion: with the first stage's scores, as ``python -m rankdistil.export run=<run> to=fitted`` left it in the folder;
            None without it, and beside other windows than the export's.
        probability: of relevance, as it left it, too; None as well.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: for a checkpoint that is no ranker, windows that don't fit, and for a device, dtype or backend that can't be
            had here.
    """

    def __init__(
        self, path: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype = "float32",
        backend: str = "torch", max_length: int | None = None, windows: Mapping[str, Any] | bool | None = None,
    ) -> None:  # fmt: skip
        path = self._path = str(path)
        config, tokenizer = require_labels(path), load_tokenizer(path)
        require_fitting(path, tokenizer, config)
        own = read_windows(path, config)
        self.windows = own if windows is None else None if windows is False else Windows.of(windows)
        length = pair_length(path, tokenizer, config, max_length)
        encoder = PairEncoder(tokenizer, length, max_positions(config), self.windows)
        dtype = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
        place = _device(device, backend, dtype)
        self.dtype = choose(path, backend, place) if dtype == "auto" else dtype
        # Both were fitted to scores of the export's own windows.
        self.fusion, self.probability = read_fitted(path) if self.windows == own else (None, None)
        self.engine = Engine(open_network(backend, path, encoder, place, self.dtype), encoder, ahead=place.type != "cpu")

    def score(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Score pairs of query and passage.

        Args:
            pairs: any number; those of an iterator are taken as they are needed.

        Returns:
            Logits, in the order of the pairs.

        Raises:
            TypeError: for a query or passage that is no text.
            ValueError: if there is no pair, a query is empty, or a text holds a lone surrogate.
        """
        scores = [score for chunk in _chunks(pairs) for score in self.engine.score(chunk)[0]]
        if not scores:
            raise ValueError("there are no pairs to score. Give at least one (query, passage).")
        return scores

    def rerank(
        self, query: str, passages: Iterable[str], top_k: int | None = None, first_stage_scores: Iterable[float] | None = None
    ) -> list[Hit]:
        """Order passages by score, best first; equal scores in the order given.

        Args:
            query: the query.
            passages: its candidates.
            top_k: how many to return; all by default.
            first_stage_scores: of each passage, of the same first stage as the run's validation; they are united with the
                ranker's as fits validation best (``fusion``).

        Raises:
            TypeError: for a query or passage that is no text.
            ValueError: if there is no passage, the query is empty, a text holds a lone surrogate, ``top_k`` is no whole
                number of at least 1, or the first stage's scores don't fit or no fusion is kept for them.
        """
        if isinstance(passages, UNORDERED) or hasattr(passages, "columns") or not isinstance(passages, Iterable):
            what = "a text" if isinstance(passages, str) else f"a {type(passages).__name__}"
            raise TypeError(f"passages is {what}; expected a list of texts.")
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, Integral) or top_k < 1):
            raise ValueError(f"top_k is {top_k!r}; expected a whole number of at least 1, or None for all.")
        passages = list(passages)  # a data frame's column has an index of its own
        if not passages:
            raise ValueError("there are no passages to rank. Give at least one.")
        first = None if first_stage_scores is None else self._first_stage([*first_stage_scores], len(passages))
        scores = self.score((query, passage) for passage in passages)
        likely = [None] * len(scores) if self.probability is None else self.probability.of(scores).tolist()
        fused = [None] * len(scores) if first is None else self.fusion.fuse(scores, first).tolist()
        hits = [Hit(*each) for each in zip(range(len(scores)), scores, passages, likely, fused, strict=True)]
        return sorted(hits, key=lambda hit: -hit.score if hit.fused is None else -hit.fused)[:top_k]

    def _first_stage(self, scores: list[float], passages: int) -> list[float]:
        if self.fusion is None:
            raise ValueError(
                f"first_stage_scores: {self._path} keeps no fusion, or one of other weights or windows. Fit it on the run's "
                "validation: python -m rankdistil.export run=<run> to=fitted"
            )
        if len(scores) != passages:
            raise ValueError(f"first_stage_scores holds {len(scores)} numbers; expected one for each of {passages} passages.")
        for place, score in enumerate(scores):
            if isinstance(score, bool) or not isinstance(score, Real) or not math.isfinite(score):
                raise ValueError(f"first_stage_scores[{place}] is {score!r}; expected a finite number.")
        return [float(score) for score in scores]


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
        try:
            text.encode()
        except UnicodeEncodeError as error:
            lone = f"a lone surrogate ({text[error.start]!r}, character {error.start}), which is no text"
            raise ValueError(f"pair {number}: the {what} holds {lone}. Replace it.") from None
    if not query.strip():
        raise ValueError(f"pair {number}: the query is empty.")
    return Pair("", str(number), query, passage)


def pair_length(path: str, tokenizer: "PreTrainedTokenizerFast", config: "PretrainedConfig", asked: int | None = None) -> int:
    """Return how many tokens of a pair are read: as many as the checkpoint says, or fewer if asked for.

    Raises:
        ValueError: if the checkpoint says no such number, or reads fewer than asked for.
    """
    own, fewest = tokenizer.model_max_length, PairLayout.of(tokenizer).fewest
    if isinstance(own, bool) or not isinstance(own, int | float) or not own >= fewest:
        raise ValueError(
            f"{path}: model_max_length is {own!r} in its tokenizer_config.json; expected tokens of a pair, {fewest} at least."
        )
    most = int(min(own, max_positions(config)))  # 1e30 stands for no limit
    if asked is None:
        return most
    if isinstance(asked, bool) or not isinstance(asked, Integral) or not fewest <= asked <= most:
        raise ValueError(f"max_length is {asked!r}; expected {fewest} to {most}, which {path} reads of a pair.")
    return int(asked)


def _device(name: str | torch.device | None, backend: str, dtype: str) -> torch.device:
    if name is None:
        return torch.device("cuda" if backend == "torch" and dtype != "int8" and torch.cuda.is_available() else "cpu")
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"device is {name!r}; expected cpu, cuda or cuda:<n>.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}, but torch sees {torch.cuda.device_count()} GPUs here. Use device='cpu'.")
    return device
