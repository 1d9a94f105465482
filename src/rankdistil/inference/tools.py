"""Others' tools on an export: the scores that each gives by its manual, with its own tokens, batches and defaults.

A tool that reads an export otherwise than it was meant says nothing: it cuts pairs at another length, drops token types, puts
a sigmoid over the logit, or a softmax, which makes every score 1. So those that are installed are asked
(``stages.agreement``). None is imported before.

Left out: infinity (wants numpy 1 and sentence-transformers 3), sentence-transformers' own ONNX backend (optimum-onnx wants
transformers 4), and what only reads GGUF, as there is no such export.
"""

import importlib.metadata
import json
import secrets
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rankdistil.data.records import Pair
from rankdistil.inference.export_files import FILES

Scorer = Callable[[Sequence[Pair]], Sequence[float]]
"""Scores pairs, those of a query one behind the other."""

BATCH = 32  # pairs; sentence-transformers' default
GRAPH = FILES["onnx", "float32"]


def _transformers(export: Path) -> Scorer:
    """Ask the pipeline, which scores the query alone where a passage is empty."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(export), device="cpu")

    def score(pairs: Sequence[Pair]) -> list[float]:
        texts = [{"text": pair.query, "text_pair": pair.passage} for pair in pairs]
        return [found["score"] for found in classify(texts, batch_size=BATCH, truncation=True)]  # by default it cuts nothing

    return score


def _sentence_transformers(export: Path) -> Scorer:
    from sentence_transformers import CrossEncoder

    ranker = CrossEncoder(str(export), device="cpu")
    return lambda pairs: ranker.predict([(pair.query, pair.passage) for pair in pairs], show_progress_bar=False).tolist()


def _onnxruntime(export: Path) -> Scorer:
    """Feed the graph what ``tokenizer.json`` gives, as programs in other languages do."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(export / GRAPH), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(export / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=json.loads((export / "config.json").read_text(encoding="utf-8"))["pad_token_id"])

    def score(pairs: Sequence[Pair]) -> list[float]:
        logits: list[float] = []
        for at in range(0, len(pairs), BATCH):
            rows = tokenizer.encode_batch([(pair.query, pair.passage) for pair in pairs[at : at + BATCH]])
            given = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
            arrays = {name: np.array([getattr(row, of) for row in rows], np.int64) for name, of in given.items()}
            logits += session.run(None, {each.name: arrays[each.name] for each in session.get_inputs()})[0][:, 0].tolist()
        return logits

    return score


def _flashrank(export: Path) -> Scorer:
    from flashrank import Config, Ranker, RerankRequest

    Config.model_file_map[export.name] = GRAPH
    most = json.loads((export / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"]
    ranker = Ranker(model_name=export.name, cache_dir=str(export.parent), max_length=most, log_level="ERROR")

    def rank(query: str, passages: list[str]) -> list[float]:
        found = ranker.rerank(RerankRequest(query, [{"id": at, "text": text} for at, text in enumerate(passages)]))
        return [float(hit["score"]) for hit in sorted(found, key=lambda hit: hit["id"])]

    return _by_query(rank)


def _fastembed(export: Path) -> Scorer:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = f"rankdistil/{secrets.token_hex(8)}"  # a name is taken once in a process
    TextCrossEncoder.add_custom_model(model=name, sources=ModelSource(hf=name), model_file=GRAPH)
    ranker = TextCrossEncoder(model_name=name, cache_dir=str(export.parent), specific_model_path=str(export), cuda=False)
    return lambda pairs: list(map(float, ranker.rerank_pairs([(pair.query, pair.passage) for pair in pairs], batch_size=BATCH)))


def _rerankers(export: Path) -> Scorer:
    from rerankers import Reranker

    ranker = Reranker(str(export), model_type="cross-encoder", device="cpu", dtype="float32", verbose=0)

    def rank(query: str, passages: list[str]) -> list[float]:
        found = ranker.rank(query=query, docs=passages, doc_ids=[*range(len(passages))]).results
        return [float(hit.score) for hit in sorted(found, key=lambda hit: hit.document.doc_id)]

    return _by_query(rank)


def _by_query(rank: Callable[[str, list[str]], list[float]]) -> Scorer:
    """Score pairs with a tool that takes one query and its passages, ``BATCH`` of these at a time."""

    def score(pairs: Sequence[Pair]) -> list[float]:
        scores: list[float] = []
        for query, own in groupby(pairs, key=lambda pair: pair.query):
            passages = [pair.passage for pair in own]
            for at in range(0, len(passages), BATCH):
                scores += rank(query, passages[at : at + BATCH])
        return scores

    return score


class Tool(NamedTuple):
    """A tool that scores pairs.

    Attributes:
        name: how its people call it.
        package: that is installed.
        opened: gives its scores of an export.
        reads: what an export may lack that it needs.
    """

    name: str
    package: str
    opened: Callable[[Path], Scorer]
    reads: str = "config.json"

    @property
    def version(self) -> str | None:
        """The version that is installed; None without any."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


TOOLS = (
    Tool("transformers pipeline", "transformers", _transformers),
    Tool("sentence-transformers", "sentence-transformers", _sentence_transformers),
    Tool("rerankers", "rerankers", _rerankers),
    Tool("tokenizers, onnxruntime", "onnxruntime", _onnxruntime, GRAPH),
    Tool("FlashRank", "FlashRank", _flashrank, GRAPH),
    Tool("fastembed", "fastembed", _fastembed, GRAPH),
)
