"""The benchmark of a GPU, on a machine without one: it says so; what it measures is measured on the CPU in its place."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import needs_bfloat16

from benchmarks import gpu, training_steps
from rankdistil.stages.train import quieten


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_that_it_needs_one_and_leaves_nothing(tmp_path: Path) -> None:
    told = (
        f"error: benchmarks.gpu measures a GPU, and torch {torch.__version__} sees none here. Start it on a machine with one, "
    )
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--results", str(tmp_path / "found.json")])
    assert str(ended.value.code).startswith(told), "a text: exit status 1"
    assert [*tmp_path.iterdir()] == []


@needs_bfloat16
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*val_dataloader")
def test_on_a_cpu_it_measures_every_part_and_agrees_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quieten()
    for module in (gpu, training_steps):
        monkeypatch.setattr(module, "TEACHER", "tiny")
    line = ["--results", str(tmp_path / "found.json"), "--models", "tiny", "--steps", "2", "--tokens", "1024", "--pairs", "70"]
    console = Console(width=150, record=True, quiet=True)
    result = gpu.measure(gpu.arguments([*line, "--stages", "teacher,layers,logits"]), "cpu", console)
    assert json.loads((tmp_path / "found.json").read_text()) == result
    assert [row["gradient_apart"] < 1e-5 for row in result["agreement"]] == [True] * 3
    assert [row["dtype"] for row in result["scoring"]] == list(gpu.DTYPES)
    for row in result["scoring"]:  # logits below 1, of which bfloat16 keeps 8 bits; on a CPU TF32 is float32
        assert row["largest_difference"] < (4 * 2**-8 if row["dtype"] == "bfloat16" else 1e-5)
    assert [(row["stage"], row["precision"], row["waits"]) for row in result["training"]] == [
        (stage, precision, [0, 0]) for stage in ("teacher", "layers", "logits") for precision in gpu.PRECISIONS
    ]
    assert all(row["step_ms"] > 0 for row in result["training"])
    gpu.show(result, Console(width=150, quiet=True))


@pytest.mark.slow
def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    line = ["--results", str(tmp_path / "found.json"), "--models", "tiny", "--steps", "1", "--tokens", "1024", "--pairs", "2"]
    result = gpu.measure(gpu.arguments([*line, "--stages", "lm", "--minutes", "0"]), "cpu", Console(quiet=True))
    assert result["left_out"][0] == "agreement lm tiny"
    assert len(result["left_out"]) == 1 + len(gpu.DTYPES) + len(gpu.PRECISIONS)
