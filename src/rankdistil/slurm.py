"""A job of SLURM's that was stopped before its end: whether it is queued again, and whether this is such a second start.

SLURM itself queues a preempted job again only if it has to kill it: one that saves and ends within its time of grace
(``GraceTime``) counts as failed. So it asks for that itself, as it does where its time limit is near. A job that its user
cancelled gets the same SIGTERM, and isn't queued again.
"""

import os
import signal
import subprocess
import sys

from rankdistil import ranks

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
