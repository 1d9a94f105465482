"""Stops training before an update that would spread a number that is none over all weights."""

from collections.abc import Sequence
from functools import reduce
from math import isfinite
from operator import and_
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

NAMED = 50  # ids that the message names at most

Part = tuple[Sequence[str], Tensor]
"""Query ids of a batch's pairs (ids of its passages, in a stage that reads text alone), and its loss."""


def require_finite(norm: Tensor, parts: Sequence[Part], trainer: L.Trainer) -> None:
    """See that a step's losses and its gradient are finite: a finite loss may have an infinite gradient.

    All processes have one gradient, so all of them stop where it isn't finite, and none waits for another.

    Args:
        norm: of the gradient of all processes' batches, scalar.
        parts: this process's batches behind the gradient.
        trainer: knows the step, and the checkpoints.

    Raises:
        RuntimeError: naming the step, the norm, the batch's ids, and the last finite checkpoint. Batches whose own loss is
            finite are left out, if there are others.
    """
    if reduce(and_, [number.isfinite() for number in (norm, *(loss for _, loss in parts))]):  # one question to the device
        return
    told = [(list(dict.fromkeys(ids)), float(loss)) for ids, loss in parts]
    if trainer.world_size > 1 and not norm.isfinite():  # else the others have nothing to tell, and don't listen
        everywhere: list[list[tuple[list[str], float]]] = [[] for _ in range(trainer.world_size)]
        dist.all_gather_object(everywhere, told)
        told = [part for rank in everywhere for part in rank]
    bad = [part for part in told if not isfinite(part[1])] or told
    names = list(dict.fromkeys(name for ids, _ in bad for name in ids))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    raise RuntimeError(
        f"step {trainer.global_step + 1} of {trainer.max_steps}: the gradient's norm is {norm.item():g}, the loss "
        f"{' '.join(f'{loss:g}' for _, loss in bad[:4])}: stopped before the update, which would spoil all weights. Lower "
        f"stage.lr, or look at the batch, which the seed alone decides: {', '.join(names[:NAMED])}{more}. "
        f"{_last_finite(trainer)}"
    )


def _last_finite(trainer: L.Trainer) -> str:
    """Name the last checkpoint without such a number."""
    found = {}
    for path in {callback.best_model_path for callback in trainer.checkpoint_callbacks}:
        if path and Path(path).is_file():
            saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            if all(value.isfinite().all() for value in saved["state_dict"].values()):
                found[saved["global_step"]] = path
    return f"The last finite checkpoint is {found[max(found)]}, of step {max(found)}." if found else "No checkpoint was saved."
