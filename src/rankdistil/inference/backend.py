"""What computes the scores: torch, or a runtime that reads an exported graph."""

import torch

from rankdistil.data.encode import PairEncoder
from rankdistil.inference.engine import Network

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
        ValueError: for a backend, device or precision that can't be had.
    """
    if backend == "torch":
        from rankdistil.inference.torch_network import TorchNetwork
        from rankdistil.models.load import load_cross_encoder

        return TorchNetwork(load_cross_encoder(path), encoder, device, precision)
    raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}.")
