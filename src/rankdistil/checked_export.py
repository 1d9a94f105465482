"""Graphs for other runtimes, kept where they rank as torch does."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from rankdistil.cli import console
from rankdistil.held_out import MEASURE, HeldOut, open_held_out
from rankdistil.inference.backend import open_graph
from rankdistil.inference.engine import Engine, Network
from rankdistil.inference.exported import FILES, weights
from rankdistil.inference.graphs import put, remove, require_packages, staged, write_graphs
from rankdistil.inference.packed_ranker import PRECISIONS
from rankdistil.inference.padded import text_batches
from rankdistil.inference.torch_network import TorchNetwork
from rankdistil.metrics.fidelity import kendall_tau
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.load import load_ranker
from rankdistil.report.export_check import Check, check_table, write_checks
from rankdistil.report.table import print_plain

EXACT = 1e-4  # bound of float32: what sums in another order may do to two passages that score all but alike
CALIBRATION = 300  # validation pairs that 8-bit ranges are found on
CALIBRATION_TOKENS = 1024  # of one batch of them


def export(folder: Path, run: Path, kinds: Collection[str], pairs: int, bound: float) -> None:
    """Write graphs into an export, compare all that it has with torch in float32, and say so in its model card.

    Args:
        folder: the export.
        run: gives the data.
        kinds: what to write, some of ``onnx``, ``openvino`` and ``int8``.
        pairs: test pairs that are scored, at most.
        bound: largest change of nDCG@10 in bfloat16 and int8.

    Raises:
        ValueError: if a package is missing, or a graph exceeds its bound; it is removed.
    """
    require_packages(kinds)
    ranker = load_ranker(str(folder)).eval()
    others = CALIBRATION if {"openvino", "int8"} <= {*kinds} else 0
    data = open_held_out(run, str(folder), pairs, others)
    screen = console()
    with staged(folder) as stage:
        batches = text_batches(data.others, data.encoder, CALIBRATION_TOKENS)
        written = write_graphs(ranker, kinds, stage, batches, weights(folder))
        checks, notes = _compare(ranker, data, folder, stage, bound)
        failed = [check for check in checks if check.backend != "torch" and not check.passes]
        unfit = {FILES[each.backend, each.precision] for each in failed if each.precision != "bfloat16"}
        for name in written:
            if name not in unfit:
                put(stage, folder, name)
        for name in unfit:
            remove(folder, name)
    title = f"{len(data.pairs)} pairs of {len(data.qrels)} queries of {data.test}, against torch in float32"
    write_checks(folder, checks, f"Scores of {title}.")
    screen.print(check_table(checks, title))
    print_plain(screen, [*notes, f"files: {folder}/  {'  '.join(name for name in written if name not in unfit)}"])
    if failed:
        raise ValueError("\n".join(_told(check, checks[0], folder) for check in failed))


def _compare(ranker: CrossEncoder, data: HeldOut, folder: Path, stage: Path, bound: float) -> tuple[list[Check], list[str]]:
    """Score the pairs with every runtime and precision; return the rows, and notes on those that can't be had here."""
    reference = np.array(_score(TorchNetwork(ranker, data.encoder, torch.device("cpu")), data))
    orders, ndcg = data.orders(reference.tolist())
    checks, notes = [Check("torch", "float32", 0.0, 1.0, ndcg, 0.0, None)], []
    for backend, precision, file in _ways(folder, stage):
        print(f"scoring {len(data.pairs)} pairs: {backend} {precision}", flush=True)
        try:
            network = _network(ranker, data, backend, precision, file)
        except ValueError as error:
            notes.append(f"not compared: {backend} {precision}: {error}")
            continue
        scores = np.array(_score(network, data))
        found, value = data.orders(scores.tolist())
        largest, tau = float(np.abs(scores - reference).max()), kendall_tau(orders, found)
        limit = EXACT if precision == "float32" else bound
        checks.append(Check(backend, precision, largest, 1.0 if tau is None else tau, value, value - ndcg, limit))
    return checks, notes


def _ways(folder: Path, stage: Path) -> Iterator[tuple[str, str, Path | None]]:
    """Yield backend, precision and graph of every way to compute scores; new graphs go before old ones."""
    yield from (("torch", precision, None) for precision in PRECISIONS if precision != "float32")
    for (backend, precision), name in FILES.items():
        file = next((place / name for place in (stage, folder) if (place / name).is_file()), None)
        if file is not None:
            yield backend, precision, file


def _network(ranker: CrossEncoder, data: HeldOut, backend: str, precision: str, file: Path | None) -> Network:
    if file is None:
        return TorchNetwork(ranker, data.encoder, torch.device("cpu"), precision)
    return open_graph(backend, file, data.encoder, precision)


def _score(network: Network, data: HeldOut) -> Sequence[float]:
    return Engine(network, data.encoder).score(data.pairs)[0]


def _told(check: Check, reference: Check, folder: Path) -> str:
    text = (
        f"{check.backend} {check.precision} changes {MEASURE} by {check.change:+.5f} "
        f"({reference.ndcg:.4f} -> {check.ndcg:.4f}); allowed are {check.bound:g}. "
    )
    if check.precision == "bfloat16":
        return f"{text}Its graph stays, for float32. Don't use dtype=bfloat16 with this ranker, or allow more: bound=<number>."
    removed = f"{folder / FILES[check.backend, check.precision]} was removed."
    if check.precision == "float32":
        return f"{text}{removed} The graph computes something else: please report it."
    return f"{text}{removed} Use another precision, or allow more: bound=<number>."
