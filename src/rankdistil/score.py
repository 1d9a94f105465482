"""The stage that writes down a teacher's scores of all pairs that its students may be trained on."""

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from rankdistil import networks, parts
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.score_writer import ScoreWriter
from rankdistil.data.extras import require
from rankdistil.data.scores import HEADER, SHARD, shard_name, texts_scored
from rankdistil.data.store.tokens import tokenizer_fingerprint
from rankdistil.data.stream import ShardStream
from rankdistil.files import write_json
from rankdistil.fit import quieten
from rankdistil.lineage import fingerprint, identity, origin
from rankdistil.models.load import load_ranker, load_tokenizer
from rankdistil.modules import ScoringModule
from rankdistil.report.data import data_notes
from rankdistil.report.table import print_plain

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
    data = parts.build_data(cfg, tokenizer, teacher.config.max_position_embeddings, cfg.seed, train=True)
    collection, source = data.open_training()
    pairs = source.pairs()
    shards = {number: pairs[at : at + SHARD] for number, at in enumerate(range(0, len(pairs), SHARD))}
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    left = {number: rows for number, rows in shards.items() if not (target / shard_name(number)).is_file()}
    record = {
        "status": "running", "stage": cfg.stage.name, "method": cfg.method, "fingerprint": fingerprint(settings),
        "settings": settings, "seed": cfg.seed, "parents": parents, "origin": origin(), "pairs": len(pairs),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"), "ranks": False, "data": data.account(),
    }  # fmt: skip
    if rank_zero_only.rank == 0:
        print_plain(console, data_notes(data.account()))
        write_json(folder / "run.json", record)
    runner = L.Trainer(
        **parts.trainer_arguments(cfg) | {"precision": "32-true"},
        logger=False,
        callbacks=[
            ScoreWriter(target, {number: len(rows) for number, rows in left.items()}),
            ProgressReport(f"teacher {cfg.teacher.name}"),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if left:
        stream = ShardStream(left, *collection, data.encoder, cfg.data.eval_batch_size, runner.global_rank, runner.world_size)
        runner.test(ScoringModule(teacher), data.loader(stream), verbose=False)
        runner.strategy.barrier()
    if rank_zero_only.rank != 0:
        return
    made_of = {
        "teacher": identity(networks.teacher_source(cfg)),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "query_tokens": cfg.data.query_tokens,
        "passage_tokens": cfg.data.passage_tokens,
        "dtype": "float32",
        **texts_scored(parts.open_reader(cfg.data, "train")),
    }
    write_json(target / HEADER, {"made_of": made_of, "shards": {shard_name(n): len(rows) for n, rows in shards.items()}})
    finished = {"status": "finished", "finished": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_json(folder / "run.json", record | finished)
    print_plain(
        console,
        [
            f"teacher {cfg.teacher.name}: scores of {len(pairs)} pairs. Train from them: teacher.scores={target}",
            f"files: {folder}/  {FOLDER}/  run.json",
        ],
    )
