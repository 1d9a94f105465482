"""Signals: the first ends a program in good order, a second at once; children and foreign handlers hear of them once."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankdistil.processes.stopping import stopped_by

HEAD = (
    "import os, signal, subprocess, sys, threading, time; from rankdistil.processes.stopping import *\n"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # these tests may run under nohup
)
ME = "os.kill(os.getpid(), signal.SIGTERM)"


def run(code: str) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, timeout=60)
    return done, time.monotonic() - began


@pytest.mark.parametrize(
    ("status", "signum"),
    [(143, 15), (130, 2), (129, 1), (-15, 15), (-1, 1), (140, 12), (1, None), (-9, None), (3, None)],
)
def test_a_child_that_was_stopped_is_told_from_one_that_failed(status: int, signum: int | None) -> None:
    assert stopped_by(status) == signum


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_the_first_signal_lets_the_program_clean_up_and_gives_the_exit_status(name: str) -> None:
    done, _ = run(
        "with ended_by_signals():\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{name}); time.sleep(30)\n"
        "    except Stopped as stopped:\n"
        "        print(stopped); raise\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + getattr(signal, name), f"stopped by {name}\n", "")


def test_under_nohup_the_end_of_a_terminal_is_ignored_by_the_program_and_its_child() -> None:
    child = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('child: goes on', flush=True)"
    done, _ = run(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with ended_by_signals():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        f"    code = wait_for(lambda: subprocess.Popen([sys.executable, '-c', {child!r}]))\n"
        "    print('goes on', code, [signum.name for signum in heard()])\n"
    )
    heard = "goes on 0 ['SIGTERM', 'SIGINT', 'SIGUSR1', 'SIGUSR2']"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"child: goes on\n{heard}\n", "")


@pytest.mark.fault("C5")
def test_a_program_whose_terminal_is_closed_saves_though_it_can_no_longer_print(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    code = (
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "with ended_by_signals():\n"
        "    try:\n        print('begun', flush=True); time.sleep(30)\n"
        f"    except Stopped:\n        print('saved', flush=True); open({str(tmp_path / 'saved')!r}, 'w'); raise\n"
    )
    line = [sys.executable, "-c", HEAD + code]
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as program:
        os.close(theirs)
        assert os.read(ours, 5) == b"begun"
        os.close(ours)
        assert program.wait(timeout=30) == 129
    assert (tmp_path / "saved").exists()


@pytest.mark.fault("C6")
def test_a_second_signal_ends_a_program_that_does_not_come_to_an_end() -> None:
    clean_up = "    try:\n        time.sleep(30)\n    finally:\n        while True: time.sleep(1)\n"
    done, seconds = run(
        f"def ask():\n    time.sleep(0.2); {ME}; time.sleep(0.7); {ME}\n"
        f"threading.Thread(target=ask).start()\nwith ended_by_signals():\n{clean_up}"
    )
    assert done.returncode == 143
    assert seconds < 20


def test_one_signal_that_comes_by_two_ways_counts_once() -> None:
    clean_up = "    except Stopped:\n        time.sleep(1); print('cleaned up', flush=True); raise\n"
    done, _ = run(f"with ended_by_signals():\n    try:\n        {ME}; {ME}; time.sleep(30)\n{clean_up}")
    assert (done.returncode, done.stdout) == (143, "cleaned up\n")


CHILD = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit('child: saved'))\n"
    "signal.signal(signal.SIGINT, lambda *_: sys.exit('child: also heard it of the terminal'))\n"
    "for signum in (signal.SIGHUP, signal.SIGUSR2): signal.signal(signum, lambda *_: sys.exit('child: saved'))\n"
    "print('child: begun', flush=True); time.sleep(30)"
)
WAIT = f"wait_for(lambda: subprocess.Popen([sys.executable, '-c', {CHILD!r}], start_new_session=True))\n"
ASK = "def ask():\n    time.sleep(1.5); os.kill(os.getpid(), signal.{0})\nthreading.Thread(target=ask).start()\n"


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_child_hears_of_a_signal_and_the_parent_waits_for_it(name: str, status: int) -> None:
    done, _ = run(ASK.format(name) + WAIT)
    assert (done.returncode, done.stdout, done.stderr) == (status, "child: begun\n", "child: saved\n")


def test_a_batch_system_s_own_handler_has_its_turn_once_the_child_has_saved() -> None:
    own = "signal.signal(signal.SIGUSR2, lambda *_: print('requeued', file=sys.stderr))\n"
    done, _ = run(own + ASK.format("SIGUSR2") + WAIT)
    assert (done.returncode, done.stderr) == (140, "child: saved\nrequeued\n")


def test_a_second_signal_ends_the_child_too() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(30)"
    ask = f"def ask():\n    time.sleep(1.5); {ME}; time.sleep(0.7); {ME}\nthreading.Thread(target=ask).start()\n"
    started = "child = subprocess.Popen([sys.executable, '-c', " + repr(deaf) + "], start_new_session=True)\n"
    done, seconds = run(ask + started + "with ended_by_signals(): wait_for(lambda: child)\n")
    assert done.returncode == 143
    assert seconds < 20  # the child holds the same output open, for 30 seconds
