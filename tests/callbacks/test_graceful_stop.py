"""A signal while the Trainer runs, and what happens behind it."""

import signal
from pathlib import Path

import pytest

from rankdistil.callbacks.graceful_stop import GracefulStop
from rankdistil.signals import Stopped

LOST = "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:2479: Connection reset by peer"


def test_a_rank_that_is_asked_to_stop_because_another_one_died_says_nothing_of_the_lost_connection() -> None:
    """Who starts the ranks says which one died, and asks the others to stop before they have noticed."""
    stop = GracefulStop(Path("last.ckpt"))
    with pytest.raises(Stopped) as stopped, stop.listening():
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError(LOST)
    assert (stopped.value.code, stopped.value.saved, stopped.value.told) == (143, False, False)


@pytest.mark.parametrize(("signalled", "message"), [(True, "a fault of its own"), (False, LOST)])
def test_another_error_is_told_and_so_is_a_lost_connection_that_nobody_knows_of_yet(signalled: bool, message: str) -> None:
    with pytest.raises(RuntimeError, match=message[-10:]), GracefulStop(Path("last.ckpt")).listening():
        if signalled:
            signal.raise_signal(signal.SIGUSR1)
        raise RuntimeError(message)
