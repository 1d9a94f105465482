"""The files that other runtimes read, beside the Hugging Face files of an export; their names are sentence-transformers'."""

from collections.abc import Sequence
from pathlib import Path

from rankdistil.inference.processor import LEVELS, weight_bits
from rankdistil.models.checkpoint import identity
from rankdistil.models.locate import locate

WEIGHTS = "rankdistil.weights"  # a graph's entry that tells of which weights it was made
WEIGHT_BITS = "rankdistil.weight_bits"  # of an 8-bit graph: 7 where it was made for processors without 8-bit dot products
FILES = {
    ("onnx", "float32"): "onnx/model.onnx",
    ("openvino", "float32"): "openvino/openvino_model.xml",
    ("openvino", "bfloat16"): "openvino/openvino_model.xml",  # the runtime rounds the weights of float32
    ("openvino", "int8"): "openvino/openvino_model_qint8_quantized.xml",
}


def precisions(backend: str) -> list[str]:
    """List the precisions of a backend."""
    return [precision for name, precision in FILES if name == backend]


def find_exported(path: str, backend: str, precision: str) -> Path:
    """Find what a backend reads.

    Args:
        path: an export folder.
        backend: ``onnx`` or ``openvino``.
        precision: one of those that the backend has.

    Raises:
        ValueError: for another precision.
        FileNotFoundError: if the file isn't there, with the command that writes it.
    """
    if precision not in precisions(backend):
        raise ValueError(f"dtype is {precision!r}; backend={backend} has {', '.join(precisions(backend))}.")
    folder = locate(path)
    if not isinstance(folder, Path):
        raise FileNotFoundError(f"{path} is no folder here, and backend={backend} reads files of one. Download it first.")
    file = folder / FILES[backend, precision]
    if not file.is_file():
        wanted = f"{backend},int8" if precision == "int8" else backend
        raise FileNotFoundError(
            f"{file} is not there; backend={backend} with dtype={precision} reads it. "
            f"Write it: python -m rankdistil.export run={path} to={wanted} (with data=<run> outside of a run)"
        )
    return file


def weights(folder: Path) -> str:
    """Tell what decides the scores of an export; a graph that was made of it holds it. Empty where weights are missing."""
    return identity(str(folder)) if any(folder.glob("*.safetensors")) else ""


def require_one_logit(file: Path, shapes: Sequence[Sequence[object]]) -> None:
    """See that a graph gives one score for each pair.

    Args:
        file: the graph.
        shapes: of its outputs; the first axis is that of the pairs.

    Raises:
        ValueError: if it doesn't: the graph of another network, or of a ranker of two labels.
    """
    if [len(shape) for shape in shapes] != [2] or shapes[0][1] != 1:
        raise ValueError(f"{file} gives {[*map(list, shapes)]}; expected one logit for each pair. Use backend='torch'.")


def require_weights(file: Path, found: str | None, expected: str | None) -> None:
    """See that a graph was made of an export's weights, shape and tokens.

    Args:
        file: the graph.
        found: what it holds; None in a graph of another tool's, which can't be told.
        expected: the export's; None not to look.

    Raises:
        ValueError: if one of them changed since.
    """
    if None not in (found, expected) and found != expected:
        raise ValueError(
            f"{file} was made of other weights, config or tokenizer than lie in {file.parents[1]} now. Write it again: "
            f"python -m rankdistil.export run={file.parents[1]} to={file.parent.name}"
        )


def require_exact(file: Path, bits: int) -> None:
    """See that this processor computes an 8-bit graph exactly.

    Args:
        file: the graph.
        bits: of its weights.

    Raises:
        ValueError: if it was made for processors that sum 8-bit products in 32 bits, and this one sums them in 16.
    """
    if bits > (weight_bits() or min(LEVELS)):
        raise ValueError(
            f"{file} was made for processors with 8-bit dot products (VNNI), and this one has none: large sums would come out "
            f"too small. Write it again here: python -m rankdistil.export run={file.parents[1]} to={file.parent.name},int8"
        )
