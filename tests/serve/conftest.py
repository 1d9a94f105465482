"""A tiny export, and its engine behind a gate."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from families import tiny, tokenizer_of
from gate import Gate

from rankdistil import Reranker
from rankdistil.inference.engine import Engine
from rankdistil.inference.export_files import write_export


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an export of a small ranker that tells pairs apart."""
    folder = tmp_path_factory.mktemp("serve") / "tiny"
    write_export(folder, tiny("bert"), tokenizer_of("bert"), 64)
    return folder


@pytest.fixture(scope="session")
def ranker(export: Path) -> Reranker:
    """Load it."""
    return Reranker(export, device="cpu")


@pytest.fixture
def gate(ranker: Reranker) -> Gate:
    """Make a network of batches of 32 tokens; a step has two of them."""
    return Gate(ranker.engine.network, 32)


@pytest.fixture
def engine(ranker: Reranker, gate: Gate) -> Iterator[Engine]:
    """Make an engine behind the gate."""
    yield Engine(gate, ranker.engine.encoder)
    gate.opened.set()
