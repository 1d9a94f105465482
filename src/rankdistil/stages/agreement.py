"""Agreement of an export's scores in every runtime and precision with torch in float32, on held-out pairs and long ones.

What is kept is chosen on validation queries: a choice on test queries would make the test's number the best of several.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from rankdistil.config.choices import each_test
from rankdistil.data.batches.datamodule import RankingDataModule, evenly
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair, Qrels
from rankdistil.inference.engine import Engine, Network, TorchNetwork, open_graph
from rankdistil.inference.export_files import FILES, INT8
from rankdistil.inference.machine import LEVELS
from rankdistil.inference.reranker import pair_length
from rankdistil.inference.tools import TOOLS, Scorer
from rankdistil.metrics.comparing import kendall_tau
from rankdistil.metrics.ranking import means, passage_ids, per_query, ranked
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_ranker, load_tokenizer, read_config
from rankdistil.models.families import max_positions
from rankdistil.report.graphs import Check, Quality
from rankdistil.runs.record import run_config
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
        encoder: with the export's length.
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
    cfg = run_config(run)
    settings = OmegaConf.create({"data": each_test(cfg.data)[0]})
    run_data.fetch_data(settings, train=False, valid=True)
    tokenizer, config = load_tokenizer(export), read_config(export)
    encoder = PairEncoder(tokenizer, pair_length(export, tokenizer, config), max_positions(config))
    readers = (run_data.open_reader(settings.data, split) for split in ("valid", "test"))
    # Pairs are read as texts: no store of tokens is needed, least of all one without the run's windows.
    data = RankingDataModule(None, *readers, None, run_data.data_settings(settings.data), cfg.seed)
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


class Way(NamedTuple):
    """A way to compute scores.

    Attributes:
        backend: ``torch``, ``onnx``, ``openvino``, or another's tool with its version.
        precision: what it computes in.
        opened: loads it; raises ``Unavailable`` where it can't be had, another's tool anything.
        weight_bits: of int8's weights.
        graph: its name in its export.
        foreign: whether another's tool computes.
    """

    backend: str
    precision: str
    opened: Callable[[], Scorer]
    weight_bits: int | None = None
    graph: str | None = None
    foreign: bool = False

    def __str__(self) -> str:
        """Name it."""
        bits = "" if self.weight_bits is None else f", {self.weight_bits}-bit weights"
        return f"{self.backend} {self.precision}{bits}"


def own_ways(ranker: CrossEncoder, encoder: PairEncoder, folders: Sequence[Path]) -> tuple[list[Way], list[str]]:
    """List our own ways to compute scores but torch in float32.

    Args:
        ranker: for those on torch.
        encoder: of its pairs.
        folders: hold graphs; those of the first go before those of the next.

    Returns:
        The ways, and of those whose graph is nowhere why.
    """

    def way(backend: str, precision: str, opened: Callable[[], Network], bits: int | None, graph: str | None = None) -> Way:
        return Way(backend, precision, partial(_scorer, opened, encoder), bits, graph)

    on_torch = partial(TorchNetwork, ranker, encoder, CPU)
    ways = [way("torch", "bfloat16", partial(on_torch, "bfloat16"), None)]
    ways += [way("torch", "int8", partial(on_torch, "int8", weight_bits=bits), bits) for bits in LEVELS]  # one is emulated
    graphs = [(*each, None, name) for each, name in FILES.items() if "int8" not in each]
    missing = {}
    for backend, precision, bits, name in [*graphs, *(("openvino", "int8", *level) for level in INT8.items())]:
        file = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if file is not None:
            ways.append(way(backend, precision, partial(open_graph, backend, file, encoder, precision), bits, name))
        else:
            missing.setdefault(name, f"{backend} {precision}: there is no {name}")
    return ways, [*missing.values()]


def tool_ways(export: Path) -> tuple[list[Way], list[str]]:
    """List others' tools that are installed and find what they read in an export; and of the others why not."""
    ways, missing = [], []
    for tool in TOOLS:
        if (version := tool.version) is None:
            missing.append(f"{tool.name}: not installed")
        elif not (export / tool.reads).is_file():
            missing.append(f"{tool.name} {version}: there is no {tool.reads}")
        else:
            ways.append(Way(f"{tool.name} {version}", "float32", partial(tool.opened, export), foreign=True))
    return ways, missing


def trimmed_way(export: Path, encoder: PairEncoder) -> Way:
    """Return the way to compute scores with a smaller export in float32."""

    def opened() -> Scorer:
        ranker = load_ranker(str(export)).eval()
        own = PairEncoder(load_tokenizer(str(export)), encoder.max_length, max_positions(ranker.config))
        return _scorer(partial(TorchNetwork, ranker, own, CPU), own)

    return Way("torch", "float32", opened)


class Unavailable(ValueError):
    """A way to compute scores can't be had here, for a reason that is no fault."""


def _scorer(opened: Callable[[], Network], encoder: PairEncoder) -> Scorer:
    try:
        engine = Engine(opened(), encoder)
    except ValueError as error:
        raise Unavailable(error) from None
    return lambda pairs: engine.score(pairs)[0]


class Reference:
    """What torch in float32 gives, and how far others are from it.

    Args:
        ranker: in evaluation mode.
        data: pairs to score.
        bound: largest change of the validation's nDCG@10 in bfloat16 and int8.
    """

    def __init__(self, ranker: CrossEncoder, data: HeldOut, bound: float) -> None:
        self._test, self._valid, self._bound = data.test, data.valid, bound
        self._probes = [*data.test.pairs[:PROBES], *_long(data.test.pairs, data.encoder.max_length)]
        scores = self._scores(_scorer(partial(TorchNetwork, ranker, data.encoder, CPU), data.encoder))
        self._test_logits, self._valid_logits = scores
        (self._orders, test), (_, valid) = self._ranked(scores)
        self.check = Check("torch", "float32", 0.0, 1.0, Quality(test, 0.0), Quality(valid, 0.0), None)

    def compare(self, ways: Iterable[Way]) -> tuple[list[Check], list[str]]:
        """Score the pairs in every way; return the rows, and why others can't be had here."""
        checks, missing = [], []
        for way in ways:
            print(f"scoring {len(self._test.pairs) + len(self._valid.pairs)} pairs: {way}", flush=True)
            try:
                checks.append(self._compared(way, way.opened()))
            except Exception as error:
                if not way.foreign and not isinstance(error, Unavailable):  # others' tools raise whatever they like
                    raise
                missing.append(f"{way}: {' '.join(str(error).split())}")
        return checks, missing

    def _compared(self, way: Way, score: Scorer) -> Check:
        scores = self._scores(score)
        alone = np.array([score([pair])[0] for pair in self._probes])
        expected = self._test_logits
        as_sigmoid = _within_0_and_1(scores[0]) and _apart(scores[0], _sigmoid(expected)) < _apart(scores[0], expected)
        expected = _sigmoid(expected) if as_sigmoid else expected
        (orders, test), (_, valid) = self._ranked(scores)
        tau = kendall_tau(self._orders, orders)
        return Check(
            *way[:2], float(np.abs(scores[0] - expected).max()), 1.0 if tau is None else tau,
            Quality(test, test - self.check.test.ndcg), Quality(valid, valid - self.check.valid.ndcg),
            EXACT if way.precision == "float32" else self._bound, way.weight_bits, way.graph,
            float(np.abs(alone - scores[0][-len(alone) :]).max()), as_sigmoid,
            float(scores[0][0]) if np.ptp(scores[0]) == 0 else None,
        )  # fmt: skip

    def _scores(self, score: Scorer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Score the test's pairs and the probes, and validation's pairs."""
        return np.array(score([*self._test.pairs, *self._probes]), float), np.array(score(self._valid.pairs), float)

    def _ranked(self, scores: Sequence[NDArray[np.float64]]) -> Iterator[tuple[Mapping[str, list[str]], float]]:
        for split, own in zip((self._test, self._valid), scores, strict=True):
            yield split.orders(own[: len(split.pairs)].tolist())


PROBES = 3  # pairs that are scored alone, too


def _long(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Make pairs that have to be cut: of a long passage, a long query, both."""
    query, passage = (_repeated(texts, most) for texts in ([pairs[0].query], [pair.passage for pair in pairs[:20]]))
    texts = (pairs[0].query, passage), (query, pairs[0].passage), (query, passage)
    return [Pair("", f"long {number}", *each) for number, each in enumerate(texts)]


def _repeated(texts: Sequence[str], words: int) -> str:
    """Repeat texts until there are so many words."""
    return " ".join(islice(cycle(" ".join(texts).split() or ["a"]), words))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 + np.tanh(logits / 2)) / 2  # no overflow


def _within_0_and_1(scores: NDArray[np.float64]) -> bool:
    return bool((scores >= 0).all() and (scores <= 1).all())


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).mean())
