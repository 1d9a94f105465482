"""Signal handling (SIGTERM, Ctrl-C, SLURM): the first ends a program in good order with 128 + signal, a second at once.

Handlers set a flag or raise, no more: one that talked to other processes would hang where they are busy with something else.
The second signal is noticed by a thread, because the main thread may be inside a library call that doesn't return.

SLURM itself queues a preempted job again only if it has to kill it: one that saves and ends within its time of grace
(``GraceTime``) counts as failed. So it asks for that itself, as it does where its time limit is near. A job that its user
cancelled gets the same SIGTERM, and isn't queued again.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rankdistil.processes import ranks

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SAME_S = 0.5  # a batch system signals all processes of a job, so that a child gets its parent's signal twice
PARENT = "RANKDISTIL_PARENT"  # in the environment: the process without which a job has to end
LOOK_EVERY_S = 1.0
LEAVE_S = 60.0  # an orphan that hasn't ended by itself by then is ended

_children: list[subprocess.Popen[bytes]] = []  # that this process waits for


class Stopped(SystemExit):
    """The program was asked to stop, and does.

    Attributes:
        signum: the signal.
        saved: all ranks know of it, and have saved together.
        told: the user was told what was saved.
    """

    def __init__(self, signum: int, saved: bool = False, told: bool = False) -> None:
        super().__init__(128 + signum)
        self.signum, self.saved, self.told = signum, saved, told

    def __str__(self) -> str:
        """Name the signal."""
        return f"stopped by {signal.Signals(self.signum).name}"


def stopped_by(status: int) -> int | None:
    """Return the signal that a child ended by in good order or at once, from its return code; None if it failed."""
    signum = -status if status < 0 else status - 128
    return signum if signum in STOPPING else None


def heard() -> tuple[signal.Signals, ...]:
    """List the signals that stop this process: under ``nohup`` it ignores that its terminal is gone (SIGHUP), and goes on."""
    deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(signum for signum in STOPPING if not (deaf and signum == signal.SIGHUP))


def drop_closed_outputs() -> None:
    """Let go nowhere what would be printed to a terminal, or into a pipe, whose other end is gone: a run would fail by it."""
    for output in (1, 2):
        asked = select.poll()
        asked.register(output, 0)  # a lost other end is told unasked
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


@contextmanager
def taken(take: Callable[[int], None]) -> Iterator[dict[int, object]]:
    """Let ``take`` have the stopping signals for a while; yields the handlers that it replaces. Main thread only."""
    before: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():

        def handler(signum: int, frame: FrameType | None) -> None:
            if signum == signal.SIGHUP:
                drop_closed_outputs()
            take(signum)

        handler.ours = True
        before = {signum: signal.signal(signum, handler) or signal.SIG_DFL for signum in heard()}
    try:
        yield before
    finally:
        for signum, handler_before in before.items():
            signal.signal(signum, handler_before)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise ``Stopped`` in the main thread at the first signal, unless ``taken``; end the process at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[int] = []

    def end(signum: int) -> None:
        if not raised:
            raised.append(signum)
            raise Stopped(signum)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_leave_at_second, args=(reading,), daemon=True).start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        with taken(end):
            yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def wait_for(start: Callable[[], subprocess.Popen[bytes]]) -> int:
    """Start a child in a session of its own, hand the first signal on to it, and wait until it has ended.

    Returns:
        Its return code.

    Raises:
        Stopped: if there was a signal; a handler of somebody else's (a batch system's) has its turn first.
    """
    received: list[int] = []

    def forward(signum: int) -> None:
        received.append(signum)
        if len(received) == 1 and _children:
            _children[0].send_signal(signum)

    try:
        with taken(forward) as before:
            _children.append(start())
            if received:
                _children[0].send_signal(received[0])
            code = _children[0].wait()
    finally:
        _children.clear()
    if received:
        handler = before[received[0]]
        if callable(handler) and handler is not signal.default_int_handler and not hasattr(handler, "ours"):
            handler(received[0], None)
        raise Stopped(received[0])
    return code


def follow_parent() -> None:
    """Stop this process, as by SIGTERM, when the one that started it as a job is gone, killed for example.

    Asking Linux for a signal (PR_SET_PDEATHSIG) was rejected: it comes when a thread of the parent ends.
    """
    parent = int(os.environ.get(PARENT, "0"))
    os.environ[PARENT] = str(os.getpid())  # for processes that this one starts
    if parent:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_S)
    os._exit(128 + signal.SIGTERM)


def _leave_at_second(reading: int) -> None:
    first = None
    while received := os.read(reading, 64):
        for signum in received:
            if signum not in STOPPING:
                continue
            if first is None:
                first = time.monotonic()
            elif time.monotonic() - first >= SAME_S:
                for child in _children:
                    with suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
                os._exit(128 + signum)
    os.close(reading)


def _forget_wakeup() -> None:
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_wakeup)  # a loader's worker would tell this process of its own signals


TIME_LIMIT = (signal.SIGUSR1, signal.SIGUSR2)  # what ``sbatch --signal`` is told to send before it


def restarted() -> bool:
    """Say whether this job ran before, and was queued again: what it began is to be continued."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def queue_again(signum: int) -> None:
    """Queue this job again, after the signal on which it saved and stopped; nothing is done outside of SLURM.

    Under submitit its own handler does so at the time limit, and counts (``hydra.launcher.max_num_timeout``).
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or ranks.mute():
        return
    handler = signal.getsignal(signum)
    if signum in TIME_LIMIT and "SUBMITIT_EXECUTOR" in os.environ and callable(handler):
        handler(signum, None)  # ends this process
    try:
        if signum in TIME_LIMIT or _preempted(job):
            _scontrol("requeue", job)
            print(f"SLURM job {job} is queued again, and will go on from there.", file=sys.stderr)
    except (OSError, subprocess.SubprocessError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip()
        print(f"SLURM job {job} could not be queued again: {why}", file=sys.stderr)


def _preempted(job: str) -> bool:
    """Say whether SLURM is about to take the job's place away; False for one that was cancelled."""
    told = dict(word.partition("=")[::2] for word in _scontrol("show", "--oneliner", "job", job).split())
    return told.get("JobState") == "RUNNING" and told.get("PreemptTime", "None") != "None"


def _scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout
