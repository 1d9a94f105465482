"""Graphs for other runtimes, kept where they rank as torch does."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rankdistil.cli import console
from rankdistil.held_out import MEASURE, HeldOut, JudgedPairs, open_held_out
from rankdistil.inference.backend import open_graph
from rankdistil.inference.engine import Engine, Network
from rankdistil.inference.exported import FILES, weights
from rankdistil.inference.graphs import put, remove, require_packages, staged, write_graphs
from rankdistil.inference.machine import processor
from rankdistil.inference.padded import text_batches
from rankdistil.inference.precisions import HARMLESS, choose, write_precisions
from rankdistil.inference.processor import LEVELS
from rankdistil.inference.torch_network import TorchNetwork
from rankdistil.metrics.fidelity import kendall_tau
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.load import load_ranker
from rankdistil.report.export_check import Check, Quality, check_table, write_checks
from rankdistil.report.table import print_plain

CPU = torch.device("cpu")
EXACT = 1e-4  # bound of float32: what sums in another order may do to two passages that score all but alike
CALIBRATION = 300  # validation pairs that 8-bit ranges are found on
CALIBRATION_TOKENS = 1024  # of one batch of them


def export(folder: Path, run: Path, kinds: Collection[str], pairs: int, bound: float) -> None:
    """Write graphs into an export, compare all that it has with torch in float32, and say so in its model card.

    Args:
        folder: the export.
        run: gives the data.
        kinds: what to write, some of ``onnx``, ``openvino`` and ``int8``; ``int8`` alone writes no graph.
        pairs: of validation and of test that are scored, each at most.
        bound: largest change of the validation's nDCG@10 in bfloat16 and int8.

    Raises:
        ValueError: if a package is missing, or a graph exceeds its bound; it is removed.
    """
    require_packages(kinds)
    ranker = load_ranker(str(folder)).eval()
    data = open_held_out(run, str(folder), pairs, CALIBRATION)  # set apart for all, so that all are judged by the same pairs
    screen = console()
    with staged(folder) as stage:
        batches = text_batches(data.others, data.encoder, CALIBRATION_TOKENS)
        written = write_graphs(ranker, kinds, stage, batches, weights(folder))
        checks, notes = _compare(ranker, data, _ways(folder, stage), bound)
        failed = [check for check in checks if check.backend != "torch" and not check.passes]
        unfit = {FILES[each.backend, each.precision] for each in failed if each.precision != "bfloat16"}
        for name in written:
            if name not in unfit:
                put(stage, folder, name)
        for name in unfit:
            remove(folder, name)
    title = _keep(folder, data, checks)
    screen.print(check_table(checks, title))
    chosen = f"dtype=auto on this processor: {choose(str(folder), 'torch', CPU)}"
    print_plain(screen, [*notes, chosen, f"files: {folder}/  {'  '.join(name for name in written if name not in unfit)}"])
    if failed:
        raise ValueError("\n".join(_told(check, checks[0], folder) for check in failed))


def check_int8(folder: Path, run: Path, pairs: int = 500) -> dict[str, float]:
    """Score a run's held-out pairs in 8 bits on torch, and keep in the export how much that changes: what ``auto`` goes by.

    Args:
        folder: the export, whose earlier check is replaced.
        run: gives the data.
        pairs: of validation and of test that are scored, each at most.

    Returns:
        Change of the validation's nDCG@10 by precision.
    """
    data = open_held_out(run, str(folder), pairs, CALIBRATION)
    ways = [way for way in _torch_ways() if way.precision == "int8"]
    checks, _ = _compare(load_ranker(str(folder)).eval(), data, ways, HARMLESS)
    _keep(folder, data, checks)
    return {check.name: check.valid.change for check in checks[1:]}


class Way(NamedTuple):
    """A way to compute scores. Attributes: file: the graph, None on torch; weight_bits: of int8 on torch."""

    backend: str
    precision: str
    file: Path | None = None
    weight_bits: int | None = None


def _compare(ranker: CrossEncoder, data: HeldOut, ways: Iterable[Way], bound: float) -> tuple[list[Check], list[str]]:
    """Score the pairs in every way; return the rows, and notes on those that can't be had here."""
    splits, notes = (data.test, data.valid), []
    reference = [_score(TorchNetwork(ranker, data.encoder, CPU), data, split) for split in splits]
    orders, ndcgs = zip(*(split.orders(scores) for split, scores in zip(splits, reference, strict=True)), strict=True)
    checks = [Check("torch", "float32", 0.0, 1.0, *(Quality(ndcg, 0.0) for ndcg in ndcgs), None)]
    for way in ways:
        print(f"scoring {sum(len(split.pairs) for split in splits)} pairs: {way.backend} {way.precision}", flush=True)
        try:
            network = _network(ranker, data, way)
        except ValueError as error:
            notes.append(f"not compared: {way.backend} {way.precision}: {error}")
            continue
        scores = [_score(network, data, split) for split in splits]
        found, values = zip(*(split.orders(own) for split, own in zip(splits, scores, strict=True)), strict=True)
        largest, tau = float(np.abs(np.subtract(scores[0], reference[0])).max()), kendall_tau(orders[0], found[0])
        limit = EXACT if way.precision == "float32" else bound
        bits = way.weight_bits or getattr(network, "weight_bits", None)
        changed = (Quality(value, value - ndcg) for value, ndcg in zip(values, ndcgs, strict=True))
        checks.append(Check(*way[:2], largest, 1.0 if tau is None else tau, *changed, limit, bits))
    return checks, notes


def _torch_ways() -> list[Way]:
    """List torch's ways but float32. Both kinds of 8 bits: what one processor lacks is emulated, for others that have it."""
    return [Way("torch", "bfloat16"), *(Way("torch", "int8", weight_bits=bits) for bits in LEVELS)]


def _ways(folder: Path, stage: Path) -> Iterator[Way]:
    """Yield every way to compute scores; new graphs go before old ones."""
    yield from _torch_ways()
    for (backend, precision), name in FILES.items():
        file = next((place / name for place in (stage, folder) if (place / name).is_file()), None)
        if file is not None:
            yield Way(backend, precision, file)


def _network(ranker: CrossEncoder, data: HeldOut, way: Way) -> Network:
    if way.file is None:
        return TorchNetwork(ranker, data.encoder, CPU, way.precision, weight_bits=way.weight_bits)
    return open_graph(way.backend, way.file, data.encoder, way.precision)


def _keep(folder: Path, data: HeldOut, checks: Sequence[Check]) -> str:
    """Write a check's rows into the export and its model card; return what was scored."""
    title = f"{data.test.told()}, against torch in float32; kept by {data.valid.told()}"
    rows = [
        {"backend": each.backend, "dtype": each.precision, "weight_bits": each.weight_bits, "ndcg": each.valid.ndcg,
         "change": each.valid.change, "test_ndcg": each.test.ndcg, "test_change": each.test.change, "tau": each.tau,
         "largest_difference": each.largest}
        for each in checks
    ]  # fmt: skip
    write_precisions(folder, rows, {"measure": MEASURE, "scored": title, "processor": processor()})
    write_checks(folder, checks, f"Scores of {title}.")
    return title


def _score(network: Network, data: HeldOut, split: JudgedPairs) -> list[float]:
    return np.asarray(Engine(network, data.encoder).score(split.pairs)[0]).tolist()


def _told(check: Check, reference: Check, folder: Path) -> str:
    text = (
        f"{check.backend} {check.precision} changes the validation's {MEASURE} by {check.valid.change:+.5f} "
        f"({reference.valid.ndcg:.4f} -> {check.valid.ndcg:.4f}); allowed are {check.bound:g}. "
    )
    if check.precision == "bfloat16":
        return f"{text}Its graph stays, for float32. Don't use dtype=bfloat16 with this ranker, or allow more: bound=<number>."
    removed = f"{folder / FILES[check.backend, check.precision]} was removed."
    if check.precision == "float32":
        return f"{text}{removed} The graph computes something else: please report it."
    return f"{text}{removed} Use another precision, or allow more: bound=<number>."
