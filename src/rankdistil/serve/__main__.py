"""Serves a ranker over HTTP: an export of ours, or any cross-encoder that ``Reranker`` loads.

::

    python -m rankdistil.serve runs/ranker_distill/6l/seed0/export --dtype auto --port 8000

    curl localhost:8000/rerank -d '{"query": "how do bees fly", "documents": ["wings beat fast", "apples"], "top_n": 1}'

POST /rerank, /v1/rerank, /v2/rerank
    As clients of Cohere, Jina and infinity (``documents``) and of Text Embeddings Inference (``texts``) send it: ``query``,
    ``top_n``, ``return_documents`` or ``return_text``, ``raw_scores``. Scores are sigmoids of logits, raw ones logits.
POST /score
    ``pairs`` of query and passage.
GET /health, /metrics, /openapi.json
    Health is 200 and ``ready``, or 503 and ``draining``.

--host, --port
    Where it listens (127.0.0.1, 8000; port 0 takes a free one).
--dtype, --backend, --max-length
    As of ``Reranker`` (auto, torch, the export's own).
--windows
    That longer documents are read in, as JSON: {"stride": 64, "most": 16} and, if wished, size, aggregate and top; none cuts
    them (those that the export was trained with).
--workers
    Threads that score, between which the cores are shared out (on a CPU as many as there are cores; openvino and GPUs: 1).
--max-queue
    While so many passages wait (10000), a request gets 429 and Retry-After.
--max-documents, --max-characters, --max-body
    Of a request: documents (1000), characters of a text (100000), MiB (16); more gets 413.
--drain
    Seconds that running requests have to end in, once SIGTERM or Ctrl-C asked for it (30); a second signal ends at once.

src/rankdistil/serve/README.md has more: errors, metrics, systemd, a container.
"""

import argparse
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rankdistil.cli import run_command
from rankdistil.data.windows import read_windows
from rankdistil.processes.stopping import taken
from rankdistil.words import require

if TYPE_CHECKING:
    from rankdistil.serve.app import Service
    from rankdistil.serve.batching import Scorer

LOOK_EVERY_S = 0.2  # for a signal, and at the requests that are still running
CLOSE_S = 5  # that a client has to read its answer in, at the end
KEEP_S = 75  # that a connection is kept without a request: longer than clients and proxies do, who may else send into its end
QUOTA = Path("/sys/fs/cgroup/cpu.max")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}. --help lists what there is.")


def settings_of(words: Sequence[str]) -> argparse.Namespace:
    """Read the words of the command line.

    Raises:
        ValueError: for an option or value that isn't expected, or without an export.
    """
    parser = _Parser(prog="python -m rankdistil.serve", add_help=False, allow_abbrev=False)
    parser.add_argument("export")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--windows")
    numbers = {"workers": None, "max-queue": 10_000, "max-documents": 1000, "max-characters": 100_000, "max-body": 16}
    for name, default in (numbers | {"drain": 30}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args(words)
    if settings.windows is not None:
        settings.windows = read_windows(settings.windows, "--windows")
    for name in numbers:
        value = getattr(settings, name.replace("-", "_"))
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; expected a whole number of at least 1.")
    if not 0 <= settings.port < 1 << 16:
        raise ValueError(f"--port is {settings.port}; expected 0 to 65535.")
    if settings.drain < 0:
        raise ValueError(f"--drain is {settings.drain}; expected seconds, 0 at least.")
    return settings


def usable_cores(quota: Path = QUOTA) -> int:
    """Count the cores that this process may use: those that it is bound to, and no more than its container is given."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given, _, period = quota.read_text(encoding="ascii").partition(" ") if quota.is_file() else ("max", "", "")
    return cores if given == "max" else max(min(cores, math.ceil(int(given) / int(period))), 1)


def name_of(export: str) -> str:
    """Name an export for clients: a run's by method, student and run, another folder by its name, else by the hub id."""
    if not Path(export).is_dir():
        return export
    parts = Path(export).resolve().parts
    return "/".join(parts[-4:-1]) if parts[-1] == "export" else parts[-1]


def serve(settings: argparse.Namespace) -> None:
    """Serve until a signal, then until running requests are answered.

    Raises:
        ValueError: for settings that can't be had here, or a package that isn't installed.
        OSError: if the address can't be had.
    """
    for package in ("uvicorn", "fastapi"):
        require(package, "rankdistil.serve", "serve")
    with _listen(settings.host, settings.port) as listening:
        _tell(f"loading {settings.export}")
        import torch

        from rankdistil.inference.machine import map_large_blocks
        from rankdistil.inference.reranker import Reranker
        from rankdistil.serve.app import Service
        from rankdistil.serve.batching import Scorer
        from rankdistil.serve.messages import Limits

        map_large_blocks()
        cores, several = usable_cores(), settings.backend != "openvino" and not torch.cuda.is_available()
        workers = settings.workers or (cores if several else 1)
        torch.set_num_threads(max(cores // workers, 1))  # before a runtime reads it
        ranker = Reranker(settings.export, None, settings.dtype, settings.backend, settings.max_length, settings.windows)
        ranker.score([("a", "b")])  # whatever is prepared at the first
        scorer = Scorer(ranker.engine, workers, settings.max_queue)
        limits = Limits(settings.max_body << 20, settings.max_documents, settings.max_characters)
        device, threads = ranker.engine.network.device.type, torch.get_num_threads()
        _tell(f"{ranker.dtype} by {settings.backend} on {device}: {workers} workers of {threads} threads, {cores} cores")
        _tell(f"pairs of {ranker.engine.encoder.max_length} tokens at most; 429 while {settings.max_queue} passages wait")
        if ranker.windows is not None:
            _tell(f"longer documents are read in {ranker.windows.told()}")
        _run(Service(scorer, limits, name_of(settings.export)), scorer, listening, settings.drain)


def _run(service: "Service", scorer: "Scorer", listening: socket.socket, drain: int) -> None:
    """Let HTTP run in a thread, since signals are this one's; drain at the first of them."""
    import uvicorn

    config = uvicorn.Config(
        service.app(), log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_keep_alive=KEEP_S, timeout_graceful_shutdown=CLOSE_S,
    )  # fmt: skip
    server, asked = uvicorn.Server(config), threading.Event()
    thread = threading.Thread(target=server.run, args=([listening],), name="http", daemon=True)
    with taken(lambda _: asked.set()):
        thread.start()
        listening.listen(config.backlog)  # who comes before the thread is there waits
        host, port = listening.getsockname()[:2]
        _tell(f"ready: http://{f'[{host}]' if ':' in host else host}:{port}/rerank")
        while not asked.wait(LOOK_EVERY_S) and thread.is_alive():
            pass
        service.draining = True
        _tell(f"draining: {service.running} requests are running")
        end = time.monotonic() + drain
        while service.running and time.monotonic() < end:
            time.sleep(LOOK_EVERY_S)
        scorer.close()
        server.should_exit = True
        thread.join(2 * CLOSE_S)
    if not asked.is_set():
        raise RuntimeError("the HTTP server ended by itself; what it printed says why.")
    _tell(f"ended: {sum(service.answered.values())} requests were answered")


def _listen(host: str, port: int) -> socket.socket:
    """Take the address before the ranker is loaded: that it is taken is told at once."""
    listening = None
    try:
        *made, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(*made)  # with its protocol: without, asyncio leaves Nagle's delay on, 40 ms an answer
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise OSError(f"--host {host} --port {port} can't be listened on: {error.strerror}. Give another.") from None
    return listening


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(words: Sequence[str]) -> int:
    """Serve what the words of the command line say.

    Returns:
        The exit status: 0 where a signal ended it in good order; see ``run_command``.
    """
    return run_command(words, __doc__, lambda: serve(settings_of(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
