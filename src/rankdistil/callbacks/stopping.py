"""Graceful shutdown: a checkpoint on SIGTERM and the like, then the end of the run on all ranks."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rankdistil.processes.group import reduced
from rankdistil.processes.ranks import lost_peer
from rankdistil.processes.stopping import Stopped, drop_closed_outputs, taken

AGAIN = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # of a validation: begun, and nothing done


class OwnSignals(L.Callback):
    """Takes SIGTERM back from Lightning, whose handler talks to the other ranks from inside of the handler, and hangs there."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remember the handler that Lightning will replace."""
        self._own = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, *_: Any) -> None:
        """Put the handler back, which Lightning has replaced just before."""
        if signal.getsignal(signal.SIGTERM) is not self._own:
            signal.signal(signal.SIGTERM, self._own)

    on_sanity_check_start = on_test_start = on_train_start


class GracefulStop(OwnSignals):
    """After a signal to any rank, all save ``last.ckpt`` behind the same step, and raise ``Stopped``.

    A validation that is due or under way is left, and repeated when the run is resumed, so that it ends as an undisturbed one.

    Args:
        last: the checkpoint.
    """

    def __init__(self, last: Path) -> None:
        self._last = last
        self._signum = 0
        self._steps, self._accumulating, self._repeat = 0, False, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the Trainer runs.

        Raises:
            Stopped: behind the block, for a signal that came too late to be acted on in training; in place of the loss of
                another rank behind a signal: who starts the ranks sends one to those that are left, and says which one died.
        """
        with taken(self._remember):
            try:
                yield
            except SIGTERMException:  # Lightning has heard of it, before it was told not to, and has ended the training
                self._signum = self._signum or signal.SIGTERM
            except RuntimeError as error:
                if self._signum and lost_peer(str(error)):
                    raise Stopped(self._signum) from error
                raise
        if self._signum:
            raise Stopped(self._signum)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Remember where the step began."""
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save and stop if a rank was asked to, unless gradients are being accumulated or a validation comes first."""
        self._accumulating = trainer.global_step == self._steps
        due = (trainer.fit_loop.total_batch_idx + 1) % trainer.val_check_batch == 0
        if not self._accumulating and self._agreed() and not due:
            self._save(trainer)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Find out how many batches every rank has: no more often can they ask each other."""
        if not trainer.sanity_checking:
            self._batches = reduced(int(sum(trainer.num_val_batches)), "MIN")

    def on_validation_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int, *_: Any) -> None:
        """Save and stop if a rank was asked to."""
        if not trainer.sanity_checking and not self._accumulating and index < self._batches and self._agreed():
            self._repeat = True
            self._save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note that the validation has to be repeated."""
        if self._repeat:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress |= {"total": dict(AGAIN), "current": dict(AGAIN), "is_last_batch": False}

    def _remember(self, signum: int) -> None:
        self._signum = self._signum or signum

    def _agreed(self) -> bool:
        self._signum = reduced(self._signum, "MAX")
        return self._signum != 0

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._last)
        stopped = Stopped(self._signum, saved=True, told=True)
        if trainer.is_global_zero:
            drop_closed_outputs()  # who reads them may have ended behind the signal
            print(
                f"{stopped} behind step {trainer.global_step} of {trainer.max_steps}: {self._last} is saved. Continue with the "
                "same command and resume=true.",
                file=sys.stderr,
            )
        raise stopped


@contextmanager
def ended_together() -> Iterator[None]:
    """Let a rank that has saved wait for the others: who starts the ranks ends all that are left when the first one leaves."""
    try:
        yield
    except Stopped as stopped:
        if stopped.saved and dist.is_initialized():
            dist.barrier()
        raise
