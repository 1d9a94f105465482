"""Teacher scores of all pairs that students may be trained on, written down by a stage of their own.

Our own ranker scores token ids that its students share, in float32. A teacher of another kind scores texts; how well it ranks
the test's candidates is measured before hours of scoring, as nobody else has.
"""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from rankdistil.callbacks.measurements import RankingMetrics, ScoreWriter
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.config.choices import asks_scorer, each_test, learnt_from, scorer_settings, teacher_name, tested_scorer
from rankdistil.data.batches.datamodule import RankingDataModule
from rankdistil.data.batches.stream import ShardStream
from rankdistil.data.collections.splits import write_trained_on
from rankdistil.data.collections.texts import Collection
from rankdistil.data.encode import Rows
from rankdistil.data.files.trec_runs import forget_run
from rankdistil.data.records import ScoredPairs, TextBatch
from rankdistil.data.stores.contents import tokenizer_fingerprint
from rankdistil.data.teacher_scores.folder import HEADER, SHARD, shard_name, texts_scored
from rankdistil.files import read_json, write_json
from rankdistil.metrics.ranking import MAIN
from rankdistil.models.checkpoints import load_ranker, load_tokenizer
from rankdistil.models.families import max_positions
from rankdistil.models.locate import identity
from rankdistil.report.run import data_notes
from rankdistil.report.tables import print_plain
from rankdistil.runs.record import begun, failure_recorded, read_record
from rankdistil.stages import data as run_data
from rankdistil.stages import networks
from rankdistil.stages.test import ScoringModule, build_runner
from rankdistil.stages.train import quieten
from rankdistil.teachers.scorers import Scorer, open_scorer
from rankdistil.words import require

FOLDER = "scores"
PRECISION = {"float32": "32-true", "bfloat16": "bf16-true"}  # as Lightning calls them


class Teacher(NamedTuple):
    """What scores.

    Attributes:
        module: gives the scores of a batch.
        data: gives the batches.
        made_of: what scores depend on, besides the texts.
        scorer: of another kind than our rankers; None for one of these.
    """

    module: L.LightningModule
    data: RankingDataModule
    made_of: dict[str, Any]
    scorer: Scorer | None = None


def run_scoring(cfg: DictConfig, folder: Path, settings: dict[str, Any], parents: dict[str, Any], console: Console) -> None:
    """Score the training pairs, shard by shard; shards that are there stay.

    Args:
        cfg: a checked config.
        folder: the run folder.
        settings: what decides the outcome; written into ``run.json``.
        parents: the teacher; written too.
        console: where the closing lines go.
    """
    quieten()
    require("pyarrow", "experiment=score_teacher (Parquet)")  # before hours of scoring, not after
    before = read_record(folder) or {}
    teacher = open_teacher(cfg)
    data, target = teacher.data, folder / FOLDER
    texts = texts_scored(run_data.open_reader(cfg.data, "train"))
    collection, source = data.open_training()
    if tested_scorer(cfg):
        data.open_test()
    forget_run()
    pairs = source.pairs()
    again = before.get("status") == "finished"
    record = before if again else before | begun(cfg, settings, parents)
    record |= {"pairs": len(pairs), "ranks": False, "data": data.account(), "precision": PRECISION[teacher.made_of["dtype"]]}
    first = rank_zero_only.rank == 0
    if first:
        print_plain(console, [*(teacher.scorer.notes if teacher.scorer else []), *data_notes(data.account())])
        write_json(folder / "run.json", record)
        if teacher.scorer is None:  # what another kind was trained on isn't known
            write_trained_on(folder, {}, learnt_from(cfg, parents))
    with nullcontext() if again else failure_recorded(folder, record):
        if tested_scorer(cfg):
            _test(cfg, teacher, folder, console if first else None)
        shards = write_scores(cfg, teacher, collection, pairs, target)
    if not first:
        return
    write_json(target / HEADER, {"made_of": teacher.made_of | texts, "shards": shards})
    record.pop("test_pending", None)
    finished = {} if again else {"status": "finished", "finished": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_json(folder / "run.json", record | finished)
    print_plain(
        console,
        [
            *told_cuts(teacher.scorer),
            f"teacher {teacher_name(cfg)}: scores of {len(pairs)} pairs. Train from them: teacher.scores={target}",
            f"files: {folder}/  {FOLDER}/  run.json{'  metrics.json  test.run' if tested_scorer(cfg) else ''}",
        ],
    )


def open_teacher(cfg: DictConfig) -> Teacher:
    """Open what scores, with the data of its run."""
    return _open_scorer(cfg) if asks_scorer(cfg) else _open_ranker(cfg)


def write_scores(cfg: DictConfig, teacher: Teacher, collection: Collection, pairs: Rows, folder: Path) -> dict[str, int]:
    """Score pairs, all processes together, and write them down shard by shard; shards that are there stay.

    Args:
        cfg: of the run.
        teacher: what scores.
        collection: the texts of the training split.
        pairs: rows of query and passage, (N, 2).
        folder: where shards go.

    Returns:
        Pairs of each shard, by its file.
    """
    shards = {number: pairs[at : at + SHARD] for number, at in enumerate(range(0, len(pairs), SHARD))}
    folder.mkdir(exist_ok=True)
    left = {number: rows for number, rows in shards.items() if not (folder / shard_name(number)).is_file()}
    if left:
        writer = ScoreWriter(folder, {number: len(rows) for number, rows in left.items()})
        runner = build_runner(
            run_data.trainer_arguments(cfg), [writer, ProgressReport(f"teacher {teacher_name(cfg)}", tested="scoring")]
        )
        place, encoder = (runner.global_rank, runner.world_size), teacher.data.encoder_of("train")
        stream = ShardStream(left, *collection, encoder, cfg.data.eval_batch_size, *place)
        runner.test(teacher.module, teacher.data.loader(stream), verbose=False)
        runner.strategy.barrier()
    return {shard_name(number): len(rows) for number, rows in shards.items()}


def _open_ranker(cfg: DictConfig) -> Teacher:
    network, tokenizer = load_ranker(networks.teacher_source(cfg)), load_tokenizer(networks.teacher_source(cfg))
    data = run_data.build_data(cfg, tokenizer, max_positions(network.config), cfg.seed, train=True)
    return Teacher(ScoringModule(network), data, _made_of(cfg, tokenizer))


def _made_of(cfg: DictConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return what scores depend on, besides the texts."""
    return {
        "teacher": identity(networks.teacher_source(cfg)),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "max_length": cfg.data.max_length,
        "dtype": "float32",
    }


def _open_scorer(cfg: DictConfig) -> Teacher:
    """Open a teacher of another kind. Its tokens are its own business: students needn't share them."""
    settings = scorer_settings(cfg)
    scorer = open_scorer(settings)
    told = settings.deciding() | {"max_length": scorer.max_length}
    made_of = {"teacher": identity(settings.path), "kind": settings.kind, "dtype": told.pop("dtype"), "scored_by": told}
    return Teacher(TextScoring(scorer), run_data.build_texts(cfg), made_of, scorer)


def _test(cfg: DictConfig, teacher: Teacher, folder: Path, console: Console | None) -> None:
    """Rank the candidates of the first test split, and say how well."""
    name, level = teacher_name(cfg), each_test(cfg.data)[0].test_relevance_level
    metrics = RankingMetrics(folder, level, tag="_".join(name.split()))
    runner = build_runner(run_data.trainer_arguments(cfg), [metrics, ProgressReport(f"teacher {name}")])
    runner.test(teacher.module, datamodule=teacher.data, verbose=False)
    runner.strategy.barrier()  # until the first process has written the files
    if console is None:
        return
    found = read_json(folder / "metrics.json", "Score again.")
    beside = f"{found['first_stage_name']} {found['first_stage'][MAIN]:.4f}"
    line = f"teacher {name}: {MAIN} {found['measures'][MAIN]:.4f} on {found['dataset']} ({found['queries']} queries; {beside})."
    print_plain(console, [line])


def told_cuts(scorer: Scorer | None) -> list[str]:
    """Say how many texts were cut, of those that this process read."""
    found = scorer.cuts().items() if scorer else ()
    return [
        f"{cut} of {of} {what} that were read have more than {scorer.max_length} tokens and are cut (teacher.max_length)."
        for what, (cut, of) in found
        if cut
    ]


class TextScoring(L.LightningModule):
    """Scores pairs of texts with a teacher of any kind."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.network, self._scorer = scorer.network, scorer  # the network moves with the module

    def test_step(self, batch: TextBatch, batch_idx: int) -> ScoredPairs:
        """Score a batch of pairs.

        Raises:
            ValueError: for a score that isn't finite, naming its pair.
        """
        scores = torch.from_numpy(self._scorer.score(batch.queries, batch.passages))
        for at in (~scores.isfinite()).nonzero().flatten().tolist()[:1]:
            pair = f"query {batch.query_ids[at]} and passage {batch.passage_ids[at]}" if batch.query_ids else "a pair"
            raise ValueError(
                f"the teacher's score of {pair} is {scores[at]}. Take another checkpoint, or "
                "teacher.dtype=float32 if it was bfloat16."
            )
        return batch.scored(scores)
