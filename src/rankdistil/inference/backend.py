"""What computes the scores: torch, or a runtime that reads an exported graph."""

from pathlib import Path

import torch

from rankdistil.data.encode import PairEncoder
from rankdistil.inference.engine import Network, require_threads
from rankdistil.inference.exported import find_exported, weights

BACKENDS = ("torch", "onnx", "openvino")


def open_network(backend: str, path: str, encoder: PairEncoder, device: torch.device, precision: str) -> Network:
    """Load a ranker.

    Args:
        backend: one of ``BACKENDS``.
        path: folder or hub id.
        encoder: of its tokens.
        device: where it runs.
        precision: one of those that the backend has.

    Raises:
        FileNotFoundError: if the runtime's file isn't there, with the command that writes it.
        RuntimeError: in a process that was forked from one that has loaded a ranker.
        ValueError: for a backend, device or precision that can't be had.
    """
    require_threads()
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}.")
    if backend == "torch":
        from rankdistil.inference.torch_network import TorchNetwork
        from rankdistil.models.load import load_cross_encoder

        return TorchNetwork(load_cross_encoder(path), encoder, device, precision)
    if device.type != "cpu":
        raise ValueError(f"backend={backend} runs on CPUs only, not on {device}. Give device='cpu', or use backend='torch'.")
    file = find_exported(path, backend, precision)
    return open_graph(backend, file, encoder, precision, weights(file.parents[1]))


def open_graph(backend: str, file: Path, encoder: PairEncoder, precision: str, weights: str | None = None) -> Network:
    """Load an exported graph.

    Args:
        backend: ``onnx`` or ``openvino``.
        file: the graph.
        encoder: of its tokens.
        precision: one of those that the backend has.
        weights: tells of which weights it has to be made; None takes any.

    Raises:
        ValueError: if the backend's package isn't installed, this CPU can't compute the precision, or the graph is of others.
    """
    if backend == "onnx":
        from rankdistil.inference.onnx_network import OnnxNetwork

        return OnnxNetwork(file, encoder, precision, weights)
    from rankdistil.inference.openvino_network import OpenVinoNetwork

    return OpenVinoNetwork(file, encoder, precision, weights)
