"""Teacher scores of all pairs that students may be trained on, written down by a stage of their own."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.ranking_metrics import ScoreWriter
from rankdistil.config.choices import learnt_from, teacher_name
from rankdistil.data.batches.stream import ShardStream
from rankdistil.data.collections.leaks import write_trained_on
from rankdistil.data.files.trec_runs import forget_run
from rankdistil.data.stores.contents import tokenizer_fingerprint
from rankdistil.data.teacher_scores.folder import HEADER, SHARD, shard_name, texts_scored
from rankdistil.files import require, write_json
from rankdistil.models.checkpoints import load_ranker, load_tokenizer
from rankdistil.models.families import max_positions
from rankdistil.models.locate import identity
from rankdistil.report.data import data_notes
from rankdistil.report.tables import print_plain
from rankdistil.runs.record import begun, failure_recorded
from rankdistil.stages import data as run_data
from rankdistil.stages import networks
from rankdistil.stages.test import ScoringModule, build_runner
from rankdistil.stages.train import quieten

FOLDER = "scores"


def run_scoring(cfg: DictConfig, folder: Path, settings: dict[str, Any], parents: dict[str, Any], console: Console) -> None:
    """Score the training pairs in float32, shard by shard; shards that are there stay.

    Args:
        cfg: a checked config.
        folder: the run folder.
        settings: what decides the outcome; written into ``run.json``.
        parents: the teacher; written too.
        console: where the closing lines go.
    """
    quieten()
    require("pyarrow", "experiment=score_teacher (Parquet)")  # before hours of scoring, not after
    teacher = load_ranker(networks.teacher_source(cfg))
    tokenizer = load_tokenizer(networks.teacher_source(cfg))
    data = run_data.build_data(cfg, tokenizer, max_positions(teacher.config), cfg.seed, train=True)
    target = folder / FOLDER
    texts = texts_scored(run_data.open_reader(cfg.data, "train"))
    collection, source = data.open_training()
    forget_run()
    pairs = source.pairs()
    shards = {number: pairs[at : at + SHARD] for number, at in enumerate(range(0, len(pairs), SHARD))}
    target.mkdir(exist_ok=True)
    left = {number: rows for number, rows in shards.items() if not (target / shard_name(number)).is_file()}
    record = begun(cfg, settings, parents) | {"pairs": len(pairs), "ranks": False, "data": data.account()}
    if rank_zero_only.rank == 0:
        print_plain(console, data_notes(data.account()))
        write_json(folder / "run.json", record)
        write_trained_on(folder, {}, learnt_from(cfg, parents))
    if left:
        with failure_recorded(folder, record):
            writer = ScoreWriter(target, {number: len(rows) for number, rows in left.items()})
            runner = build_runner(run_data.trainer_arguments(cfg), [writer, ProgressReport(f"teacher {teacher_name(cfg)}")])
            place = runner.global_rank, runner.world_size
            stream = ShardStream(left, *collection, data.encoder, cfg.data.eval_batch_size, *place)
            runner.test(ScoringModule(teacher), data.loader(stream), verbose=False)
            runner.strategy.barrier()
    if rank_zero_only.rank != 0:
        return
    made_of = _made_of(cfg, tokenizer) | texts
    write_json(target / HEADER, {"made_of": made_of, "shards": {shard_name(n): len(rows) for n, rows in shards.items()}})
    finished = {"status": "finished", "finished": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_json(folder / "run.json", record | finished)
    print_plain(
        console,
        [
            f"teacher {teacher_name(cfg)}: scores of {len(pairs)} pairs. Train from them: teacher.scores={target}",
            f"files: {folder}/  {FOLDER}/  run.json",
        ],
    )


def _made_of(cfg: DictConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return what scores depend on, besides the texts."""
    return {
        "teacher": identity(networks.teacher_source(cfg)),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "max_length": cfg.data.max_length,
        "dtype": "float32",
    }
