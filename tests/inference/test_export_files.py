"""dtype=auto: the fastest precision that a check found harmless and that this device computes by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdistil.inference import export_files
from rankdistil.inference.export_files import (
    FILE,
    INT8,
    choose,
    find_exported,
    read_fitted,
    read_precisions,
    write_fitted,
    write_precisions,
)
from rankdistil.models.locate import account

CPU = torch.device("cpu")


def row(dtype: str, bits: int | None = None, change: float = 0.001, backend: str = "torch") -> dict[str, Any]:
    return {"backend": backend, "dtype": dtype, "weight_bits": bits, "change": change}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Make a folder with weights, which the check is tied to."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize(
    ("rows", "bits", "bfloat16", "expected"),
    [
        ([row("bfloat16"), row("int8", 8), row("int8", 7)], 8, True, "int8"),
        ([row("int8", 8)], 7, False, "float32"),  # the other kind of 8 bits was checked
        ([row("int8", 8, 0.02), row("int8", 7)], 7, False, "int8"),
        ([row("int8", 8, -0.02), row("bfloat16")], 8, True, "bfloat16"),
        ([row("int8", 8, -0.02), row("bfloat16")], 8, False, "float32"),
        ([row("int8", 8)], None, True, "float32"),
        ([row("int8", 8, backend="openvino")], 8, True, "float32"),
        ([], 8, True, "float32"),
    ],
)
def test_int8_goes_before_bfloat16_before_float32(
    export: Path, monkeypatch: pytest.MonkeyPatch, rows: list, bits: int | None, bfloat16: bool, expected: str
) -> None:
    monkeypatch.setattr(export_files, "weight_bits", lambda: bits)
    monkeypatch.setattr(export_files, "computes_bfloat16", lambda *_: bfloat16)
    write_precisions(export, rows, {})
    assert choose(str(export), "torch", CPU) == expected


@pytest.mark.parametrize(
    ("there", "most", "read"), [([8, 7], 8, 8), ([7], 8, 7), ([8, 7], 7, 7), ([8, 7], None, 7), ([8], 7, None)]
)
def test_of_two_8_bit_graphs_the_one_of_the_processor_is_read(
    export: Path, monkeypatch: pytest.MonkeyPatch, there: list[int], most: int | None, read: int | None
) -> None:
    monkeypatch.setattr(export_files, "weight_bits", lambda: most)
    (export / "openvino").mkdir()
    for bits in there:
        (export / INT8[bits]).touch()
    write_precisions(export, [row("int8", bits, backend="openvino") for bits in (8, 7)], {})
    assert choose(str(export), "openvino", CPU) == ("float32" if None in (read, most) else "int8")
    if read is not None:
        assert find_exported(str(export), "openvino", "int8") == export / INT8[read]
        rows = [row("int8", bits, 0.02 if bits == read else 0.0, "openvino") for bits in (8, 7)]
        write_precisions(export, rows, {})
        assert choose(str(export), "openvino", CPU) == "float32", "the other graph's check says nothing of this one"


@pytest.mark.parametrize(("able", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_takes_bfloat16_where_it_has_it_without_a_check(
    monkeypatch: pytest.MonkeyPatch, able: bool, expected: str
) -> None:
    monkeypatch.setattr(export_files, "computes_bfloat16", lambda *_: able)
    assert choose("owner/name", "torch", torch.device("cuda")) == expected


def test_a_check_of_other_weights_counts_for_nothing(export: Path) -> None:
    write_precisions(export, [row("int8", 8)], {"scored": "pairs"})
    assert read_precisions(str(export)) == [row("int8", 8)]
    (export / "model.safetensors").write_bytes(b"others")
    assert read_precisions(str(export)) == []


def test_a_damaged_check_says_how_to_write_it_again(export: Path) -> None:
    (export / FILE).write_text("[]")
    with pytest.raises(ValueError) as caught:
        read_precisions(str(export))
    assert str(caught.value) == (
        f"{export / FILE} is damaged (TypeError('list indices must be integers or slices, not str')). Write it again: "
        f"python -m rankdistil.export run={export} to=int8 (with data=<run> outside of a run)"
    )


@pytest.mark.parametrize("read", [read_fitted, read_precisions])
def test_a_run_s_weights_that_were_changed_are_told_and_not_the_file_that_names_them(tmp_path: Path, read: Callable) -> None:
    export = tmp_path / "export"
    export.mkdir()
    weights = export / "model.safetensors"
    weights.write_bytes(b"weights")
    (tmp_path / "run.json").write_text(json.dumps({"export": account(export)}))
    write_precisions(export, [], {})
    write_fitted(export, {"fusion": None, "probability": None})
    read(str(export))
    weights.write_bytes(b"others")
    with pytest.raises(ValueError) as caught:
        read(str(export))
    assert str(caught.value).startswith(f"{weights} was changed (sha256 ")
