"""Checkpoints apart from validations: now and then, and on SIGTERM and the like, behind which the run ends on all ranks."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rankdistil.processes.group import reduced
from rankdistil.processes.ranks import lost_peer
from rankdistil.processes.stopping import Stopped, drop_closed_outputs, taken

VALIDATION = "epoch_loop.val_loop.batch_progress"  # where a checkpoint tells how far a validation is
AGAIN = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # of a validation: begun, and nothing done


def _log_step(trainer: L.Trainer) -> None:
    """Log a step's metrics, as Lightning would behind its last hook."""
    if trainer.global_step % trainer.log_every_n_steps:
        return
    found = {key: float(value) for key, value in trainer.logged_metrics.items() if key.startswith("train/")}
    for logger in trainer.loggers:
        logger.log_metrics(found | {"epoch": trainer.current_epoch}, step=trainer.global_step - 1)
        logger.save()


def repeats_validation(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a run that goes on from a checkpoint begins with the validation that was broken off."""
    return checkpoint["loops"]["fit_loop"][VALIDATION]["current"] == AGAIN


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


class SaveLast(OwnSignals):
    """Saves ``last.ckpt`` behind so many steps or seconds; after a signal to any rank, all save behind one step, and end.

    A validation that is due or under way at a signal is left, and repeated when the run is resumed, so that it ends as an
    undisturbed one. The clock that is ahead counts for all ranks. Checkpoints keep nothing of when they are saved.

    Args:
        last: the checkpoint.
        steps: between two, by the number of the step; None for none.
        seconds: since the last one, or the last validation; None for none.
    """

    def __init__(self, last: Path, steps: int | None = None, seconds: float | None = None) -> None:
        self._last, self._every_steps, self._every_s = last, steps, seconds
        self._heard = self._signum = 0  # what this rank got, and what all know of
        self._saved = time.monotonic()
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
                self._heard = self._heard or signal.SIGTERM
            except RuntimeError as error:
                if (asked := self._signum or self._heard) and lost_peer(str(error)):
                    raise Stopped(asked) from error
                raise
        if asked := self._signum or self._heard:
            raise Stopped(asked)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Remember where the step began."""
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save if it is time, and stop if a rank was asked to, unless gradients are accumulated or a validation comes first."""
        self._accumulating = trainer.global_step == self._steps
        if self._accumulating:
            return
        due = self._agreed(self._is_time(trainer.global_step))
        if (trainer.fit_loop.total_batch_idx + 1) % trainer.val_check_batch == 0:
            return
        if self._signum:
            _log_step(trainer)
            self._save(trainer)
        if due:
            trainer.save_checkpoint(self._last)
            self._saved = time.monotonic()

    def on_validation_end(self, *_: Any) -> None:
        """Count from here: behind a validation ``last.ckpt`` is saved, too."""
        self._saved = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Find out how many batches every rank has: no more often can they ask each other.

        One that is repeated has begun twice and ends once. Lightning counts, and would run an empty one at the next resume.
        """
        if not trainer.sanity_checking:
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()
            self._batches = reduced(int(sum(trainer.num_val_batches)), "MIN")

    def on_validation_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int, *_: Any) -> None:
        """Save and stop if a rank was asked to."""
        if not trainer.sanity_checking and not self._accumulating and index < self._batches:
            self._agreed()
            if self._signum:
                self._repeat = True
                self._save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note that the validation has to be repeated."""
        if self._repeat:
            progress = checkpoint["loops"]["fit_loop"][VALIDATION]
            progress |= {"total": dict(AGAIN), "current": dict(AGAIN), "is_last_batch": False}

    def _remember(self, signum: int) -> None:
        self._heard = self._heard or signum

    def _is_time(self, step: int) -> bool:
        by_step = self._every_steps is not None and step % self._every_steps == 0
        return by_step or (self._every_s is not None and time.monotonic() - self._saved >= self._every_s)

    def _agreed(self, due: bool = False) -> bool:
        """Let all ranks know of a signal to one of them; return whether it is time to save by the clock of one."""
        told = reduced(2 * self._heard + due, "MAX")  # one question for both; a signal wins
        self._signum = told // 2  # not heard: another signal may come meanwhile, which the others learn of the next time
        return told % 2 == 1

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
