"""Exports of every family: one score in torch, transformers, sentence-transformers and the runtimes of graphs."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from families import NAMES, TEXT, tiny, tokenizer_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rankdistil import Reranker
from rankdistil.inference.export_files import weights, write_export
from rankdistil.inference.write_graphs import put, staged, write_graphs
from rankdistil.models.checkpoints import load_ranker

LONG = " ".join(TEXT)
PAIRS = [(TEXT[0], text) for text in (*TEXT, "", LONG)] + [(LONG, TEXT[2]), (LONG, LONG), ("bees?", "[SEP] bees")]
LENGTH = 40
EVERY = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", params=NAMES)
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the export of a ranker of each family."""
    folder = tmp_path_factory.mktemp(request.param) / "export"
    write_export(folder, tiny(request.param), tokenizer_of(request.param), LENGTH)
    return folder


@pytest.fixture(scope="module")
def scores(export: Path) -> np.ndarray:
    """Return torch's scores in float32."""
    found = np.array(Reranker(export, device="cpu").score(PAIRS))
    assert found.std() > 0.1
    return found


@torch.inference_mode()
def test_an_export_scores_the_same_in_transformers(export: Path, scores: np.ndarray) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(export), AutoModelForSequenceClassification.from_pretrained(export)
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].size(1) == LENGTH
    np.testing.assert_allclose(network.eval()(**inputs).logits[:, 0], scores, rtol=1e-5, atol=1e-5)


def test_an_export_scores_the_same_in_sentence_transformers(export: Path, scores: np.ndarray) -> None:
    peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(export), device="cpu")
    np.testing.assert_allclose(peer.predict(PAIRS), scores, rtol=1e-5, atol=1e-4)


def test_an_export_comes_back_bit_by_bit(export: Path) -> None:
    own, loaded = tiny(export.parent.name[:-1]).state_dict(), load_ranker(str(export)).state_dict()
    assert own.keys() == loaded.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in own.items())


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_fewer_bits_order_pairs_alike(export: Path, scores: np.ndarray, precision: str) -> None:
    try:
        ranker = Reranker(export, device="cpu", dtype=precision)
    except ValueError as error:
        pytest.skip(str(error))
    assert np.corrcoef(ranker.score(PAIRS), scores)[0, 1] > 0.9


RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
GRAPHS = ("roberta", "mpnet", "modernbert")  # a graph of each way that positions have; others are like one of them


@pytest.fixture(
    scope="module", params=[name if name in GRAPHS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the export of a ranker of each family, with a graph for each runtime that is installed."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp(request.param) / "export"
    write_export(folder, tiny(request.param), tokenizer_of(request.param), LENGTH)
    kinds = [kind for kind, package in RUNTIMES.items() if find_spec(package)]
    with staged(folder) as stage:
        for graph in write_graphs(load_ranker(str(folder)).eval(), kinds, stage, [], weights(folder)):
            put(stage, folder, graph)
    return folder


@pytest.mark.parametrize("backend", RUNTIMES)
def test_graphs_score_the_same_and_take_what_the_network_reads(graphs: Path, backend: str) -> None:
    pytest.importorskip(RUNTIMES[backend])
    ranker = Reranker(graphs, device="cpu", backend=backend)
    np.testing.assert_allclose(ranker.score(PAIRS), Reranker(graphs, device="cpu").score(PAIRS), rtol=1e-4, atol=1e-4)
    typed = json.loads((graphs / "config.json").read_text())["model_type"] in ("bert", "electra")
    assert ("token_type_ids" in ranker.engine.network._names) == typed


@EVERY
def test_two_labels_are_folded_into_one(name: str, tmp_path: Path) -> None:
    ranker = tiny(name, labels=2)
    write_export(tmp_path / "two", ranker, tokenizer_of(name), LENGTH)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "two")
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        logits = AutoModelForSequenceClassification.from_pretrained(tmp_path / "two").eval()(**inputs).logits
    found = Reranker(tmp_path / "two", device="cpu").score(PAIRS)
    np.testing.assert_allclose(found, logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-4)
