"""ONNX and OpenVINO graphs written into an export, in one step each."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rankdistil.files import move, workshop
from rankdistil.inference.export_files import FILES, INT8, int8_levels
from rankdistil.inference.onnx import Inputs, write_onnx
from rankdistil.inference.openvino import write_openvino, write_openvino_int8
from rankdistil.models.bert import CrossEncoder
from rankdistil.words import require

BACKENDS = ("onnx", "openvino")
STAGE = ".graphs"


def require_packages(kinds: Collection[str]) -> None:
    """See that the packages are there that write graphs and compute their scores.

    Args:
        kinds: some of ``onnx``, ``openvino`` and ``int8``.

    Raises:
        ValueError: for one that is missing, with the command that installs it.
    """
    for extra, packages in (("onnx", ["onnx", "onnxscript", "onnxruntime"]), ("openvino", ["onnx", "onnxscript", "openvino"])):
        if extra in kinds:
            for package in [*packages, *(["nncf"] if extra == "openvino" and "int8" in kinds else [])]:
                require(package, f"to={extra}", extra)


def write_graphs(
    ranker: CrossEncoder, kinds: Collection[str], folder: Path, batches: Sequence[Inputs], weights: str
) -> list[str]:
    """Write graphs.

    Args:
        ranker: with one logit.
        kinds: some of ``onnx``, ``openvino`` and ``int8``, which is OpenVINO's.
        folder: where they go, under the names of ``FILES`` and ``INT8``.
        batches: what 8-bit ranges are found on.
        weights: tells of which weights the graphs are made.

    Returns:
        The names of the files that were asked for; of 8-bit graphs those that this processor can compute, and so check.
    """
    if not {*BACKENDS} & {*kinds}:
        return []
    source = folder / (FILES["onnx", "float32"] if "onnx" in kinds else "source.onnx")
    write_onnx(ranker, source, weights)
    names = [FILES[backend, "float32"] for backend in BACKENDS if backend in kinds]
    if "openvino" in kinds:
        write_openvino(source, folder / FILES["openvino", "float32"], weights)
    for bits in int8_levels() if {"openvino", "int8"} <= {*kinds} else ():
        write_openvino_int8(folder / FILES["openvino", "float32"], folder / INT8[bits], batches, weights, bits)
        names.append(INT8[bits])
    return names


@contextmanager
def staged(export: Path) -> Iterator[Path]:
    """Give a folder for graphs that aren't checked yet, inside of the export; it is removed, as is what a killed call left.

    Raises:
        RuntimeError: if another process writes graphs there.
    """
    folder = export / STAGE
    with workshop(folder, "run"):
        yield folder


def put(folder: Path, export: Path, name: str) -> None:
    """Move a graph into its export, its weights first: a reader finds both, or no graph."""
    remove(export, name)
    for file in (Path(name).with_suffix(".bin"), Path(name)):
        if (folder / file).is_file():
            move(folder / file, export / file)


def remove(export: Path, name: str) -> None:
    """Remove a graph, if it is there."""
    for file in (export / name, (export / name).with_suffix(".bin")):
        file.unlink(missing_ok=True)
    if (export / name).parent.is_dir() and not any((export / name).parent.iterdir()):
        (export / name).parent.rmdir()
