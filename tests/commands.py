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
from multiprocessing.context import ForkServerContext
from pathlib import Path

from support import REPOSITORY

IMPORTED = [
    "rankdistil.commands.train",
    "rankdistil.commands.evaluate",
    "rankdistil.data.check.whole",
    "lightning.pytorch.callbacks",
]


def command(*words: str, cwd: Path = REPOSITORY, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``python <words>``: a script of the repository, and what is typed behind it.

    Raises:
        subprocess.TimeoutExpired: after as many seconds; the process is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        process = _forks().Process(target=_run, args=(words, str(cwd), dict(os.environ), *map(str, files)))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        stdout, stderr = (file.read_text() for file in files)
    return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def _forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _run(words: tuple[str, ...], cwd: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    for number, name in ((1, stdout), (2, stderr)):
        with open(name, "wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    try:
        script = str(REPOSITORY / words[0])
        sys.argv = [script, *words[1:]]
        sys.path[0] = str(REPOSITORY)
        runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
