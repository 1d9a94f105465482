"""Hard negatives of the training queries, mined by a teacher and written down as a TREC run, by a stage of their own.

An encoder of single texts searches the whole collection; a teacher that reads pairs ranks candidates again. Passages that are
judged relevant are none of the negatives; those that a margin takes for relevant, though nobody judged them, are left out.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch.distributed as dist
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console
from torch.utils.data import DataLoader

from rankdistil.callbacks.progress import ProgressReport
from rankdistil.config.choices import searches, teacher_name
from rankdistil.data.batches.texts import TextShards
from rankdistil.data.batches.training_groups import answers, known_judgments
from rankdistil.data.collections.texts import judgments, negative_candidates
from rankdistil.data.files.trec_runs import forget_run
from rankdistil.data.records import Candidate, Qrels, Ranking, TextBatch
from rankdistil.data.teacher_scores.folder import HEADER, load_scores, texts_scored
from rankdistil.files import called, write_json
from rankdistil.metrics.ranking import write_run
from rankdistil.processes.progress import Work
from rankdistil.report.run import data_notes
from rankdistil.report.tables import Column, print_plain, to_table
from rankdistil.runs.record import begun, failure_recorded, read_record
from rankdistil.stages import data as run_data
from rankdistil.stages.score_teacher import FOLDER, PRECISION, Teacher, open_teacher, told_cuts, write_scores
from rankdistil.stages.test import build_runner
from rankdistil.stages.train import quieten
from rankdistil.teachers.scorers import COSINES, TextScorer, Vector
from rankdistil.teachers.search import SHARD, Bounds, Hits, Mined, Rows, Vectors, id_order, pair_scores, search
from rankdistil.words import require

RUN, VECTORS = "negatives.run", "vectors"
TOPS = (1, 10, 100)


class Asked(NamedTuple):
    """What negatives are mined for.

    Attributes:
        queries: with a positive, text by id, ascending.
        positives: passages of each that answer it.
        relevant: passages of each that may not be its negatives.
    """

    queries: dict[str, str]
    positives: dict[str, list[str]]
    relevant: dict[str, list[str]]

    @classmethod
    def of(cls, texts: Mapping[str, str], judged: Qrels, level: int) -> "Asked":
        """Choose the queries.

        Args:
            texts: of the training queries, by id.
            judged: passages that the collection holds.
            level: lowest grade of a positive.

        Raises:
            ValueError: if there is none.
        """
        positives = {query: row for query, row in answers(judged, level).items() if row}
        if not positives:
            raise ValueError(
                f"no training query has a passage of grade {level} or more (data.relevance_level), so none can be trained on."
            )
        return cls({query: texts[query] for query in sorted(positives)}, positives, answers(judged, 1))

    def pairs(self, passages: Mapping[str, list[str]]) -> tuple[Rows, list[str]]:
        """Number the queries of some passages of each: (N,), and the passages."""
        rows = [passages[query] for query in self.queries]
        return np.repeat(np.arange(len(rows)), [len(row) for row in rows]), [key for row in rows for key in row]


class Outcome(NamedTuple):
    """What a teacher found.

    Attributes:
        ranking: negatives, best first.
        looked_through: what it looked through, in words, and how many.
        place: negatives above the best positive of each query; -1 where a positive wasn't looked at, (Q,).
        left_out: passages of each query that the margin leaves out, (Q,).
    """

    ranking: Ranking
    looked_through: tuple[str, int]
    place: Rows
    left_out: Rows


def run_mining(cfg: DictConfig, folder: Path, settings: dict[str, Any], parents: dict[str, Any], console: Console) -> None:
    """Mine hard negatives; vectors and scores that a stopped run left stay. Takes what ``run_scoring`` takes."""
    quieten()
    if not searches(cfg):
        require("pyarrow", "experiment=mine_negatives of a teacher that reads pairs (Parquet)")
    teacher = open_teacher(cfg)
    data, first = teacher.data, rank_zero_only.rank == 0
    reader, passages = data.readers[0], data.collection("train").passages
    judged = known_judgments(judgments(reader, passages), passages)
    asked = Asked.of(reader.queries, judged, cfg.data.relevance_level)
    record = (read_record(folder) or {}) | begun(cfg, settings, parents) | {"ranks": False}
    record |= {"data": data.account(), "precision": PRECISION[teacher.made_of["dtype"]]}
    if first:
        notes = [note for note in (teacher.scorer.notes if teacher.scorer else []) if note != COSINES]
        print_plain(console, [*notes, *data_notes(data.account())])
        write_json(folder / "run.json", record)
    with failure_recorded(folder, record):
        found = (_search if searches(cfg) else _rerank)(cfg, teacher, asked, folder)
        if not first:
            return
        forget_run()
        write_run(folder / RUN, found.ranking, "_".join(teacher_name(cfg).split()))
    shutil.rmtree(folder / VECTORS, ignore_errors=True)  # as large as the collection, and made again by any run
    record |= {"mined": _counts(found), "status": "finished", "finished": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_json(folder / "run.json", record)
    _tell(cfg, folder, record["mined"], len(reader.queries), teacher, console)


def _search(cfg: DictConfig, teacher: Teacher, asked: Asked, folder: Path) -> Outcome | None:
    """Search the whole collection by vectors; processes share the passages. Only the first one has the outcome."""
    reader, name = teacher.data.readers[0], teacher_name(cfg)
    ids = [key for key, _ in reader.passages()]
    files = {
        "queries": _encode(cfg, teacher, "queries", asked.queries.items, len(asked.queries), folder),
        "passages": _encode(cfg, teacher, "passages", reader.passages, len(ids), folder),
    }
    queries = Vectors.joined([Vectors.load(file) for file in files["queries"]])
    load = lambda number: Vectors.load(files["passages"][number])  # noqa: E731
    (query, good), relevant = asked.pairs(asked.positives), asked.pairs(asked.relevant)
    named = {*good, *relevant[1]}
    row = {key: at for at, key in enumerate(ids) if key in named}
    scores = pair_scores(queries, query, load, np.array([row[key] for key in good]))
    bounds = Bounds.of(len(queries), query, scores, cfg.data.negatives_margin)
    order, runner = id_order(ids), build_runner(run_data.trainer_arguments(cfg), [])
    own = range(runner.global_rank, len(files["passages"]), runner.world_size)
    mined = search(
        _shown(own, load, name), queries, (relevant[0], np.array([row[key] for key in relevant[1]])), bounds, order,
        cfg.stage.depth, runner.strategy.root_device,
    )  # fmt: skip
    parts = _gathered(mined)
    if not parts:
        return None
    mined = Mined.merged(parts, order, cfg.stage.depth)
    return Outcome(_ranking([*asked.queries], mined.hits, ids), ("passages", len(ids)), mined.above, mined.left_out)


def _shown(own: Sequence[int], load: Callable[[int], Vectors], name: str) -> Iterable[tuple[int, Vectors]]:
    """Read the shards of this process, and show how far the search is."""
    work = Work(f"teacher {name}: searching", len(own), "shards", "passages")
    try:
        for done, number in enumerate(own, 1):
            vectors = load(number)
            yield number * SHARD, vectors
            work.advance(done, len(vectors), due=done == len(own))
    finally:
        work.close()


def _encode(
    cfg: DictConfig, teacher: Teacher, side: str, texts: Callable[[], Iterable[tuple[str, str]]], count: int, folder: Path
) -> list[Path]:
    """Encode texts, all processes together, and write their vectors down shard by shard; shards that are there stay."""
    place = folder / VECTORS / side
    place.mkdir(parents=True, exist_ok=True)
    sizes = [min(SHARD, count - at) for at in range(0, count, SHARD)]
    files = [place / f"part-{number:05d}.npz" for number in range(len(sizes))]
    left = {number: sizes[number] for number, file in enumerate(files) if not file.is_file()}
    if left:
        progress = ProgressReport(f"teacher {teacher_name(cfg)}", tested=f"encoding {side}", rated=side)
        runner = build_runner(run_data.trainer_arguments(cfg), [VectorWriter(files, left), progress])
        stream = TextShards(texts, SHARD, left, runner.global_rank, runner.world_size)
        loader = DataLoader(stream, batch_size=None, collate_fn=lambda batch: batch)
        runner.test(TextEncoding(teacher.scorer, side), loader, verbose=False)
        runner.strategy.barrier()
    return files


class TextEncoding(L.LightningModule):
    """Encodes single texts; ``side``: ``queries`` or ``passages``."""

    def __init__(self, scorer: TextScorer, side: str) -> None:
        super().__init__()
        self.network, self._scorer, self._side = scorer.network, scorer, side  # the network moves with the module

    def test_step(self, batch: TextBatch, batch_idx: int) -> list[Vector]:
        """Encode a batch.

        Raises:
            ValueError: for a vector that isn't finite, naming its text.
        """
        found = self._scorer.encode(self._side, batch.passages)
        for at, vector in enumerate(found):
            if not np.isfinite(vector[1] if isinstance(vector, tuple) else vector).all():
                what = {"queries": "query", "passages": "passage"}[self._side]
                text = f"{what} {batch.query_ids[at]}" if batch.query_ids else f"a {what}"
                raise ValueError(
                    f"the teacher's vector of {text} isn't finite. Take another checkpoint, or teacher.dtype=float32 if it was "
                    "bfloat16."
                )
        return found


class VectorWriter(L.Callback):
    """Writes a shard once all of its texts are encoded.

    Args:
        files: of all shards, by number.
        sizes: texts of each that is wanted, by its number, which batches carry as their group.
    """

    def __init__(self, files: Sequence[Path], sizes: Mapping[int, int]) -> None:
        self._files, self._sizes = files, sizes
        self._encoded: list[Vector] = []

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: list[Vector], batch: TextBatch, *_: Any
    ) -> None:
        """Keep a batch; write its shard if it was the last one."""
        if not batch.query_ids:
            return
        number = int(batch.groups[0])
        self._encoded += outputs
        if len(self._encoded) == self._sizes[number]:
            Vectors.of(self._encoded).save(self._files[number])
            self._encoded = []


def _gathered(mined: Mined) -> list[Mined]:
    """Return what all processes found, in the first one; nothing in the others."""
    if not dist.is_initialized():
        return [mined]
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.gather_object(mined, everywhere if dist.get_rank() == 0 else None)
    return everywhere if dist.get_rank() == 0 else []


def _rerank(cfg: DictConfig, teacher: Teacher, asked: Asked, folder: Path) -> Outcome | None:
    """Rank the candidates of each query again; processes share the pairs. Only the first one has the outcome."""
    reader, collection, target = teacher.data.readers[0], teacher.data.collection("train"), folder / FOLDER
    found = negative_candidates(reader, cfg.data.negatives_depth, collection.passages, asked.queries)
    candidates = {query: [hit.passage_id for hit in row] for query, row in found.items()}
    sides = [asked.pairs(passages) for passages in (asked.positives, candidates)]
    numbers = collection.queries.rows([*asked.queries])
    pairs = [np.stack([numbers[query], collection.passages.rows(keys)], axis=1) for query, keys in sides]
    shards = write_scores(cfg, teacher, collection, np.unique(np.concatenate(pairs), axis=0), target)
    if rank_zero_only.rank != 0:
        return None
    write_json(target / HEADER, {"made_of": teacher.made_of | texts_scored(reader), "shards": shards})
    scores = load_scores(target, collection, {}, "the scores in ")
    good, every = (scores.of(*rows.T) for rows in pairs)
    bounds = Bounds.of(len(numbers), sides[0][0], good, cfg.data.negatives_margin)
    relevant = {query: set(row) for query, row in asked.relevant.items()}
    positive = {query: set(row) for query, row in asked.positives.items()}
    there = [(query, key in relevant[query], key in positive[query]) for query, row in candidates.items() for key in row]
    other = np.array([not judged for _, judged, _ in there], bool)
    answered = np.array([answers_it for *_, answers_it in there], bool)
    (query, keys), rows = sides[1], pairs[1][:, 1]
    seen = Bounds.of(len(numbers), query[answered], every[answered], None)
    ids, at = np.unique(rows, return_inverse=True)
    names = collection.passages.names(ids)
    hits = Hits(query[other], at[other], every[other])
    mined = Mined.among(hits, Bounds(seen.highest, bounds.limit), id_order(names), cfg.stage.depth)
    above = np.where(np.isfinite(seen.highest), mined.above, -1)
    return Outcome(_ranking([*asked.queries], mined.hits, names), ("candidates", len(keys)), above, mined.left_out)


def _ranking(queries: Sequence[str], hits: Hits, ids: Sequence[str]) -> Ranking:
    """Name hits that are in their order."""
    found: Ranking = {}
    for query, passage, score in zip(*(column.tolist() for column in hits), strict=True):
        found.setdefault(queries[query], []).append(Candidate(ids[passage], score))
    return found


def _counts(found: Outcome) -> dict[str, Any]:
    """Count, for ``run.json``."""
    what, looked_through = found.looked_through
    return {
        "queries": len(found.place),
        "queries_with_negatives": len(found.ranking),
        "negatives": sum(map(len, found.ranking.values())),
        what: looked_through,
        "left_out_by_margin": int(found.left_out.sum()),
        "positive_in_top": {str(top): float(((found.place >= 0) & (found.place < top)).mean()) for top in TOPS},
    }


def _tell(cfg: DictConfig, folder: Path, mined: dict[str, Any], queries: int, teacher: Teacher, console: Console) -> None:
    """Say what was found, where it is, and how it is used."""
    what = "passages" if "passages" in mined else "candidates"
    columns = [
        Column("queries", [str(mined["queries"])]),
        Column(what, [str(mined[what])]),
        Column("negatives", [str(mined["negatives"])]),
        Column("left out by\nthe margin", [str(mined["left_out_by_margin"])]),
        *(Column(f"positive in\ntop {top}", [f"{share:.1%}"]) for top, share in mined["positive_in_top"].items()),
    ]
    console.print(to_table(columns, f"negatives of {teacher_name(cfg)}"))
    lines, none = told_cuts(teacher.scorer), mined["queries"] - mined["queries_with_negatives"]
    if queries > mined["queries"]:
        lines.append(
            f"{queries - mined['queries']} of {queries} training queries have no relevant passage: none is mined for them."
        )
    if none:
        why = " that data.negatives_margin leaves" if mined["left_out_by_margin"] else ""
        lines.append(f"{none} of {mined['queries']} queries have no negative{why}: training leaves them out.")
    lines.append(f"Train on them: {called('train')} +experiment=infonce_6l data.negatives_runs=[{folder / RUN}]")
    scores = "" if searches(cfg) else f"  {FOLDER}/ (of all its pairs: teacher.scores={folder / FOLDER})"
    print_plain(console, [*lines, f"files: {folder}/  {RUN}  run.json{scores}"])
