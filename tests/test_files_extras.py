"""Packages of the extra formats, where they are missing."""

import importlib.metadata
import sys

import pytest

from rankdistil import files
from rankdistil.data.files.lines import raw_lines, records
from rankdistil.data.teacher_scores.folder import Shard, write_shard
from rankdistil.files import called, installing, require


def told(what: str, package: str) -> str:
    return f"{what} needs the package {package}, which isn't installed. Run: pip install -e '.[formats]'"


def test_a_package_that_is_there_is_imported():
    assert require("json", "nothing").loads("1") == 1


def test_a_missing_package_names_who_needs_it_and_the_command(tmp_path, monkeypatch):
    for package in ("pyarrow", "pyarrow.parquet", "zstandard"):
        monkeypatch.setitem(sys.modules, package, None)
    rows = tmp_path / "corpus.parquet"
    with pytest.raises(ValueError) as caught:
        next(records(rows))
    assert str(caught.value) == told(str(rows), "pyarrow")
    packed, shard = tmp_path / "corpus.tsv.zst", tmp_path / "part-00000.parquet"
    packed.write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        next(raw_lines(packed))
    assert str(caught.value) == told(str(packed), "zstandard")
    with pytest.raises(ValueError) as caught:
        write_shard(shard, Shard(["q"], ["p"], [1.0]))
    assert str(caught.value) == told(f"{shard} (Parquet)", "pyarrow")
    assert not shard.exists()


def test_what_to_type_exists_in_a_checkout_and_beside_a_wheel(monkeypatch):
    assert (installing("onnx"), called("train")) == ("pip install -e '.[onnx]'", "python train.py")
    needed = ["torch>=2.11", 'onnx<2,>=1.20; extra == "onnx"', "onnxscript; extra == 'onnx'", 'onnxes; extra == "onnxes"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    monkeypatch.setattr(files, "CHECKOUT", False)
    assert (installing("onnx"), called("train")) == ("pip install 'onnx<2,>=1.20' onnxscript", "rankdistil train")
