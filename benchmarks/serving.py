"""Measures the service under load beside sentence-transformers behind FastAPI, and infinity. Prints a table and writes it.

python -m benchmarks.serving --results <folder>                                                          # hours: the whole grid
python -m benchmarks.serving --results <folder> --clients 1,32 --passages 100 --tokens 50 --seconds 20   # two minutes

infinity wants older packages than ours, so an environment of its own (``pip install 'infinity-emb[torch,server]'
'transformers<5'``), whose program ``infinity_emb`` ``--infinity`` names. Its BetterTransformer is off: transformers has none.

Clients send their next request when they have the answer to the last. They run in this process, on the same cores. Every answer
is compared with the scores of ``Reranker`` for that request. The engine's own rate is that of ``Reranker.score`` on one thread,
times the cores; the ideal latency of N clients is the time in which it scores N requests.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.candidates import QUERY_WORDS
from benchmarks.machine import describe
from benchmarks.rankers import MOST_TOKENS, TOKENIZER, prepare
from benchmarks.words import TOKENS_PER_WORD, Words
from rankdistil import Reranker
from rankdistil.files import write_json
from rankdistil.inference.machine import Meter, shown_share
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.serve.__main__ import usable_cores

OURS, PEER, INFINITY = "rankdistil.serve", "sentence-transformers + FastAPI", "infinity"
OFF = {"float32": 1e-3}  # a score may differ by so much before it counts as another's; other dtypes: 0.2
POOL = 400  # passages of all the requests that are sent again and again, two requests at least
START_S = 120.0


class Request(NamedTuple):
    """A request, ready to be sent, and the scores that it must get."""

    body: bytes
    scores: list[float]


class Cell(NamedTuple):
    """What is asked of a service at a time."""

    clients: int
    passages: int
    tokens: int


def texts(words: Words, random: np.random.Generator, count: int, tokens: float) -> list[str]:
    """Draw texts of so many tokens in the mean, each at least 2 words, with half of it as standard deviation."""
    mean = tokens / TOKENS_PER_WORD
    lengths = np.maximum(random.gamma(4, mean / 4, count).astype(np.int64), 2)
    lines = words.lines(np.full(count, b"x"), words.draw(random, int(lengths.sum())), lengths).decode().splitlines()
    return [line.partition("\t")[2] for line in lines]


def requests(words: Words, ranker: Reranker, passages: int, tokens: int, seed: int) -> tuple[list[Request], float]:
    """Make the requests of a cell; returns them, and the passages that the engine alone scores in a second on all cores."""
    random, made, seconds = np.random.default_rng(seed), [], 0.0
    for _ in range(max(POOL // passages, 2)):
        (query,) = texts(words, random, 1, QUERY_WORDS * TOKENS_PER_WORD)
        given = texts(words, random, passages, tokens)
        if not made:
            ranker.score([(query, text) for text in given])  # whatever is prepared at the first
        start = time.perf_counter()
        scores = ranker.score([(query, text) for text in given])
        seconds += time.perf_counter() - start
        made.append(Request(body_of(query, given), scores))
    return made, usable_cores() * len(made) * passages / seconds


def body_of(query: str, passages: list[str]) -> bytes:
    """Return what a client sends who wants logits; each of the services takes it."""
    return json.dumps({"query": query, "documents": passages, "raw_scores": True, "model": "m"}).encode()


def scores_of(answer: bytes) -> list[float]:
    """Return the scores that an answer holds, in the order of the passages."""
    return [hit["relevance_score"] for hit in sorted(json.loads(answer)["results"], key=lambda hit: hit["index"])]


class Load:
    """Clients of a service.

    Args:
        port: of the service.
        off: what a score may differ by.

    Attributes:
        seconds: of each answered request.
        refused: answers with 429 or 503. wrong: answers with other scores. failed: other answers, or none.
    """

    def __init__(self, port: int, off: float) -> None:
        self.port, self._off = port, off
        self.seconds: list[float] = []
        self.refused = self.wrong = self.failed = 0
        self._lock = threading.Lock()

    def run(self, pool: list[Request], clients: int, seconds: float) -> float:
        """Let clients send for so long, and wait for their last answers; returns the seconds that passed."""
        start = time.perf_counter()
        threads = [threading.Thread(target=self._client, args=(pool, at, start + seconds)) for at in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def _client(self, pool: list[Request], at: int, end: float) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=600)
        while time.perf_counter() < end:
            self.send(connection, pool[at % len(pool)])
            at += 1
        connection.close()

    def send(self, connection: HTTPConnection, request: Request) -> None:
        """Send a request, and note what becomes of it."""
        start, found, pause = time.perf_counter(), None, 0.0
        try:
            connection.request("POST", "/rerank", request.body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, found = response.status, response.read()
            pause = float(response.getheader("Retry-After", 0))
        except (OSError, HTTPException):
            connection.close()
            status = 0
        took = time.perf_counter() - start
        right = status == 200 and self._right(scores_of(found), request.scores)
        with self._lock:
            if status in (429, 503):
                self.refused += 1
            elif status != 200:
                self.failed += 1
            else:
                self.seconds.append(took)
                self.wrong += not right
        time.sleep(pause)

    def _right(self, given: list[float], due: list[float]) -> bool:
        return len(given) == len(due) and bool(np.allclose(given, due, rtol=0, atol=self._off))


@contextmanager
def served(name: str, folder: Path, asked: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Start a service; give its process and its port."""
    port = str(free_port())
    process = start(
        {
            OURS: [sys.executable, "-m", "rankdistil.serve", str(folder), "--port", port, "--dtype", asked.dtype],
            PEER: [sys.executable, str(Path(__file__).with_name("serving_peer.py")), str(folder), port],
            INFINITY: [str(asked.infinity), "v2", "--model-id", str(folder), "--served-model-name", "m",
                       "--host", "127.0.0.1", "--port", port, "--engine", "torch", "--device", "cpu", "--dtype", "float32",
                       "--no-bettertransformer", "--log-level", "error"],
        }[name],
        int(port),
    )  # fmt: skip
    try:
        yield process.pid, int(port)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def start(line: list[str], port: int, prints: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a service, and wait until it answers.

    Args:
        line: the command.
        port: that it listens on.
        prints: takes what it prints; None leaves that on this process's.

    Raises:
        RuntimeError: if it ends, or doesn't answer in time.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(line, env=environment, stdout=prints, stderr=prints)
    end = time.monotonic() + START_S
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"{' '.join(line)} did not begin to serve; what it printed says why.")
        time.sleep(0.2)
    return process


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def used(process: int) -> tuple[float, float]:
    """Return the CPU seconds that a process has used, and its resident memory in MiB."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    rows = (line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines())
    memory = next(int(row[1]) for row in rows if row[0] == "VmRSS:") / 1024
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), memory


def row_of(name: str, cell: Cell, load: Load, wall: float, cpu: float, memory: float, engine: float) -> dict[str, Any]:
    """Return what was found of a cell."""
    done = len(load.seconds)
    rate = done * cell.passages / wall
    p50, p95, p99 = np.percentile(load.seconds, (50, 95, 99)).tolist() if done else (None,) * 3
    ideal = cell.clients * cell.passages / engine
    asked = done + load.refused + load.failed
    return {
        "service": name, **cell._asdict(), "answered": done, "rejected_share": load.refused / max(asked, 1),
        "failed": load.failed, "wrong": load.wrong, "p50_s": p50, "p95_s": p95, "p99_s": p99, "ideal_s": ideal,
        "passages_per_s": rate, "passages_per_s_and_core": rate / usable_cores(),
        "passages_per_cpu_s": done * cell.passages / cpu if cpu else None, "engine_passages_per_s": engine,
        "memory_mib": memory,
    }  # fmt: skip


def memory_of(port: int, process: int, words: Words, count: int, seed: int) -> dict[str, float]:
    """Send requests of random sizes; returns the most resident memory in MiB after any of the first and of the last tenth.

    What it is just after one of them says when memory was last given back, more than how much there is. The passages/s of all
    are those of texts whose lengths never repeat.
    """
    random, load, found, passages, seconds = np.random.default_rng(seed), Load(port, 1e9), [], 0, 0.0
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    for _ in range(count):
        given = texts(words, random, int(random.integers(1, 101)), float(random.integers(10, 401)))
        request, before = Request(body_of("how do bees fly", given), [0.0] * len(given)), time.perf_counter()
        load.send(connection, request)
        passages, seconds = passages + len(given), seconds + time.perf_counter() - before
        found.append(used(process)[1])
    connection.close()
    tenth = max(count // 10, 1)
    most = {f"first {tenth}": max(found[:tenth]), f"last {tenth}": max(found[-tenth:])}
    return most | {"failed": load.failed + load.refused, "passages/s": passages / seconds}


def measure(asked: argparse.Namespace, console: Console) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure every cell on every service, one service at a time."""
    words, rows, memories = Words(load_tokenizer(TOKENIZER)), [], {}
    cells = [
        Cell(*each) for each in np.stack(np.meshgrid(asked.clients, asked.passages, asked.tokens), -1).reshape(-1, 3).tolist()
    ]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        for model in asked.models.split(","):
            folder = prepare(model, Path(place), asked.seed).folder
            ranker = Reranker(folder, device="cpu", dtype=asked.dtype)
            pools = {size: requests(words, ranker, *size, asked.seed) for size in {cell[1:] for cell in cells}}
            peers = [] if asked.alone else [PEER, *([INFINITY] if asked.infinity else [])]
            for name in (OURS, *peers):
                off = OFF.get(asked.dtype if name == OURS else "float32", 0.2)
                with served(name, folder, asked) as (process, port):
                    for cell in cells:
                        pool, engine = pools[cell[1:]]
                        Load(port, off).run(pool[:1], 1, 0.5)
                        load, before = Load(port, off), used(process)[0]
                        wall = load.run(pool, cell.clients, asked.seconds)
                        after, memory = used(process)
                        rows.append({"model": model, **row_of(name, cell, load, wall, after - before, memory, engine)})
                        console.print(f"{model}, {name}, {cell}: {rows[-1]['passages_per_s']:,.0f} passages/s")
                    if asked.memory:
                        memories[f"{model}, {name}"] = memory_of(port, process, words, asked.memory, asked.seed)
    return rows, memories


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    table = Table(
        "model", "service", "clients x passages x tokens", "answered", "p50 s", "p95 s", "p99 s", "p99/ideal", "passages/s",
        "of engine", "per core", "per CPU s", "MiB", "rejected", "wrong, failed",
        title="Requests of many clients at once", title_justify="left",
    )  # fmt: skip
    for row in result["rows"]:
        times = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("p50_s", "p95_s", "p99_s")]
        table.add_row(
            row["model"], row["service"], f"{row['clients']} x {row['passages']} x {row['tokens']}", str(row["answered"]),
            *times, "-" if row["p99_s"] is None else f"{row['p99_s'] / row['ideal_s']:.2f}", f"{row['passages_per_s']:,.0f}",
            f"{row['passages_per_s'] / row['engine_passages_per_s']:.0%}", f"{row['passages_per_s_and_core']:,.0f}",
            f"{row['passages_per_cpu_s'] or 0:,.0f}", f"{row['memory_mib']:,.0f}", f"{row['rejected_share']:.1%}",
            f"{row['wrong']}, {row['failed']}",
        )  # fmt: skip
    console.print(table)
    for name, found in result["memory_mib"].items():
        console.print(f"{name}: most resident MiB {found}")
    used_by = f"{shown_share(result['used_by_others'])} of the cores used by others than this process and its services"
    console.print(f"{result['machine']['processor']}, {result['machine']['cores']} cores; {used_by}; {result['command']}")


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""

    def numbers(text: str) -> list[int]:
        return [int(each) for each in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder that serving.json is written to")
    parser.add_argument("--models", default="2x384x768", help="sizes, or folders of exports (default: %(default)s)")
    parser.add_argument("--clients", type=numbers, default=[1, 4, 16, 32, 64], help="at once (default: 1,4,16,32,64)")
    parser.add_argument("--passages", type=numbers, default=[10, 100, 1000], help="of a request (default: 10,100,1000)")
    limit = f"tokens of a passage, in the mean (default: 50,150,400; random rankers read {MOST_TOKENS} of a pair)"
    parser.add_argument("--tokens", type=numbers, default=[50, 150, 400], help=limit)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="that clients send for, of each cell (default: %(default)s)"
    )
    parser.add_argument("--dtype", default="float32", help="of the service; its peers' is float32 (default: %(default)s)")
    parser.add_argument("--memory", type=int, default=0, help="requests of random sizes for a look at memory, 2000 say")
    parser.add_argument("--infinity", type=Path, help="program infinity_emb of its own environment; without: not measured")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--seed", type=int, default=0, help="of texts and weights (default: %(default)s)")
    return parser.parse_args(line)


def main() -> None:
    """Measure, print, write."""
    asked, console, others = arguments(), Console(width=190), Meter()
    rows, memories = measure(asked, console)
    result = {
        "machine": describe(), "rows": rows, "memory_mib": memories, "used_by_others": others.share(), "dtype": asked.dtype,
        "seconds": asked.seconds, "seed": asked.seed, "command": " ".join(["python -m benchmarks.serving", *sys.argv[1:]]),
    }  # fmt: skip
    show(result, console)
    asked.results.mkdir(parents=True, exist_ok=True)
    write_json(asked.results / "serving.json", result)
    console.print(f"files: {asked.results}/serving.json")


if __name__ == "__main__":
    main()
