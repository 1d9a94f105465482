"""Files of an export: the Hugging Face folder, other runtimes' graphs, and the precision that ``dtype="auto"`` takes.

A check scores held-out pairs in each precision (``python -m rankdistil.export``) and leaves ``precisions.json`` in the export.
The choice reads that file and asks the processor; nothing is measured when a ranker is loaded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rankdistil.data.windows import Windows
from rankdistil.files import built, write_json
from rankdistil.inference.machine import LEVELS, computes_bfloat16, weight_bits
from rankdistil.metrics.fitted import Fusion, Platt, restored
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.locate import identity, locate

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

WEIGHTS = "rankdistil.weights"  # a graph's entry that tells of which weights it was made
WEIGHT_BITS = "rankdistil.weight_bits"  # of an 8-bit graph: 7 in one for processors without 8-bit dot products
FILES = {
    ("onnx", "float32"): "onnx/model.onnx",
    ("openvino", "float32"): "openvino/openvino_model.xml",
    ("openvino", "bfloat16"): "openvino/openvino_model.xml",  # the runtime rounds the weights of float32
    ("openvino", "int8"): "openvino/openvino_model_qint8_quantized.xml",
}
# By the bits of their weights, the most first. The last one has the name that other tools look for, as it is exact on AVX2 and
# ARM, too, where two products are summed in 16 bits; the first needs 8-bit dot products (AVX512_VNNI, AVX_VNNI).
INT8 = {8: "openvino/openvino_model_qint8_avx512_vnni.xml", 7: FILES["openvino", "int8"]}


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
    file = find_graph(folder, backend, precision)
    if not file.is_file():
        wanted = f"{backend},int8" if precision == "int8" else backend
        raise FileNotFoundError(
            f"{file} is not there; backend={backend} with dtype={precision} reads it. "
            f"Write it: python -m rankdistil.export run={path} to={wanted} (with data=<run> outside of a run)"
        )
    return file


def int8_levels() -> list[int]:
    """List the bits that an 8-bit graph's weights may have to be computed exactly here, the most first."""
    return [bits for bits in INT8 if bits <= (weight_bits() or min(LEVELS))]


def find_graph(folder: Path, backend: str, precision: str) -> Path:
    """Return where an export has a graph, or would have it: of 8-bit ones that which suits this processor best."""
    names = [INT8[bits] for bits in int8_levels()] if precision == "int8" else []
    files = [folder / name for name in names] or [folder / FILES[backend, precision]]
    return next((file for file in files if file.is_file()), files[-1])


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
    if bits not in int8_levels():
        raise ValueError(
            f"{file} was made for processors with 8-bit dot products (VNNI), and this one has none: large sums would come out "
            f"too small. Write one for all: python -m rankdistil.export run={file.parents[1]} to={file.parent.name},int8"
        )


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
    return _left(path, FILE, lambda held: held["rows"], [], f"run={path} to=int8 (with data=<run> outside of a run)")


def _left(path: str, name: str, read: Callable[[dict[str, Any]], Any], none: Any, again: str) -> Any:
    """Read what a command left in an export; ``none`` of a hub id, without the file, or if the weights changed since.

    Args:
        path: folder or hub id.
        name: of the file.
        read: takes what is wanted from what it holds.
        none: stands for nothing.
        again: words of the command that writes it.
    """
    folder = locate(path)
    if not isinstance(folder, Path) or not (folder / name).is_file():
        return none
    now = weights(folder)  # outside of what follows: weights that are damaged are no fault of the file
    try:
        held = json.loads((folder / name).read_text(encoding="utf-8"))
        return read(held) if held["weights"] == now else none
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / name} is damaged ({error!r}). Write it again: python -m rankdistil.export {again}"
        ) from None


FITTED = "fitted.json"


def write_fitted(export: Path, held: Mapping[str, Any]) -> None:
    """Write what was fitted to a ranker's scores into its export, see ``rankdistil.metrics.fitted.stored``."""
    write_json(export / FITTED, {"weights": weights(export), **held})


def read_fitted(path: str) -> tuple[Fusion | None, Platt | None]:
    """Read the fusion and the probability that an export keeps; neither of a hub id, or if the weights changed since.

    Raises:
        ValueError: if the file is damaged.
    """
    return _left(path, FITTED, restored, (None, None), "run=<run> to=fitted")


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
        if row["dtype"] != "float32" and _computable(path, row):
            return row["dtype"]
    return "float32"


def _computable(path: str, row: Mapping[str, Any]) -> bool:
    """Whether what was checked is what would be computed here, by the processor itself."""
    if row["dtype"] == "bfloat16" and not computes_bfloat16():
        return False
    if row["dtype"] == "int8" and weight_bits() is None:
        return False
    if row["backend"] == "torch":
        return row["weight_bits"] in (None, weight_bits())
    file = find_graph(Path(locate(path)), row["backend"], row["dtype"])
    return file.is_file() and row["weight_bits"] in (None, *(bits for bits, name in INT8.items() if file.match(name)))


IDENTITY = "torch.nn.modules.linear.Identity"


def write_export(
    folder: Path, ranker: CrossEncoder, tokenizer: "PreTrainedTokenizerFast", max_length: int, with_head: bool = True,
    windows: Windows | None = None,
) -> None:  # fmt: skip
    """Write config, safetensors and tokenizer; the folder appears in one step, an old one is replaced last.

    Args:
        folder: the export folder.
        ranker: a ranker with one logit.
        tokenizer: its tokenizer.
        max_length: tokens of a pair at most.
        with_head: False for a student whose head nothing has trained: it is written as the language model that it is.
        windows: that it was trained and measured with, which our own tools then read documents in; None cuts them.
    """
    with built(folder) as place:
        (ranker.bert if with_head else ranker.bert.base_model).save_pretrained(place)
        _write_tokenizer(place, tokenizer, max_length)
        if with_head:  # else sentence-transformers and transformers' pipeline put a sigmoid over one label, which saturates
            _edit(place / "config.json", sentence_transformers={"activation_fn": IDENTITY}, problem_type="regression")
        own = None if windows is None or not with_head else {"windows": windows.values()}
        if own is not None or hasattr(ranker.config, OWN):  # a student's config is its teacher's, with another shape
            _edit(place / "config.json", **{OWN: own})


def _write_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerFast", max_length: int) -> None:
    """Write a tokenizer that cuts pairs by the one rule wherever it is read, and takes ``[SEP]`` in a text for text.

    transformers and sentence-transformers hear ``model_max_length``, readers of ``tokenizer.json`` alone the truncation in it,
    Text Embeddings Inference and vLLM ``sentence_bert_config.json``. fastembed hears ``max_length``, too, where the encoder of
    single texts that a ranker started from may have left a smaller number.
    """
    own = tokenizer.backend_tokenizer
    own.no_padding()  # which its last caller may have left
    own.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(folder)
    lengths = {"model_max_length": max_length, "max_length": max_length}
    _edit(folder / "tokenizer_config.json", **lengths, split_special_tokens=True)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    write_json(folder / "special_tokens_map.json", special)


def _edit(file: Path, **values: object) -> None:
    """Set values of a JSON file; None takes one out."""
    held = json.loads(file.read_text(encoding="utf-8")) | values
    write_json(file, {key: value for key, value in held.items() if key not in values or value is not None})


OWN = "rankdistil"  # key of config.json: what no other tool reads


def read_windows(path: str, config: "PretrainedConfig") -> Windows | None:
    """Read the windows that a ranker was trained and measured with; None for one that cuts documents.

    Args:
        path: folder or hub id, for messages.
        config: its.

    Raises:
        ValueError: if what stands there can't be read.
    """
    held = getattr(config, OWN, None) or {}
    try:
        return Windows.of(held.get("windows"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {OWN} in its config.json is {held!r}, which can't be read ({error}). Remove it.") from None
