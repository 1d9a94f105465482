"""Lightning's Trainer as every stage and test uses it."""

from collections.abc import Sequence
from typing import Any

import lightning as L

from rankdistil.processes import ranks


def build_trainer(
    arguments: dict[str, Any], callbacks: Sequence[L.Callback], plugins: Sequence[Any] = (), **more: Any
) -> L.Trainer:
    """Build a Trainer that shards no data by itself and prints nothing.

    Args:
        arguments: those that say where to run (``parts.trainer_arguments``), ``timeout`` among them.
        callbacks: they see everything in this order.
        plugins: those of the Trainer, besides the one that tells it which process this is.
        more: further arguments of the Trainer.
    """
    arguments = dict(arguments)
    rank = ranks.current()
    del arguments["timeout"]  # of the process group, which is there before
    if rank is not None and rank.world > 1 and arguments.get("strategy", "auto") == "auto":
        arguments["strategy"] = "ddp"  # what Lightning would choose
    return L.Trainer(
        **arguments | more,
        callbacks=[*callbacks],
        plugins=[*plugins, ranks.environment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
