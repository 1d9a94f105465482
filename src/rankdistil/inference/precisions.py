"""Which precision is fastest here without changing a ranking: what an export's check found, and the choice of ``dtype="auto"``.

A check scores held-out pairs in each precision (``python -m rankdistil.export``) and leaves ``precisions.json`` in the export.
The choice reads that file and asks the processor; nothing is measured when a ranker is loaded.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rankdistil.files import write_json
from rankdistil.inference.exported import FILES, weights
from rankdistil.inference.processor import computes_bfloat16, weight_bits
from rankdistil.models.locate import locate

FILE = "precisions.json"
HARMLESS = 0.005  # of nDCG@10: a precision that changes it by less may be chosen


def write_precisions(export: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write what a check found into an export, in place of an earlier check.

    Args:
        export: the folder.
        rows: of each way to score: ``backend``, ``dtype``, ``weight_bits`` (of int8, else None), and ``change`` of the
            validation's nDCG@10.
        about: what was scored, and on what.
    """
    write_json(export / FILE, {"weights": weights(export), **about, "rows": [*rows]})


def read_precisions(path: str) -> list[dict[str, Any]]:
    """Read the rows that a check left; none for a hub id, without a check, or if the weights changed since.

    Raises:
        ValueError: if the file is damaged.
    """
    folder = locate(path)
    if not isinstance(folder, Path) or not (folder / FILE).is_file():
        return []
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return found["rows"] if found["weights"] == weights(folder) else []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / FILE} is damaged ({error!r}). Write it again: python -m rankdistil.export run={folder} to=int8 "
            "(with data=<run> outside of a run)"
        ) from None


def choose(path: str, backend: str, device: torch.device) -> str:
    """Choose the precision that ``auto`` stands for.

    Args:
        path: folder or hub id.
        backend: ``torch``, ``onnx`` or ``openvino``.
        device: where it runs.

    Returns:
        On a GPU bfloat16 if it has that, else float32. On a CPU int8, or else bfloat16, if the processor computes it by itself
        and the export's check, with weights of as many bits, changes nDCG@10 by less than 0.005; else float32.
    """
    if device.type == "cuda":
        return "bfloat16" if computes_bfloat16(device) else "float32"
    harmless = [row for row in read_precisions(path) if row["backend"] == backend and abs(row["change"]) < HARMLESS]
    for row in sorted(harmless, key=lambda row: row["dtype"] != "int8"):
        if row["dtype"] != "float32" and _computable(row) and _there(path, row):
            return row["dtype"]
    return "float32"


def _computable(row: Mapping[str, Any]) -> bool:
    if row["dtype"] == "bfloat16":
        return computes_bfloat16()
    most = weight_bits()
    if most is None:
        return False
    return row["weight_bits"] == most if row["backend"] == "torch" else row["weight_bits"] <= most


def _there(path: str, row: Mapping[str, Any]) -> bool:
    folder = locate(path)
    return row["backend"] == "torch" or (Path(folder) / FILES[row["backend"], row["dtype"]]).is_file()
