"""What README.md says of SLURM, tried on a real one: ``make slurm``, or ``check.py [folder [word ...]]``.

Prints a line for each check, and exits 1 if one failed. With a folder, which must be new, everything is left there; with words,
only checks whose names hold one of them are run.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from private_slurm import private_slurm

REPOSITORY = Path(__file__).parents[3]
TRAIN = [sys.executable, str(REPOSITORY / "train.py"), "scale=smoke", "student=2l"]
SMALL = ["data.valid_queries=3", "data.test_queries=3", "data.depth=4"]
LONG = ["+experiment=finetune_6l", *SMALL, "stage.steps=60", "stage.validations=20"]  # long enough to be interrupted
SLURM = ["+cluster=slurm", "hydra.launcher.partition=low", "hydra.launcher.timeout_min=60"]
RUN = "finetune/2l/seed0"
PATIENCE = 900  # s for anything
SCRIPT = """#!/bin/bash
#SBATCH --partition=low --ntasks-per-node=2 --requeue --signal=USR1@120 --open-mode=append
srun {command}
"""


class Checks:
    """The checks, on one SLURM.

    Args:
        environment: in which its commands find it.
        folder: for runs and what jobs print.
    """

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder

    def a_sweep_runs_each_job_once_and_their_teacher_once(self) -> None:
        """Two jobs at a time, of which one builds the teacher that both need, and the other waits."""
        runs = self._folder / "sweep"
        self._do(TRAIN, *SLURM, "+experiment=ranker_distill_6l", *SMALL, "seed=0,1", f"paths.runs={runs}")
        folders = {str(path.parent.relative_to(runs)) for path in runs.rglob("run.json")}
        equal(folders, {"teacher/minilm/seed0", "ranker_distill/2l/seed0", "ranker_distill/2l/seed1"}, "run folders")
        equal({path.name for path in runs.iterdir()}, {"teacher", "ranker_distill", "multirun.yaml", ".submitit"}, "files")
        printed = "".join(path.read_text() for path in runs.glob(".submitit/*/*_log.out"))
        for folder in folders:
            equal(record(runs / folder)["status"], "finished", folder)
            equal(printed.count(f"files: {runs / folder}/"), 1, f"times that {folder} was made")

    def a_job_that_fails_is_named_and_the_others_run(self) -> None:
        """The command that submitted them exits 1."""
        runs = self._folder / "failing"
        line = [*TRAIN, *SLURM, "+experiment=finetune_6l", *SMALL, "stage.lr=-1,0.0005", f"paths.runs={runs}"]
        done = self._call(line)
        equal(done.returncode, 1, "exit status")
        told = done.stderr[done.stderr.find("1 jobs of the sweep failed:") :]
        for part in ("1 jobs of the sweep failed:", "stage.lr=-1", "stage.lr is -1"):
            contains(told, part)
        contains("".join(path.read_text() for path in runs.glob(".submitit/*/*_log.out")), "error: stage.lr is -1")
        equal(record(runs / RUN)["status"], "finished", "the other job")

    def a_job_that_is_near_its_time_limit_and_then_preempted_ends_as_an_undisturbed_one(self) -> None:
        """Twice it saves, is queued again, and goes on by itself; one process below the task of submitit."""
        whole, runs = self._undisturbed(), self._folder / "preempted"
        line = [*TRAIN, *SLURM, *LONG, f"paths.runs={runs}", "hydra.launcher.name=preempted"]
        with self._submitted(line) as command:
            first = self._interrupt("preempted", runs / RUN, lambda job: self._do(["scancel", "--signal=USR2", job]))
            higher = ["sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=true"]
            second = self._interrupt("preempted", runs / RUN, lambda job: self._do(higher))
            equal(command.wait(PATIENCE), 0, "exit status")
        if not 0 < first < second < 60:
            raise AssertionError(f"saved at steps {first} and {second}, expected both within 60, one after the other")
        same_weights(runs / RUN, whole / RUN)

    def two_tasks_of_submitit_s_are_two_ranks_and_go_on_behind_their_time_limit(self) -> None:
        """Nothing but SLURM starts processes; the reference is started by torchrun's agent."""
        whole, runs = self._undisturbed("trainer=ddp_cpu"), self._folder / "submitit"
        two = ["trainer=ddp_cpu", "hydra.launcher.tasks_per_node=2", "hydra.launcher.name=submitit", f"paths.runs={runs}"]
        line = [*TRAIN, *SLURM, *LONG, *two]
        with self._submitted(line) as command:
            self._interrupt("submitit", runs / RUN, lambda job: self._do(["scancel", "--signal=USR2", job]))
            equal(command.wait(PATIENCE), 0, "exit status")
        contains("".join(path.read_text() for path in runs.glob(".submitit/*/*_log.out")), "Requeued job")
        self._ran_in_two_processes(runs / RUN)
        same_weights(runs / RUN, whole / RUN)

    def two_tasks_of_a_script_s_are_two_ranks_and_go_on_behind_their_time_limit(self) -> None:
        """``sbatch`` and ``srun`` alone; the signal is the one that ``#SBATCH --signal`` announces the limit with."""
        whole, runs = self._undisturbed("trainer=ddp_cpu"), self._folder / "script"
        script, printed = self._folder / "script.sh", self._folder / "script.out"
        script.write_text(SCRIPT.format(command=" ".join([*TRAIN, *LONG, "trainer=ddp_cpu", f"paths.runs={runs}"])))
        self._do(["sbatch", "--job-name=script", f"--output={printed}", str(script)])
        self._interrupt("script", runs / RUN, lambda job: self._do(["scancel", "--signal=USR1", job]))
        until("the script's job has ended", lambda: not self._jobs("script"))
        contains(printed.read_text(), "is queued again")
        self._ran_in_two_processes(runs / RUN)
        same_weights(runs / RUN, whole / RUN)

    @contextmanager
    def _submitted(self, line: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command that waits for its job; should a check fail meanwhile, it waits no longer."""
        with subprocess.Popen(line, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
            try:
                yield command
            finally:
                command.kill()

    def _undisturbed(self, *arguments: str) -> Path:
        """Make a run outside of SLURM, once."""
        runs = self._folder / f"whole{len(arguments)}"
        if not runs.exists():
            self._do(TRAIN, *LONG, *arguments, f"paths.runs={runs}")
        return runs

    def _interrupt(self, name: str, run: Path, interrupt: Callable[[str], Any]) -> int:
        """Interrupt a job in training, see it save and be queued again, start it at once; return the step it had reached."""
        begun = [path.stat().st_mtime_ns for path in (run / "checkpoints/last.ckpt",) if path.is_file()]
        until("a checkpoint", lambda: (run / "checkpoints/last.ckpt").is_file() and saved_since(run, begun))
        (job,) = self._jobs(name)
        interrupt(job)
        until("the job is queued again", lambda: self._jobs(name, "PENDING") == [job])
        equal(record(run)["status"], "stopped", "status of the stopped run")
        step = int(torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"])
        until("it runs again", lambda: self._hurry(job) or self._jobs(name, "RUNNING") == [job])
        return step

    def _hurry(self, job: str) -> None:
        """Spare a job that is queued again the two minutes that SLURM lets it wait; it takes that only once all has ended."""
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], env=self._environment, capture_output=True)

    def _jobs(self, name: str, state: str = "PENDING,RUNNING,COMPLETING") -> list[str]:
        line = ["squeue", "--noheader", "--array", "--format=%A", f"--name={name}", f"--states={state}"]
        return self._do(line).split()

    def _ran_in_two_processes(self, run: Path) -> None:
        equal(record(run)["status"], "finished", "status")
        equal(json.loads((run / "latency.json").read_text())["setup"]["processes"], 2, "processes")

    def _do(self, line: list[str], *more: str) -> str:
        done = self._call([*line, *more])
        equal(done.returncode, 0, f"exit status of {' '.join([*line, *more])}\n{done.stdout}\n{done.stderr}\n")
        return done.stdout

    def _call(self, line: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, env=self._environment, cwd=self._folder, capture_output=True, text=True, timeout=PATIENCE)


def record(run: Path) -> dict[str, Any]:
    """Read a run's ``run.json``."""
    return json.loads((run / "run.json").read_text())


def saved_since(run: Path, before: list[int]) -> bool:
    """Say whether there is a checkpoint other than the one before."""
    return [(run / "checkpoints/last.ckpt").stat().st_mtime_ns] != before


def same_weights(run: Path, other: Path) -> None:
    """See that two runs ended with the same weights, bit for bit."""
    one, two = (torch.load(each / "checkpoints/last.ckpt", weights_only=True) for each in (run, other))
    equal(one["global_step"], two["global_step"], "steps")
    equal([key for key, value in one["state_dict"].items() if not torch.equal(value, two["state_dict"][key])], [], "weights")
    export = "export/model.safetensors"
    equal((run / export).read_bytes() == (other / export).read_bytes(), True, "exports are equal")


def until(what: str, holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s for: {what}")
        time.sleep(0.1)


def equal(found: Any, expected: Any, what: str) -> None:
    """Compare."""
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")


def contains(text: str, part: str) -> None:
    """Look for a part."""
    if part not in text:
        raise AssertionError(f"expected {part!r} in:\n{text[-3000:]}")


def main(folder: Path, words: list[str]) -> int:
    """Run the checks; return the number of those that failed."""
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # not without stopping the daemons
    with private_slurm(folder) as environment:
        checks = Checks(environment, folder)
        for name in (name for name in vars(Checks) if not name.startswith("_") and any(word in name for word in words)):
            started = time.monotonic()
            try:
                getattr(checks, name)()
                told = "ok    "
            except (AssertionError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                told, failed = f"FAILED: {error}\n      ", failed + 1
            print(f"{told}{name.replace('_', ' ')} ({time.monotonic() - started:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True)
        sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:] or [""]) > 0)
    with tempfile.TemporaryDirectory(prefix="slurm-") as temporary:
        sys.exit(main(Path(temporary), [""]) > 0)
