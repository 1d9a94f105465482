"""The service over HTTP: requests for hits and scores, health, and metrics in Prometheus' text format.

Nothing of a request is written to a log. The event loop only passes bytes on: bodies are read as JSON, and texts are tokenised,
in threads.
"""

import asyncio
import json
import sys
import time
import traceback
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from rankdistil.serve.batching import ClosedError, FullError, Scored, Scorer, ScoringError
from rankdistil.serve.messages import Asked, Limits, RefusedError, answer, read_rerank, read_score

BODY_S = 30.0  # a body has to be there by then
HELD = 16  # bodies of the largest size that may be in memory together
GONE = 499  # of a request whose client went before its answer: nobody reads it, metrics count it
TOO_LONG = "the body has more than {} bytes, which is the limit."
DRAINING = "the service is ending; ask another one."
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
PATHS = {
    "/rerank": read_rerank, "/v1/rerank": read_rerank, "/v2/rerank": read_rerank, "/score": read_score,
}  # fmt: skip
TEXT = {"type": "string"}
BODIES = {
    read_rerank: {
        "query": TEXT, "documents": {"type": "array", "items": {"anyOf": [TEXT, {"properties": {"text": TEXT}}]}},
        "texts": {"type": "array", "items": TEXT, "description": "in place of documents: the answer is a list, as TEI's"},
        "top_n": {"type": "integer"}, "return_documents": {"type": "boolean"}, "return_text": {"type": "boolean"},
        "raw_scores": {"type": "boolean", "description": "logits instead of their sigmoids"},
    },
    read_score: {
        "pairs": {"type": "array", "items": {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}},
        "raw_scores": {"type": "boolean"},
    },
}  # fmt: skip
Read = Callable[[bytes, Limits], Asked]


class Service:
    """Answers requests with a scorer.

    Args:
        scorer: scores pairs.
        limits: of a request.
        model: name of the export, for answers.

    Attributes:
        draining: set it to refuse new requests; health says so, too.
        running: requests that are being answered.
        answered: how many were, by path and status.
    """

    def __init__(self, scorer: Scorer, limits: Limits, model: str) -> None:
        self._scorer, self._limits, self._model = scorer, limits, model
        self.draining, self.running, self._held = False, 0, 0
        self.answered: Counter[tuple[str, int]] = Counter()
        self._times, self._seconds = [0] * (len(BUCKETS) + 1), 0.0  # of those answered with 200

    def app(self) -> FastAPI:
        """Make the application; ``/openapi.json`` describes it."""
        app = FastAPI(title="rankdistil", docs_url=None, redoc_url=None)  # those pages load scripts from elsewhere
        for path, read in PATHS.items():
            schema = {"type": "object", "properties": BODIES[read]}
            body = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
            app.post(path, openapi_extra=body)(self._endpoint(path, read))
        app.get("/health")(self._health)
        app.get("/metrics")(self._metrics)
        app.add_exception_handler(HTTPException, _no_such)
        return app

    def _endpoint(self, path: str, read: Read) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            start = time.perf_counter()
            self.running += 1
            try:
                response = Response(await self._answer(request, read), media_type="application/json")
            except Exception as error:
                response = _refused(_refusal(error, self._scorer))
            finally:
                self.running -= 1
            self.answered[path, response.status_code] += 1
            if response.status_code == 200:
                seconds = time.perf_counter() - start
                self._times[bisect_left(BUCKETS, seconds)] += 1
                self._seconds += seconds
            return response

        return endpoint

    async def _answer(self, request: Request, read: Read) -> bytes:
        if self.draining:
            raise RefusedError(503, DRAINING)
        with self._memory() as hold:
            body = await self._body(request, hold)
            self._scorer.queue.admit(0)  # while it is full, a refusal costs no more than reading the body
            asked = await asyncio.to_thread(read, body, self._limits)
            del body
            scored = await _while_there(request, self._scorer.score(asked.pairs))
            return await asyncio.to_thread(answer, asked, *scored, self._model)

    @contextmanager
    def _memory(self) -> Iterator[Callable[[int], None]]:
        """Give a function that counts bytes of a request, and refuses too many, of it or of all; they are freed behind it."""
        own, most = 0, self._limits.body

        def hold(size: int) -> None:
            nonlocal own
            own += size
            self._held += size
            if own > most:
                raise RefusedError(413, TOO_LONG.format(most))
            if self._held > HELD * most:
                raise RefusedError(429, "too many large bodies are held at once; try again in 1 s.", 1)

        try:
            yield hold
        finally:
            self._held -= own

    async def _body(self, request: Request, hold: Callable[[int], None]) -> bytes:
        told, most, parts = request.headers.get("content-length", ""), self._limits.body, []
        if told.isdecimal() and int(told) > most:  # before a byte of it is read
            raise RefusedError(413, TOO_LONG.format(most))
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    hold(len(part))
                    parts.append(part)
        except TimeoutError:
            raise RefusedError(408, f"the body wasn't there after {BODY_S:g} seconds.") from None
        return b"".join(parts)

    async def _health(self) -> Response:
        state = "draining" if self.draining else "ready"
        return Response(f'{{"status":"{state}"}}', 503 if self.draining else 200, media_type="application/json")

    async def _metrics(self) -> Response:
        return Response(self.metrics(), media_type="text/plain; version=0.0.4")

    def metrics(self) -> str:
        """Write all metrics, in Prometheus' text format."""
        scorer, rejected = self._scorer, (429, 503)
        labelled = {f'{{path="{path}",status="{status}"}}': n for (path, status), n in sorted(self.answered.items())}
        below = zip([*map(str, BUCKETS), "+Inf"], accumulate(self._times), strict=True)
        return "".join([
            _metric("requests_total", "counter", "requests that were answered", labelled),
            _metric("rejected_total", "counter", "requests that were turned away: a full queue, or the end",
                    {"": sum(n for (_, status), n in self.answered.items() if status in rejected)}),
            _metric("dropped_total", "counter", "requests whose client went before the answer",
                    {"": sum(n for (_, status), n in self.answered.items() if status == GONE)}),
            _metric("passages_total", "counter", "pairs that were scored", {"": scorer.pairs}),
            _metric("tokens_total", "counter", "tokens of these pairs", {"": scorer.tokens}),
            _metric("failed_steps_total", "counter", "steps on which the network failed", {"": scorer.failures}),
            _metric("queue_passages", "gauge", "pairs that wait", {"": scorer.queue.waiting}),
            _metric("running_requests", "gauge", "requests that are being answered", {"": self.running}),
            _metric("request_seconds", "histogram", "from a request's first byte to its answer, of those with status 200",
                    {f'_bucket{{le="{bound}"}}': n for bound, n in below}
                    | {"_sum": self._seconds, "_count": sum(self._times)}),
        ])  # fmt: skip


def _metric(name: str, kind: str, told: str, values: dict[str, float]) -> str:
    name = f"rankdistil_{name}"
    rows = "".join(f"{name}{label} {value}\n" for label, value in values.items())
    return f"# HELP {name} {told}\n# TYPE {name} {kind}\n{rows}"


async def _while_there(request: Request, work: Coroutine[Any, Any, Scored]) -> Scored:
    """Await work; cancel it when the client goes.

    Raises:
        ClientDisconnect: if it went.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(error: Exception, scorer: Scorer) -> RefusedError:
    """Say what becomes of a request that failed."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, ClientDisconnect):
        return RefusedError(GONE, "the client has gone.")
    if isinstance(error, FullError):
        seconds = scorer.seconds(error.excess)
        return RefusedError(429, f"the queue is full ({scorer.queue.most} passages); try again in {seconds} s.", seconds)
    if isinstance(error, ClosedError):
        return RefusedError(503, DRAINING)
    if isinstance(error, ScoringError):
        return RefusedError(500, "the ranker failed on a batch with passages of this request; its log says how.")
    where = traceback.extract_tb(error.__traceback__)[-1]  # not the message, which may repeat a text
    print(f"a request failed: {type(error).__name__} in {where.filename}:{where.lineno}", file=sys.stderr, flush=True)
    return RefusedError(500, "the service failed on this request, which is a fault of its own; its log says where.")


def _refused(error: RefusedError) -> Response:
    headers = {} if error.retry_s is None else {"Retry-After": str(error.retry_s)}
    return Response(json.dumps({"error": error.sentence}), error.status, headers, "application/json")


async def _no_such(request: Request, error: HTTPException) -> Response:
    told = f"{request.method} {request.url.path[:100]}"
    known = f"POST {', '.join(PATHS)}, GET /health, /metrics, /openapi.json"
    return _refused(RefusedError(error.status_code, f"there is no {told} here; there are {known}."))
