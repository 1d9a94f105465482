"""The files that other runtimes read, beside the Hugging Face files of an export; their names are sentence-transformers'."""

from math import prod
from pathlib import Path

from safetensors import safe_open

from rankdistil.models.locate import locate

FILES = {
    ("onnx", "float32"): "onnx/model.onnx",
    ("onnx", "int8"): "onnx/model_qint8_avx512_vnni.onnx",
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
            f"Write it: python -m rankdistil.export run={path} to={wanted}"
        )
    return file


def weights(path: str) -> int:
    """Number of weights of an export, embeddings and head included."""
    total = 0
    for file in Path(locate(path)).glob("*.safetensors"):
        with safe_open(file, "pt") as content:
            total += sum(prod(content.get_slice(name).get_shape()) for name in content.keys())  # noqa: SIM118 (not a dict)
    return total
