"""Reads a million damaged files with the product's readers: nothing may come of one but what it holds, or the documented error.

::

    python -m tests.fuzz --inputs 1000000 --seed 0

Inputs are shared out to the formats (``FORMATS``), and each is made of the seed and its number, so ``--formats``, ``--first``
and a smaller ``--inputs`` read some of the same. A fault is kept in the corpus (``--keep``), where the test suite reads it for
good, and printed; the exit status is then 1. A process that dies, or doesn't answer, is a fault of the input that it read.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rankdistil.cli import console
from rankdistil.report.tables import Column, to_table
from tests.fuzz.formats import FORMATS, Format
from tests.fuzz.inputs import ACCEPTED, CORPUS, FAULT, REFUSED, SECONDS, Bench, counts, in_memory, keep, made

CHUNK = 250  # inputs that a process reads before it tells what came of them
SHOWN = 10  # faults of each format that are printed


class Job(NamedTuple):
    """Attributes: form: number of a format; start, end: its inputs."""

    form: int
    start: int
    end: int


def jobs(wanted: dict[Format, int], first: int) -> list[Job]:
    """Cut the inputs of the formats into chunks, those of all formats in turn."""
    cut = []
    for form, count in wanted.items():
        numbers = range(first, first + count, CHUNK)
        cut.append([Job(FORMATS.index(form), at, min(at + CHUNK, first + count)) for at in numbers])
    return [job for row in _in_turn(cut) for job in row]


def _in_turn(rows: list[list[Job]]) -> Iterator[list[Job]]:
    longest = max(map(len, rows), default=0)
    for place in range(longest):
        yield [row[place] for row in rows if place < len(row)]


def _work(pipe: Connection, at: Any, seed: int, folder: Path) -> None:
    """Read the inputs of jobs; tell of each job its outcomes, its faults and its seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    for own in (1, 2):  # where libraries of other languages tell of a panic and the like
        os.dup2(os.open(os.devnull, os.O_WRONLY), own)
    bench = Bench(folder)
    pipe.send(None)
    while (job := pipe.recv()) is not None:
        begun, found, faults = time.monotonic(), Counter(), []
        for number in range(job.start, job.end):
            at.value = number
            each = made(FORMATS[job.form], seed, number)
            outcome = bench.outcome(each.form, each.valid, each.content)
            found[outcome.kind] += 1
            if outcome.kind == FAULT:
                faults.append((number, outcome.told))
        at.value = -1
        pipe.send((found, faults, time.monotonic() - begun))


class Worker:
    """A process that reads inputs, and what is known of it."""

    def __init__(self, seed: int, folder: Path) -> None:
        own = multiprocessing.get_context("fork")
        self.at = own.Value("q", -1, lock=False)
        self.pipe, theirs = own.Pipe()
        self.process = own.Process(target=_work, args=(theirs, self.at, seed, folder), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.seen, self.since = -1, time.monotonic()

    def stuck(self) -> bool:
        """Whether it reads one input for longer than it may: not even a signal has ended that."""
        if self.at.value != self.seen:
            self.seen, self.since = self.at.value, time.monotonic()
        return self.seen >= 0 and time.monotonic() - self.since > 2 * SECONDS

    def give(self, job: Job | None) -> None:
        """Have it read a job, or end."""
        self.job, self.seen, self.since = job, -1, time.monotonic()
        self.pipe.send(job)


class Account:
    """What came of all inputs, by format."""

    def __init__(self, seed: int, where: Path) -> None:
        self.seed, self.where = seed, where
        self.found: dict[int, Counter] = {}
        self.seconds: Counter = Counter()
        self.faults: list[dict[str, Any]] = []

    def add(self, form: int, found: Counter, faults: list[tuple[int, str]], seconds: float) -> None:
        """Take a job's outcomes down; keep and print its faults."""
        self.found.setdefault(form, Counter()).update(found)
        self.seconds[form] += seconds
        for number, told in faults:
            each = made(FORMATS[form], self.seed, number)
            place = keep(each, self.where)
            fault = {"format": each.form.name, "seed": self.seed, "number": number, "told": told, "kept": str(place)}
            self.faults.append(fault)
            if self.found[form][FAULT] <= SHOWN:
                print(f"FAULT {each}\n  {told}\n  {place}", flush=True)

    def columns(self) -> list[Column]:
        """Make the table."""
        rows = [(FORMATS[form].name, found, self.seconds[form]) for form, found in sorted(self.found.items())]
        total = sum((found for _, found, _ in rows), Counter())
        rows.append(("all", total, sum(self.seconds.values())))
        return [
            Column("format", [name for name, _, _ in rows], text=True),
            Column("inputs", [f"{found.total():,}" for _, found, _ in rows]),
            *(Column(kind, [f"{found[kind]:,}" for _, found, _ in rows]) for kind in (ACCEPTED, REFUSED)),
            Column("faults", [f"{found[FAULT]:,}" for _, found, _ in rows]),
            Column("core seconds", [f"{seconds:,.0f}" for _, _, seconds in rows]),
            Column("inputs / s", [f"{found.total() / max(seconds, 1e-9):,.0f}" for _, found, seconds in rows]),
        ]


def run(waiting: list[Job], processes: int, seed: int, account: Account, folder: Path) -> None:
    """Have processes read all jobs; one that dies, or is stuck, is replaced."""
    waiting, names = waiting[::-1], (folder / str(number) for number in range(10**9))
    workers = [Worker(seed, next(names)) for _ in range(processes)]
    begun, told = time.monotonic(), 0.0
    left = sum(job.end - job.start for job in waiting)
    total = left
    while workers:
        wait([worker.pipe for worker in workers], timeout=1.0)
        for worker in list(workers):
            try:
                answer = worker.pipe.recv() if worker.pipe.poll() else "nothing"
            except EOFError:
                answer = "died"
            if answer == "nothing" and worker.stuck():
                worker.process.kill()
                answer = "stuck"
            if answer in ("died", "stuck"):
                worker.process.join()
                if worker.job is None or worker.at.value < 0:
                    raise RuntimeError(f"a process ended with {worker.process.exitcode}, and read nothing just then.")
                job, number = worker.job, worker.at.value
                ended = f"ends the process ({worker.process.exitcode})"
                what = f"not read in {2 * SECONDS:g} s" if answer == "stuck" else ended
                account.add(job.form, Counter({FAULT: 1}), [(number, what)], 0.0)
                parts = Job(job.form, number + 1, job.end), Job(job.form, job.start, number)
                waiting += [part for part in parts if part.start < part.end]
                workers[workers.index(worker)] = Worker(seed, next(names))
                continue
            if answer == "nothing":
                continue
            if answer is not None:
                account.add(worker.job.form, *answer)
                left -= worker.job.end - worker.job.start
            if waiting:
                worker.give(waiting.pop())
            else:
                worker.give(None)
                worker.process.join()
                workers.remove(worker)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{total - left:,} of {total:,} inputs, {told - begun:,.0f} s, {len(account.faults)} faults", flush=True)


def main(words: list[str]) -> int:
    """Do what the words of the command line say; returns 1 where there is a fault."""
    form_of_help, names = argparse.RawTextHelpFormatter, [form.name for form in FORMATS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=form_of_help)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of each format's first input")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--formats", nargs="*", default=names, choices=names)
    parser.add_argument("--only", action="store_true", help="all inputs are of --formats, in place of their share")
    parser.add_argument("--keep", type=Path, default=CORPUS, help="where faults are kept")
    parser.add_argument("--results", type=Path, help="JSON with the table and the faults")
    asked = parser.parse_args(words)
    chosen = [form for form in FORMATS if form.name in asked.formats]
    wanted = {form: count for form, count in counts(asked.inputs).items() if form in chosen}
    if asked.only:
        wanted = {form: -(-asked.inputs // len(chosen)) for form in chosen}
    account = Account(asked.seed, asked.keep)
    begun = time.monotonic()
    with in_memory() as folder:
        run(jobs(wanted, asked.first), asked.processes, asked.seed, account, folder)
    columns = account.columns()
    took = f"{time.monotonic() - begun:,.0f} s in {asked.processes} processes"
    console().print(to_table(columns, f"damaged files, seed {asked.seed}: {took}"))
    if asked.results:
        told = {column.header: list(column.cells) for column in columns}
        asked.results.write_text(json.dumps({"seed": asked.seed, "table": told, "faults": account.faults}, indent=2))
    return int(bool(account.faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
