"""Lightning's Trainer as every stage and test uses it: how long processes wait for one another, and whose signals they hear."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.strategies import StrategyRegistry

from rankdistil.callbacks.stopping import RankPlaces
from rankdistil.processes import ranks
from rankdistil.processes.group import LATER_S


def build_trainer(
    arguments: dict[str, Any], callbacks: Sequence[L.Callback], plugins: Sequence[Any] = (), **more: Any
) -> L.Trainer:
    """Build a Trainer that shards no data by itself and prints nothing.

    Args:
        arguments: those that say where to run (``parts.trainer_arguments``), ``timeout``, in seconds, among them.
        callbacks: they see everything in this order.
        plugins: those of the Trainer, besides the one that tells it which process this is.
        more: further arguments of the Trainer.
    """
    arguments = dict(arguments)
    timeout, rank = arguments.pop("timeout"), ranks.current()
    if rank is not None and rank.world > 1 and arguments.get("strategy", "auto") == "auto":
        arguments["strategy"] = "ddp"  # what Lightning would choose
    if str(arguments.get("strategy")).startswith("ddp"):
        known = StrategyRegistry[arguments["strategy"]]
        arguments["strategy"] = known["strategy"](**known["init_params"], timeout=timedelta(seconds=timeout + LATER_S))
    return L.Trainer(
        **arguments | more,
        callbacks=[RankPlaces(), *callbacks],
        plugins=[*plugins, ranks.environment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
