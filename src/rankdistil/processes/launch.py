"""Process launcher: a fresh process for each job, and below it one for each device.

A job is the config in its run folder; ``rankdistil.commands.job`` carries it out. Where it has several devices, that process
starts one for each, as torchrun does. Launching with the sweep's own command line was rejected: child ranks would replay all of
it. The command ``torchrun`` was, too: for a failure and for each signal it prints a stack of its own, and always exits 1.
"""

import logging
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from rankdistil.cli import SAID, ChildFailedError, wanted_full
from rankdistil.processes.stopping import PARENT, Stopped, stopped_by, taken, wait_for
from rankdistil.runs.record import read_record

JOB = "rankdistil.commands.job"
DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
TO_SAVE_S = 300  # so long ranks that were asked to stop may take before they are killed
KILLED = 2  # exit status where a rank was ended by a signal that none of ours sent


def run_in_fresh_process(folder: Path, lock: int, number: int) -> None:
    """Carry out a prepared job in a process of its own, or in several that it starts and ends.

    The child inherits the lock. Ranks below it don't: they live no longer than it, which ends them, or whose end they notice.
    Signals are handed on to the child.

    Args:
        folder: the run folder.
        lock: descriptor of its lock.
        number: of processes.

    Raises:
        ChildFailedError: if it fails; it has printed its own message.
        Stopped: if it, or this process, was asked to stop.
    """
    environment = {key: value for key, value in os.environ.items() if key not in DISTRIBUTED} | {PARENT: str(os.getpid())}
    command = [sys.executable, "-m", JOB, str(folder), str(number)]
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
    if code == SAID:  # maybe since it lost a rank that was; beside one that crashed, the others are asked to stop
        signum = (read_record(folder) or {}).get("signal")
    if signum:
        raise Stopped(signum)
    if code < 0:
        name = signal.Signals(-code).name
        why = " The system does so where memory runs out." if name == "SIGKILL" else ""
        raise ChildFailedError(f"the job of {folder} was killed ({name}).{why} resume=true continues it.")
    raise ChildFailedError(f"the job of {folder} failed (exit status {code}); its message stands above.")


def run_ranks(folder: Path, number: int) -> None:
    """Carry out a prepared job in several processes below this one; all end when one fails.

    Args:
        folder: the run folder.
        number: of processes.

    Raises:
        SystemExit: if one fails, with its exit status; it has printed a message, or this prints one.
        Stopped: if this process or a rank was asked to stop.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError as RankFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if not wanted_full:
        logging.disable()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for threads in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):  # torch's and the tokenizers'
        os.environ.setdefault(threads, str(max(1, cores // number)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(TO_SAVE_S))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",  # this machine's name can't be looked up on a laptop without a network
        max_restarts=0,
        signals_to_handle="SIGQUIT",  # the others are taken here: torch would break off its wait for the ranks at a second one
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    asked: list[int] = []

    def hand_on(signum: int) -> None:
        if not asked:
            asked.append(signum)
            raise SignalException(f"got signal {signum}", sigval=signal.Signals(signum))

    try:
        with taken(hand_on):
            elastic_launch(config, sys.executable)("-m", JOB, str(folder), str(number))
    except SignalException as caught:
        raise Stopped(caught.sigval, told=True) from None
    except RankFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda item: item[1].timestamp)
        code = failure.exitcode
        if code < 0 or (code > SAID and not stopped_by(code)):
            ended = f"ended with exit status {code} and said nothing"
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else ended
            print(f"error: process {rank} of {number} (pid {failure.pid}) {how}.", file=sys.stderr)
        sys.exit(code if code > 0 else KILLED)
