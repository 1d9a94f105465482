"""Export validation: graphs for other runtimes are kept where they rank as torch does on held-out queries.

What is kept is chosen on validation queries: a choice on test queries would make the test's number the best of several.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import OmegaConf

from rankdistil.cli import console
from rankdistil.config.choices import each_test
from rankdistil.data.batches.datamodule import RankingDataModule, evenly
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair, Qrels
from rankdistil.files import built, write_text
from rankdistil.inference.engine import Engine, Network, TorchNetwork, open_graph
from rankdistil.inference.export_files import FILES, choose, weights, write_precisions
from rankdistil.inference.machine import LEVELS, processor
from rankdistil.inference.onnx import input_names, text_batches
from rankdistil.inference.write_graphs import put, remove, require_packages, staged, write_graphs
from rankdistil.metrics.comparing import kendall_tau
from rankdistil.metrics.ranking import means, passage_ids, per_query, ranked
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_ranker, load_tokenizer, read_config
from rankdistil.models.families import max_positions
from rankdistil.models.vocabulary import TOKENISER, seen_tokens, trim
from rankdistil.report.graphs import Check, Quality, check_columns, write_checks
from rankdistil.report.tables import Column, print_plain, to_markdown, to_table
from rankdistil.stages import data as run_data

MEASURE = "nDCG@10"


class JudgedPairs(NamedTuple):
    """Pairs of a split.

    Attributes:
        name: of the split.
        pairs: candidates of some of its queries, all of each.
        qrels: judgments of these queries.
    """

    name: str
    pairs: list[Pair]
    qrels: Qrels

    def told(self) -> str:
        """Say how many, of what."""
        return f"{len(self.pairs)} pairs of {len(self.qrels)} queries of {self.name}"

    def orders(self, scores: list[float]) -> tuple[Mapping[str, list[str]], float]:
        """Rank the pairs by their scores; return the order of each query's passages, and the mean nDCG@10."""
        found: dict[str, dict[str, float]] = {query: {} for query in self.qrels}
        for pair, score in zip(self.pairs, scores, strict=True):
            found[pair.query_id][pair.passage_id] = score
        ranking = ranked(found)
        return passage_ids(ranking), means(per_query(ranking, self.qrels))[MEASURE]


class HeldOut(NamedTuple):
    """Pairs of a run's data.

    Attributes:
        valid: what decides whether a graph is kept.
        test: what is reported.
        others: pairs of other validation queries than those, to find 8-bit ranges on; of the same where there is one only.
        encoder: with the run's length.
    """

    valid: JudgedPairs
    test: JudgedPairs
    others: list[Pair]
    encoder: PairEncoder


def open_held_out(run: Path, export: str, pairs: int, others: int) -> HeldOut:
    """Open the data of a run.

    Args:
        run: its folder.
        export: says which tokens there are.
        pairs: of validation and of test, each at most, but those of one query at least; queries are taken from all over the
            split.
        others: pairs at most to find ranges on.

    Raises:
        ValueError: if the data can't be used, or no query of a split has candidates.
    """
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    settings = OmegaConf.create({"data": each_test(cfg.data)[0]})
    run_data.fetch_data(settings, train=False, valid=True)
    encoder = run_data.build_encoder(settings.data, load_tokenizer(export), max_positions(read_config(export)))
    readers = (run_data.open_reader(settings.data, split) for split in ("valid", "test"))
    data = RankingDataModule(None, *readers, encoder, run_data.data_settings(settings.data), cfg.seed)
    able = _able(data, "valid")
    apart = _spread(able, data.task("valid").candidates, others)[: len(able) // 2] if others else []
    valid = _judged(data, "valid", [query for query in able if query not in apart], pairs)
    test = _judged(data, "test", _able(data, "test"), pairs)
    fitted = _pairs(data, "valid", apart) if apart else valid.pairs
    return HeldOut(valid, test, fitted[:: max(-(-len(fitted) // others), 1)] if others else [], encoder)


def _able(data: RankingDataModule, split: str) -> list[str]:
    task = data.task(split)
    found = [query for query, row in task.candidates.items() if row]
    if not found:
        raise ValueError(f"no query of {task.name} has candidates: exports can't be checked on them.")
    return found


def _judged(data: RankingDataModule, split: str, queries: Sequence[str], pairs: int) -> JudgedPairs:
    task = data.task(split)
    chosen = _spread(queries, task.candidates, pairs)
    return JudgedPairs(task.name, _pairs(data, split, chosen), {query: task.qrels[query] for query in chosen})


def _pairs(data: RankingDataModule, split: str, queries: Sequence[str]) -> list[Pair]:
    return data.pairs(split, {query: data.task(split).candidates[query] for query in queries})


def _spread(queries: Sequence[str], candidates: Mapping[str, list], pairs: int) -> Sequence[str]:
    """Choose queries at equal distances, with at most so many candidates in all."""
    mean = sum(len(candidates[query]) for query in queries) / max(len(queries), 1)
    return evenly(queries, max(int(pairs // max(mean, 1)), 1))


CPU = torch.device("cpu")
EXACT = 1e-4  # bound of float32: what sums in another order may do to two passages that score all but alike
CALIBRATION = 300  # validation pairs that 8-bit ranges are found on
CALIBRATION_TOKENS = 1024  # of one batch of them
TRIMMED = "_trimmed"


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
        batches = text_batches(data.others, data.encoder, CALIBRATION_TOKENS, input_names(ranker))
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
    screen.print(to_table(check_columns(checks), title))
    chosen = f"dtype=auto on this processor: {choose(str(folder), 'torch', CPU)}"
    print_plain(screen, [*notes, chosen, f"files: {folder}/  {'  '.join(name for name in written if name not in unfit)}"])
    if failed:
        raise ValueError("\n".join(_told(check, checks[0], folder) for check in failed))


def export_trimmed(folder: Path, run: Path, pairs: int, bound: float) -> None:
    """Write an export again, beside itself, with the tokens of a run's collection and training queries alone.

    Args:
        folder: the export; the smaller one's name ends in ``_trimmed``.
        run: gives the data.
        pairs: of validation and of test that are scored with both, each at most.
        bound: largest change of the validation's nDCG@10.

    Raises:
        ValueError: if it exceeds its bound; the smaller export is removed.
    """
    data = open_held_out(run, str(folder), pairs, 0)
    reader = run_data.open_reader(OmegaConf.load(run / ".hydra" / "config.yaml").data, "train")
    print(f"reading the tokens of {reader.label}", flush=True)
    seen = seen_tokens(data.encoder, chain((text for _, text in reader.passages()), reader.queries.values()))
    smaller = folder.with_name(f"{folder.name}{TRIMMED}")
    with built(smaller) as place:
        sizes = trim(folder, place, seen)
        check = _compare(load_ranker(str(folder)).eval(), data, [Way("torch", "float32", place)], bound)[0][1]
        told = (
            f"Scores of {data.test.told()} differ by {check.largest:.2g} at most (tau {check.tau:.4f}); {MEASURE} of "
            f"validation by {check.valid.change:+.5f}, of the test by {check.test.change:+.5f}."
        )
        if abs(check.valid.change) > bound:
            raise ValueError(
                f"{told} Allowed in validation are {bound:g}: {smaller} isn't written. Allow more: bound=<number>."
            )
        rows = [Column("", ["tokens", "weights, MB", f"{TOKENISER}, MB"], text=True)]
        for name, size, of in zip(("before", "after"), sizes, (folder, place), strict=True):
            rows.append(Column(name, [f"{size:,}", *(f"{_megabytes(of, kind):.1f}" for kind in ("*.safetensors", TOKENISER))]))
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8").rstrip("\n") if card.is_file() else f"# {smaller.name}"
        title = f"## Vocabulary\n\nCut down to the tokens of {reader.label}: other texts fall into more, shorter ones. {told}"
        write_text(place / "README.md", f"{text}\n\n{title}\n\n{to_markdown(rows)}")
    screen = console()
    screen.print(to_table(rows, "vocabulary"))
    print_plain(screen, [told, f"files: {smaller}/"])


def _megabytes(folder: Path, pattern: str) -> float:
    return sum(file.stat().st_size for file in folder.glob(pattern)) / 1e6


class Way(NamedTuple):
    """A way to compute scores. Attributes: file: graph, on torch a trimmed export or None; weight_bits: of int8 on torch."""

    backend: str
    precision: str
    file: Path | None = None
    weight_bits: int | None = None


def _compare(ranker: CrossEncoder, data: HeldOut, ways: Iterable[Way], bound: float) -> tuple[list[Check], list[str]]:
    """Score the pairs in every way; return the rows, and notes on those that can't be had here."""
    splits, notes = (data.test, data.valid), []
    reference = [_score(TorchNetwork(ranker, data.encoder, CPU), data.encoder, split) for split in splits]
    orders, ndcgs = zip(*(split.orders(scores) for split, scores in zip(splits, reference, strict=True)), strict=True)
    checks = [Check("torch", "float32", 0.0, 1.0, *(Quality(ndcg, 0.0) for ndcg in ndcgs), None)]
    for way in ways:
        print(f"scoring {sum(len(split.pairs) for split in splits)} pairs: {way.backend} {way.precision}", flush=True)
        try:
            network, encoder = _opened(ranker, data, way)
        except ValueError as error:
            notes.append(f"not compared: {way.backend} {way.precision}: {error}")
            continue
        scores = [_score(network, encoder, split) for split in splits]
        found, values = zip(*(split.orders(own) for split, own in zip(splits, scores, strict=True)), strict=True)
        largest, tau = float(np.abs(np.subtract(scores[0], reference[0])).max()), kendall_tau(orders[0], found[0])
        limit = EXACT if way.precision == "float32" else bound
        bits = way.weight_bits or getattr(network, "weight_bits", None)
        changed = (Quality(value, value - ndcg) for value, ndcg in zip(values, ndcgs, strict=True))
        checks.append(Check(*way[:2], largest, 1.0 if tau is None else tau, *changed, limit, bits))
    return checks, notes


def _ways(folder: Path, stage: Path) -> Iterator[Way]:
    """Yield every way to compute scores but torch in float32; new graphs go before old ones."""
    yield Way("torch", "bfloat16")
    yield from (Way("torch", "int8", weight_bits=bits) for bits in LEVELS)  # one that this processor lacks is emulated
    for (backend, precision), name in FILES.items():
        file = next((place / name for place in (stage, folder) if (place / name).is_file()), None)
        if file is not None:
            yield Way(backend, precision, file)


def _opened(ranker: CrossEncoder, data: HeldOut, way: Way) -> tuple[Network, PairEncoder]:
    encoder = data.encoder
    if way.backend != "torch":
        return open_graph(way.backend, way.file, encoder, way.precision), encoder
    if way.file is not None:
        ranker = load_ranker(str(way.file)).eval()
        encoder = PairEncoder(load_tokenizer(str(way.file)), encoder.max_length, max_positions(ranker.config))
    return TorchNetwork(ranker, encoder, CPU, way.precision, weight_bits=way.weight_bits), encoder


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


def _score(network: Network, encoder: PairEncoder, split: JudgedPairs) -> list[float]:
    return np.asarray(Engine(network, encoder).score(split.pairs)[0]).tolist()


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
