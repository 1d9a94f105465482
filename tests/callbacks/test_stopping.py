"""A signal while the Trainer runs, and what happens behind it."""

import signal
from pathlib import Path

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rankdistil.callbacks.stopping import GracefulStop
from rankdistil.processes.stopping import Stopped

LOST = "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:2479: Connection reset by peer"


def listen(signum: int, message: str) -> None:
    """Get a signal, if one is given, and fail, in a run that listens."""
    with GracefulStop(Path("last.ckpt")).listening():
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


def test_a_training_that_lightning_ended_for_a_signal_of_its_own_hearing_is_stopped_not_finished() -> None:
    with pytest.raises(Stopped) as stopped, GracefulStop(Path("last.ckpt")).listening():
        raise SIGTERMException
    assert (stopped.value.code, stopped.value.saved) == (143, False)
