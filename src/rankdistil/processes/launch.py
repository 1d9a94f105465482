"""Jobs in fresh processes: parents and the jobs of a sweep share nothing but files.

A job is the config in its run folder; ``rankdistil.commands.job`` carries it out, once for each of its devices.
Launching with the sweep's own command line was rejected: child ranks of a distributed job would replay the whole sweep.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from rankdistil.cli import FULL, SAID, ChildFailedError, wanted_full
from rankdistil.processes.stopping import PARENT, Stopped, stopped_by, wait_for
from rankdistil.runs.record import read_record

DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
TO_SAVE_S = 300  # so long an agent waits for processes that were asked to stop before it kills them


def run_in_fresh_process(folder: Path, lock: int, number: int) -> None:
    """Carry out a prepared job in a process of its own, or in several that an agent of their own starts and ends.

    The child inherits the lock. Processes below an agent don't: they live no longer than it, which ends them, or whose end they
    notice. Signals are handed on to the child.

    Args:
        folder: the run folder.
        lock: descriptor of its lock.
        number: of processes.

    Raises:
        ChildFailedError: if it fails; it has printed its own message.
        Stopped: if it, or this process, was asked to stop.
    """
    environment = {key: value for key, value in os.environ.items() if key not in DISTRIBUTED and key != FULL}
    environment[PARENT] = str(os.getpid())
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(TO_SAVE_S))
    if wanted_full:
        environment[FULL] = "1"
    what = ["rankdistil.commands.job"] if number == 1 else ["rankdistil.processes.agent", str(number)]
    command = [sys.executable, "-m", *what, str(folder)]
    # In a session of its own, so that Ctrl-C doesn't reach it twice: from the terminal, and from here.
    try:
        code = wait_for(lambda: subprocess.Popen(command, env=environment, pass_fds=(lock,), start_new_session=True))
        if code:
            raise_for(folder, code)
    except Stopped as stopped:  # of several ranks none speaks of it, unless they have saved
        stopped.told = number == 1 or (read_record(folder) or {}).get("saved", False)
        raise


def raise_for(folder: Path, code: int) -> None:
    """Raise for a job that ended with an exit status that isn't 0.

    Raises:
        Stopped: if it, or one of its ranks, was asked to stop.
        ChildFailedError: if it failed.
    """
    signum = stopped_by(code)
    if code == SAID:  # maybe since it lost a rank that was; beside one that crashed, others are asked to stop by their agent
        signum = (read_record(folder) or {}).get("signal")
    if signum:
        raise Stopped(signum)
    if code < 0:
        name = signal.Signals(-code).name
        why = " The system does so where memory runs out." if name == "SIGKILL" else ""
        raise ChildFailedError(f"the job of {folder} was killed ({name}).{why} resume=true continues it.")
    raise ChildFailedError(f"the job of {folder} failed (exit status {code}); its message stands above.")
