"""A signal while the Trainer runs, and what happens behind it."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rankdistil.callbacks import stopping
from rankdistil.callbacks.stopping import SaveLast
from rankdistil.processes.stopping import Stopped

LOST = "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:2479: Connection reset by peer"


def first_of_four() -> SimpleNamespace:
    """Make what a callback asks of a Trainer behind the first step of four before a validation."""
    return SimpleNamespace(
        global_step=1, val_check_batch=4, is_global_zero=False, fit_loop=SimpleNamespace(total_batch_idx=0),
        save_checkpoint=lambda file: None, log_every_n_steps=1, logged_metrics={}, loggers=[], current_epoch=0,
    )  # fmt: skip


def listen(signum: int, message: str) -> None:
    """Get a signal, if one is given, and fail, in a run that listens."""
    with SaveLast(Path("last.ckpt")).listening():
        if signum:
            signal.raise_signal(signum)
        raise RuntimeError(message)


def test_a_rank_that_is_asked_to_stop_because_another_one_died_says_nothing_of_the_lost_connection() -> None:
    """Who starts the ranks says which one died, and asks the others to stop before they have noticed."""
    with pytest.raises(Stopped) as stopped:
        listen(signal.SIGTERM, LOST)
    assert (stopped.value.code, stopped.value.saved, stopped.value.told) == (143, False, False)


@pytest.mark.parametrize(("signum", "message"), [(signal.SIGUSR1, "a fault of its own"), (0, LOST)])
def test_another_error_is_told_and_so_is_a_lost_connection_that_nobody_knows_of_yet(signum: int, message: str) -> None:
    with pytest.raises(RuntimeError) as error:
        listen(signum, message)
    assert str(error.value) == message


def test_a_signal_that_comes_while_the_ranks_agree_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for one another there; the others learn of it the next time."""
    stop, told = SaveLast(Path("last.ckpt")), []

    def busy(value: int, how: str) -> int:
        told.append(value // 2)
        if len(told) == 1:
            signal.raise_signal(signal.SIGTERM)
        return value

    monkeypatch.setattr(stopping, "reduced", busy)
    trainer = first_of_four()

    def steps() -> None:
        with stop.listening():
            stop.on_train_batch_end(trainer)
            stop.on_train_batch_end(trainer)

    with pytest.raises(Stopped) as stopped:
        steps()
    assert (told, stopped.value.code, stopped.value.saved) == ([0, signal.SIGTERM], 143, True)


def test_of_several_ranks_the_clock_that_is_ahead_decides_when_all_save_and_a_signal_wins(monkeypatch) -> None:
    saved, trainer = [], first_of_four()
    trainer.save_checkpoint = saved.append
    one, two = SaveLast(Path("one"), None, 3600.0), SaveLast(Path("two"), None, 0.0)
    asked: list[int] = []
    monkeypatch.setattr(stopping, "reduced", lambda value, how: asked.append(value) or value)
    two.on_train_batch_end(trainer)
    monkeypatch.setattr(stopping, "reduced", lambda value, how: max(value, *asked))
    one.on_train_batch_end(trainer)
    assert saved == [Path("two"), Path("one")]
    monkeypatch.setattr(stopping, "reduced", lambda value, how: max(value, 2 * signal.SIGTERM))
    with pytest.raises(Stopped) as stopped:
        two.on_train_batch_end(trainer)
    assert (stopped.value.code, saved[2:]) == (143, [Path("two")])


def test_a_training_that_lightning_ended_for_a_signal_of_its_own_hearing_is_stopped_not_finished() -> None:
    with pytest.raises(Stopped) as stopped, SaveLast(Path("last.ckpt")).listening():
        raise SIGTERMException
    assert (stopped.value.code, stopped.value.saved) == (143, False)
