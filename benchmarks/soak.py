"""Lets a service bear for minutes what a public one meets; counts what becomes of every request. Prints a table and writes it.

python -m benchmarks.soak --results <folder>                                    # ten minutes
python -m benchmarks.soak --results <folder> --seconds 60 --kill-every 20       # one

Clients of each kind send one request after another: small and large ones that fill the queue, bodies that come slowly or never
end, that are too large or no JSON, and clients that go before their answer. In between the service is ended with SIGTERM and
SIGKILL in turn, and started again. A request that was refused (429, 503) or whose connection was lost is sent again until it is
answered. Scores are compared with those of ``Reranker``. Exits 1 if an answer was wrong or missing, a SIGTERM didn't end the
service with status 0, or something is left in it at the end.
"""

import argparse
import json
import math
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.rankers import TOKENIZER, prepare
from benchmarks.serving import Request, free_port, requests, scores_of, start, used
from benchmarks.words import Words
from rankdistil import Reranker
from rankdistil.files import write_json
from rankdistil.models.checkpoints import load_tokenizer

OFF = 1e-3  # a score may differ by so much
QUEUE = 2000  # passages that wait when requests are refused: two large requests
BODY = 4 << 20  # bytes of the largest body
SIZES = ((30, 40), (1000, 20))  # passages of a small and a large request, and their tokens
PATIENCE_S = 90.0  # for an answer; a body that isn't there after 30 s gets one
NONE = 0  # the status that a client gets which leaves before it
DUE, REFUSED, LOST, MISSING = "as due", "refused, sent again", "connection lost, sent again", "never answered"
JSON = {"Content-Type": "application/json"}
Send = Callable[[HTTPConnection], None]


class Exchange(NamedTuple):
    """What is sent, and the status and the scores that are due."""

    send: Send
    due: int
    scores: Sequence[float] = ()


class _LeftError(Exception):
    """A client went before its answer, as it meant to."""


class Client(threading.Thread):
    """Sends requests of a kind until it is told to stop, each until it has its answer.

    Args:
        kind: names it.
        port: of the service.
        exchanges: what it sends, again and again.
        stop: tells it to send no new ones.

    Attributes:
        counts: what became of them.
    """

    def __init__(self, kind: str, port: int, exchanges: Sequence[Exchange], stop: threading.Event) -> None:
        super().__init__(name=kind)
        self._port, self._exchanges, self._stop_asked = port, exchanges, stop
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Send."""
        for exchange in cycle(self._exchanges):
            if self._stop_asked.is_set():
                break
            end = math.inf  # there may be no room for it as long as the others send
            while (outcome := self._once(*exchange)) in (REFUSED, LOST) and time.monotonic() < end:
                self.counts[outcome] += 1
                time.sleep(random.uniform(0.05, 0.3))
                if self._stop_asked.is_set():
                    end = min(end, time.monotonic() + PATIENCE_S)
            self.counts[MISSING if outcome in (REFUSED, LOST) else outcome] += 1

    def _once(self, send: Send, due: int, scores: Sequence[float]) -> str:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            with suppress(BrokenPipeError):  # a body that is too large is answered before its end
                send(connection)
            response = connection.getresponse()
            return _outcome(response, response.read(), due, scores)
        except TimeoutError:
            return MISSING
        except _LeftError:
            return DUE
        except (OSError, HTTPException):
            return LOST
        finally:
            connection.close()


def _outcome(response: HTTPResponse, found: bytes, due: int, scores: Sequence[float]) -> str:
    if response.status in (429, 503):
        return REFUSED if response.status == 503 or response.getheader("Retry-After") else "wrong: 429 without Retry-After"
    if response.status != due:
        return f"wrong: {response.status} in place of {due}"
    if due != 200:
        return DUE if set(json.loads(found)) == {"error"} else "wrong: no sentence"
    given = scores_of(found)
    return DUE if len(given) == len(scores) and np.allclose(given, scores, 0, OFF) else "wrong: other scores"


def _post(body: bytes, path: str = "/rerank") -> Send:
    return lambda connection: connection.request("POST", path, body, JSON)


def _slowly(body: bytes, parts: int, pause_s: float, whole: bool = True) -> Send:
    """Send a body in parts; without its end, unless whole."""

    def send(connection: HTTPConnection) -> None:
        connection.putrequest("POST", "/rerank")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        step = -(-len(body) // parts)
        for at in range(0, len(body) if whole else len(body) // 2, step):
            connection.send(body[at : at + step])
            time.sleep(pause_s)

    return send


def _chunked(size: int) -> Send:
    """Send so many bytes without saying how many."""
    return lambda connection: connection.request(
        "POST", "/rerank", iter([b"x" * (1 << 20)] * (size >> 20)), encode_chunked=True
    )


def _announced(size: int) -> Send:
    def send(connection: HTTPConnection) -> None:
        connection.putrequest("POST", "/rerank")
        connection.putheader("Content-Length", str(size))
        connection.endheaders(b"{")

    return send


def _leaving(body: bytes) -> Send:
    """Send a request, and go before its answer."""

    def send(connection: HTTPConnection) -> None:
        connection.request("POST", "/rerank", body, JSON)
        time.sleep(random.uniform(0, 0.3))
        raise _LeftError

    return send


def kinds(small: list[Request], large: list[Request]) -> dict[str, tuple[int, list[Exchange]]]:
    """Return, for each kind of client, how many there are, and what each sends."""
    bad = [
        (b'{"query": ', 400),
        (b"\xff\xfe", 400),
        (b'{"query": 3, "texts": ["a"]}', 422),
        (b'{"query": "q", "texts": []}', 422),
        (json.dumps({"query": "q", "texts": ["t"] * 1001}).encode(), 413),
    ]
    return {
        "30 passages": (6, [Exchange(_post(body), 200, scores) for body, scores in small]),
        "1,000 passages": (4, [Exchange(_post(body), 200, scores) for body, scores in large]),
        "a slow body": (2, [Exchange(_slowly(body, 5, 0.5), 200, scores) for body, scores in small]),
        "a body without end": (1, [Exchange(_slowly(small[0].body, 2, 0.1, whole=False), 408)]),
        "a huge body": (1, [Exchange(_announced(64 << 20), 413), Exchange(_chunked(2 * BODY), 413)]),
        "bad JSON, fields, paths": (1, [
            *(Exchange(_post(body), due) for body, due in bad), Exchange(_post(b"{}", "/elsewhere"), 404),
        ]),
        "gone before the answer": (3, [Exchange(_leaving(body), NONE) for body, _ in large]),
    }  # fmt: skip


class Supervisor:
    """Keeps a service running on one port, and ends it now and then.

    Args:
        folder: of the export.
        log: file that takes what it prints.

    Attributes:
        process: the service.
        exits: statuses of services that SIGTERM ended.
        kills: how often SIGKILL did.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.port, self._log = free_port(), log
        options = ["--max-queue", str(QUEUE), "--max-body", str(BODY >> 20), "--dtype", "float32", "--drain", "60"]
        self._line = [sys.executable, "-m", "rankdistil.serve", str(folder), "--port", str(self.port), *options]
        self.exits: list[int] = []
        self.kills = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = start(self._line, self.port, log)

    def end(self, by: signal.Signals) -> None:
        """End it with a signal."""
        self.process.send_signal(by)
        status = self.process.wait(120)
        if by is signal.SIGTERM:
            self.exits.append(status)
        else:
            self.kills += 1

    def left(self) -> float:
        """Return how many passages and requests its metrics count as still there."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics")
        rows = [line.split() for line in connection.getresponse().read().decode().splitlines() if line[0] != "#"]
        connection.close()
        return sum(float(value) for name, value in rows if name.endswith(("queue_passages", "running_requests")))


def soak(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Let clients send; returns what was counted."""
    torch.set_num_threads(1)
    random.seed(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = prepare(asked.model, Path(place), asked.seed).folder
        ranker, words = Reranker(folder, device="cpu", dtype="float32"), Words(load_tokenizer(TOKENIZER))
        sent = kinds(*(requests(words, ranker, *size, asked.seed)[0] for size in SIZES))
        service, stop = Supervisor(folder, asked.results / "service.log"), threading.Event()
        clients = [Client(kind, service.port, what, stop) for kind, (many, what) in sent.items() for _ in range(many)]
        for client in clients:
            client.start()
        memory, left = [], asked.seconds  # of lives: a slow machine, which ends and starts a service late, has as many of them
        while left > 0:
            time.sleep(min(asked.kill_every, left))
            left -= asked.kill_every
            memory.append(round(used(service.process.pid)[1]))
            console.print(f"{max(left, 0):,.0f} s left; {memory[-1]:,} MiB resident")
            if left > 0:
                service.end((signal.SIGTERM, signal.SIGKILL)[len(memory) % 2 - 1])
                service.start()
        stop.set()
        for client in clients:
            client.join()
        time.sleep(1)  # until what clients left is dropped
        remaining = service.left()
        service.end(signal.SIGTERM)
    counts = {kind: sum((client.counts for client in clients if client.name == kind), Counter()) for kind in sent}
    return {"counts": counts, "exits": service.exits, "kills": service.kills, "left": remaining, "memory_mib": memory}


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result."""
    outcomes = [*dict.fromkeys([DUE, REFUSED, LOST, MISSING, *(each for found in result["counts"].values() for each in found)])]
    table = Table("clients", *outcomes, title="What became of requests", title_justify="left")
    for kind, found in result["counts"].items():
        table.add_row(kind, *(f"{found.get(outcome, 0):,}" for outcome in outcomes))
    console.print(table)
    exits = f"{len(result['exits'])} times by SIGTERM (statuses {sorted(set(result['exits']))}), {result['kills']} by SIGKILL"
    console.print(f"ended {exits}; {result['left']:g} passages and requests left in it; resident MiB {result['memory_mib']}")
    console.print(f"{result['machine']['processor']}, {result['machine']['cores']} cores; {result['command']}")


def bad(result: dict[str, Any]) -> bool:
    """Whether something was lost, wrong, or left."""
    outcomes = {outcome for found in result["counts"].values() for outcome in found}
    return bool(outcomes - {DUE, REFUSED, LOST} or any(result["exits"]) or result["left"])


def main() -> None:
    """Soak, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder for soak.json, and for what the service prints")
    parser.add_argument("--seconds", type=float, default=600.0, help="that services live, all together (default: %(default)s)")
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds that a service lives (default: %(default)s)")
    parser.add_argument("--model", default="2x384x768", help="a size, or folder of an export (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of texts and weights (default: %(default)s)")
    asked, console = parser.parse_args(), Console(width=190)
    asked.results.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python -m benchmarks.soak", *sys.argv[1:]])
    result = {"machine": describe(), **soak(asked, console), "seconds": asked.seconds, "seed": asked.seed, "command": command}
    show(result, console)
    write_json(asked.results / "soak.json", result)
    console.print(f"files: {asked.results}/soak.json, service.log")
    sys.exit(bad(result))


if __name__ == "__main__":
    main()
