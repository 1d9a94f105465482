"""What importing the package loads: a service that only scores waits for nothing that only training needs."""

import subprocess
import sys

HEAVY = (
    "datasets",
    "hydra",
    "ir_datasets",
    "ir_measures",
    "lightning",
    "matplotlib",
    "omegaconf",
    "pandas",
    "scipy",
    "sklearn",
)
LATER = ("transformers", "onnxruntime", "openvino")  # when a ranker is loaded that needs them


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after a statement."""
    line = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return {*subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout.split()}


def test_the_ranker_is_imported_without_what_training_needs() -> None:
    found = loaded_by("from rankdistil import Reranker")
    assert "torch" in found
    assert found.isdisjoint({*HEAVY, *LATER, "wandb"})


def test_the_package_alone_loads_no_torch() -> None:
    assert "torch" not in loaded_by("import rankdistil")
