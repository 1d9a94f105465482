"""Ranks of a job on several devices: torchrun's agent starts them, and ends all when one fails.

``python -m rankdistil.processes.agent <number> <folder>``. ``torchrun`` itself was rejected: of a failing process it prints a
report of its own, and two stacks; it calls this machine by a name that a laptop without a network can't look up; and it gives
each process one thread.
"""

import logging
import os
import signal
import sys
import uuid
from types import FrameType

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, api
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from rankdistil.cli import SAID, wanted_full
from rankdistil.processes.stopping import follow_parent, heard

_ending: list[int] = []
KILLED = 2  # exit status where a process was ended by a signal that none of ours sent


def main() -> None:
    """Run the job of a folder in the given number of processes; exit as the first of them that failed did."""
    number, folder = int(sys.argv[1]), sys.argv[2]
    follow_parent()
    api._terminate_process_handler = _end_once
    if not wanted_full:
        logging.disable()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // number)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        signals_to_handle=",".join(signum.name for signum in (*heard(), signal.SIGQUIT)),  # passed on to every process
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "rankdistil.commands.job", folder)
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda item: item[1].timestamp)
        if failure.exitcode < 0 or SAID < failure.exitcode < 128:
            print(f"error: process {rank} of {number} (pid {failure.pid}) {_how(failure)}.", file=sys.stderr)
        sys.exit(failure.exitcode if failure.exitcode > 0 else KILLED)
    except SignalException as caught:
        sys.exit(128 + caught.sigval)


def _end_once(signum: int, frame: FrameType | None) -> None:
    """Raise what makes the agent pass a signal on; a second one would break off its waiting for the processes."""
    if not _ending:
        _ending.append(signum)
        raise SignalException(f"got signal {signum}", sigval=signal.Signals(signum))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _how(failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return f"was ended by {signal.Signals(-failure.exitcode).name}"
    return f"ended with exit status {failure.exitcode} and said nothing"


if __name__ == "__main__":
    main()
