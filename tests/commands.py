"""Commands as a user types them, each in a process of its own: forked from one that has imported what they import.

Importing torch, lightning and transformers takes longer than most of what the tests run. Where the start of a program itself is
tested (its first message, signals, several processes), a test starts Python.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from support import REPOSITORY

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["rankdistil.commands.train", "rankdistil.commands.evaluate", "rankdistil.data.check.whole", "lightning.pytorch.callbacks"]
)
SAID = ("stdout", "stderr")


def command(*words: str, cwd: Path = REPOSITORY, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``python <words>``: a script of the repository, ``-m <module>`` or ``-c <code>``, and what is typed behind it.

    Raises:
        subprocess.TimeoutExpired: after as many seconds; the process is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = start(*words, cwd=cwd, said=folder)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        stdout, stderr = (Path(folder, name).read_text() for name in SAID)
    return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def training(root: Path, *words: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs train.py on the files of a folder, into its ``runs/``."""
    return lambda *more: command("train.py", *words, f"data.root={root}", *more, f"paths.runs={root / 'runs'}", cwd=root)


def start(*words: str, said: str | Path, cwd: Path = REPOSITORY) -> ForkServerProcess:
    """Start a command, which writes what it says to the files ``stdout`` and ``stderr`` of a folder."""
    process = FORKS.Process(target=_run, args=(words, str(cwd), dict(os.environ), str(said)))
    process.start()
    return process


def _run(words: tuple[str, ...], cwd: str, environment: dict[str, str], said: str) -> None:
    for number, name in enumerate(SAID, 1):
        with open(Path(said, name), "wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    try:
        sys.path[0] = str(REPOSITORY)
        if words[0] == "-m":
            sys.argv = list(words[1:])
            sys.modules.pop(words[1], None)  # the one that the server has imported
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(words[1], {"__name__": "__main__"})
        else:
            script = str(REPOSITORY / words[0])
            sys.argv = [script, *words[1:]]
            runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
