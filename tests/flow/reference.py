"""One run for any number of processes whose weights stay as they start: then every number is one of the measuring alone."""

from pathlib import Path

from omegaconf import DictConfig
from support import composed

from rankdistil.commands.train import carry_out_prepared
from rankdistil.files import locked
from rankdistil.planning.plan import outcome_settings
from rankdistil.processes import launch
from rankdistil.runs.record import prepare

STILL = [
    "student=2l", "scale=smoke", "steps.finetune=1", "lr.finetune=1e-300", "data.eval_batch_size=2", "data.depth=4",
    "callbacks.inference_time.rounds=1",
]  # fmt: skip
FILES = ("metrics.json", "per_query.jsonl", "test.run")


def measure(folder: Path, number: int, *overrides: str) -> DictConfig:
    """Carry out a run in a folder, in this process or in several fresh ones, as train.py does once it has planned it."""
    cfg = composed("+experiment=finetune_6l", *STILL, *overrides)
    with locked(folder, wait=False) as lock:
        prepare(folder, cfg, outcome_settings(cfg, {}), {}, None)
        if number == 1:
            carry_out_prepared(folder)
        else:
            launch.run_in_fresh_process(folder, lock, number)
    return cfg
