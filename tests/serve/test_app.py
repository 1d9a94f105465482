"""The service over real connections: answers, and every way in which a request isn't answered."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple

import pytest
import uvicorn
from families import TEXT
from gate import PATIENCE_S, Gate

from rankdistil import Reranker
from rankdistil.inference.engine import Engine
from rankdistil.serve import app as app_module
from rankdistil.serve.app import Service
from rankdistil.serve.batching import Scorer
from rankdistil.serve.messages import Limits

QUERY, PASSAGES = TEXT[0], list(TEXT)
LIMITS = Limits(body=4000, documents=50, characters=500)


class Served(NamedTuple):
    """A service that listens."""

    service: Service
    scorer: Scorer
    port: int

    def connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, path: str, body: object = None, method: str = "POST", **headers: str) -> tuple[int, Any, HTTPResponse]:
        """Send a request; return status, what is in the answer, and the answer."""
        connection = self.connection()
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, sent, headers)
        response = connection.getresponse()
        read = response.read()
        connection.close()
        return response.status, json.loads(read) if "json" in response.getheader("content-type") else read.decode(), response

    def later(self, *given: object) -> "threading.Thread":
        """Send a request from another thread; ``found`` of it has the answer."""
        thread = threading.Thread(target=lambda: setattr(thread, "found", self.ask(*given)))
        thread.start()
        return thread


@pytest.fixture
def serve(engine: Engine, gate: Gate) -> Iterator[Callable[..., Served]]:
    """Make services that are ended behind the test."""
    ends: list[Callable[[], None]] = []

    def start(most: int = 1000, limits: Limits = LIMITS) -> Served:
        scorer = Scorer(engine, 2, most)
        service = Service(scorer, limits, "tiny")
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(service.app(), log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()

        def end() -> None:
            server.should_exit = True
            thread.join()
            scorer.close()

        ends.append(end)
        return Served(service, scorer, listening.getsockname()[1])

    yield start
    gate.opened.set()
    for end in ends:
        end()


def wait(event: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not event():
        assert time.monotonic() < end


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_a_client_of_cohere_or_jina_gets_hits_in_the_order_of_the_reranker(serve, ranker: Reranker, path: str) -> None:
    body = {"model": "rerank-v3.5", "query": QUERY, "documents": PASSAGES, "top_n": 3, "return_documents": True}
    status, found, _ = serve().ask(path, body, Authorization="Bearer none")
    hits = ranker.rerank(QUERY, PASSAGES, 3)
    assert status == 200
    assert [(row["index"], row["document"]["text"]) for row in found["results"]] == [(hit.index, hit.passage) for hit in hits]


def test_a_client_of_tei_gets_a_list_and_raw_scores_are_those_of_the_reranker(serve, ranker: Reranker) -> None:
    status, found, _ = serve().ask("/rerank", {"query": QUERY, "texts": PASSAGES, "raw_scores": True})
    hits = ranker.rerank(QUERY, PASSAGES)
    assert (status, [row["index"] for row in found]) == (200, [hit.index for hit in hits])
    assert [row["score"] for row in found] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_pairs_get_the_scores_of_the_reranker(serve, ranker: Reranker) -> None:
    pairs = [[query, passage] for query in TEXT[:3] for passage in PASSAGES]
    status, found, _ = serve().ask("/score", {"pairs": pairs, "raw_scores": True})
    assert (status, found["scores"]) == (200, pytest.approx(ranker.score(map(tuple, pairs)), abs=1e-5))


def test_of_many_clients_at_once_each_gets_its_own_scores(serve, ranker: Reranker) -> None:
    served = serve()
    requests = [(TEXT[n % 3], [f"{TEXT[n % 7]} {word}" for word in TEXT[n % 5].split()[: n % 6 + 1]]) for n in range(60)]
    expected = [ranker.score([(query, passage) for passage in passages]) for query, passages in requests]

    def ask(request: tuple[str, list[str]]) -> list[float]:
        found = served.ask("/rerank", {"query": request[0], "texts": request[1], "raw_scores": True})[1]
        return [row["score"] for row in sorted(found, key=lambda row: row["index"])]

    with ThreadPoolExecutor(16) as clients:
        assert [*clients.map(ask, requests)] == [pytest.approx(scores, abs=1e-5) for scores in expected]
    assert served.service.answered["/rerank", 200] == 60


def test_among_clients_that_go_send_rubbish_or_too_much_nothing_is_lost_and_nothing_is_left(serve, ranker: Reranker) -> None:
    served = serve(most=60)
    requests = [(TEXT[n % 3], [f"{TEXT[n % 7]} {word}" for word in (TEXT[n % 5] * 3).split()[: n % 20 + 1]]) for n in range(40)]
    expected = [ranker.score([(query, passage) for passage in passages]) for query, passages in requests]

    def ask(number: int) -> bool:
        query, passages = requests[number % 40]
        body = json.dumps({"query": query, "texts": passages, "raw_scores": True}).encode()
        if number % 5 == 0:
            return served.ask("/rerank", body[:-1])[0] in (400, 429)  # a full queue refuses before it is parsed
        if number % 5 == 1:
            return served.ask("/rerank", b" " * 5000)[0] == 413
        if number % 5 == 2:  # goes at once, or in the middle of its body
            connection = served.connection()
            connection.putrequest("POST", "/rerank")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[: number % len(body)] if number % 2 else body)
            connection.close()
            return True
        while (found := served.ask("/rerank", body))[0] == 429:
            assert int(found[2].getheader("Retry-After")) >= 1
        scores = [row["score"] for row in sorted(found[1], key=lambda row: row["index"])]
        return found[0] == 200 and scores == pytest.approx(expected[number % 40], abs=1e-5)

    with ThreadPoolExecutor(12) as clients:
        assert all(clients.map(ask, range(300)))
    wait(lambda: served.service.running == 0)
    assert (served.scorer.queue.waiting, served.scorer.queue._tokens, served.service._held) == (0, 0, 0)
    assert served.service.answered["/rerank", 200] >= 120
    assert {status for _, status in served.service.answered} <= {200, 400, 413, 429, 499}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/rerank", 405), ("POST", "/health", 405)]
)
def test_what_is_not_there_is_told_with_what_there_is(serve, method: str, path: str, status: int) -> None:
    known = "POST /rerank, /v1/rerank, /v2/rerank, /score, GET /health, /metrics, /openapi.json"
    found = serve().ask(path, b"{}" if method == "POST" else None, method)[:2]
    assert found == (status, {"error": f"there is no {method} {path} here; there are {known}."})


def test_what_cannot_be_ranked_is_refused_with_its_status(serve) -> None:
    served = serve()
    assert served.ask("/rerank", b"{")[0] == 400
    assert served.ask("/rerank", {"query": "", "texts": ["a"]})[:2] == (422, {"error": "query is empty."})
    told = "texts has 51 entries; expected 50 at most."
    assert served.ask("/rerank", {"query": "q", "texts": ["a"] * 51})[:2] == (413, {"error": told})


def test_a_long_body_is_refused_before_it_is_sent(serve) -> None:
    connection = serve().connection()
    connection.putrequest("POST", "/rerank")
    connection.putheader("Content-Length", "4001")
    connection.endheaders()
    response = connection.getresponse()
    told = "the body has more than 4000 bytes, which is the limit."
    assert (response.status, json.loads(response.read())) == (413, {"error": told})
    connection.close()


def test_a_long_body_that_does_not_tell_its_length_is_refused_where_it_is_too_long(serve) -> None:
    served = serve()
    connection = served.connection()
    connection.request(
        "POST", "/rerank", iter([b" " * 3000] * 2), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    response = connection.getresponse()
    told = "the body has more than 4000 bytes, which is the limit."
    assert (response.status, json.loads(response.read())) == (413, {"error": told})
    connection.close()
    assert served.service._held == 0


def test_bodies_that_are_too_large_together_are_asked_to_come_again(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "HELD", 1)
    served = serve()
    slow = served.connection()
    slow.putrequest("POST", "/rerank")
    slow.putheader("Content-Length", "4000")
    slow.endheaders(b" " * 3000)
    wait(lambda: served.service._held == 3000)
    status, found, response = served.ask("/rerank", b" " * 1001)
    assert (status, response.getheader("Retry-After")) == (429, "1")
    assert found == {"error": "too many large bodies are held at once; try again in 1 s."}
    slow.close()
    wait(lambda: served.service._held == 0)


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_S", 0.01)
    connection = serve().connection()
    connection.putrequest("POST", "/rerank")
    connection.putheader("Content-Length", "10")
    connection.endheaders(b"{")
    response = connection.getresponse()
    told = "the body wasn't there after 0.01 seconds."
    assert (response.status, json.loads(response.read())) == (408, {"error": told})
    connection.close()


def test_a_full_queue_answers_429_and_when_to_come_again(serve, gate: Gate) -> None:
    served = serve(most=10)
    gate.shut()
    running = served.later("/rerank", {"query": QUERY, "texts": ["a " * 30] * 50})
    wait(lambda: len(gate.entered) == 2)  # both workers have taken their first step
    served.scorer._recent = 10.0, 5.0  # two passages a second
    excess = served.scorer.queue.waiting - 10 + 1
    assert excess > 2  # so that it takes more than the least, a second
    status, found, response = served.ask("/rerank", {"query": QUERY, "texts": ["a"] * 50})
    seconds = -(-excess // 2)
    assert (status, response.getheader("Retry-After")) == (429, str(seconds))
    assert found == {"error": f"the queue is full (10 passages); try again in {seconds} s."}
    assert served.ask("/rerank", b"no JSON")[0] == 429  # what would be refused anyway isn't parsed
    gate.opened.set()
    running.join()
    assert running.found[0] == 200
    assert served.ask("/rerank", {"query": QUERY, "texts": ["a"] * 50})[0] == 200


def test_a_request_whose_client_goes_is_not_computed(serve, gate: Gate) -> None:
    served = serve()
    gate.shut()
    running = served.later("/rerank", {"query": QUERY, "texts": ["a " * 60] * 2})
    wait(lambda: len(gate.entered) == 2)  # both workers
    connection = served.connection()
    connection.request("POST", "/rerank", json.dumps({"query": QUERY, "texts": ["b"] * 40}).encode())
    wait(lambda: served.scorer.queue.waiting == 40)
    connection.close()
    wait(lambda: served.scorer.queue.waiting == 0)
    gate.opened.set()
    running.join()
    assert running.found[0] == 200
    wait(lambda: served.service.answered["/rerank", 499] == 1)
    assert sum(gate.entered) == 2


def test_a_network_that_fails_is_told_and_the_service_goes_on(serve, gate: Gate) -> None:
    served = serve()
    gate.fails = lambda lengths: RuntimeError("no memory") if lengths.max() > 20 else None
    told = "the ranker failed on a batch with passages of this request; its log says how."
    assert served.ask("/rerank", {"query": QUERY, "texts": ["a " * 30]})[:2] == (500, {"error": told})
    assert served.ask("/rerank", {"query": QUERY, "texts": ["a"]})[0] == 200


def test_nothing_of_a_request_is_logged_even_where_the_service_fails(serve, monkeypatch, capfd) -> None:
    def fail(asked: object, *_: object) -> bytes:
        raise ValueError(f"what was asked: {asked}")

    monkeypatch.setattr(app_module, "answer", fail)
    served = serve()
    told = "the service failed on this request, which is a fault of its own; its log says where."
    assert served.ask("/rerank?secret", {"query": "secret", "texts": ["secret"]})[:2] == (500, {"error": told})
    served.ask("/rerank", b'{"secret"')
    served.ask("/secret", b"secret")
    printed = "".join(capfd.readouterr())
    assert re.fullmatch(r"a request failed: ValueError in \S+test_app\.py:\d+\n", printed)


def test_a_service_that_drains_says_so_and_answers_what_is_running(serve, gate: Gate) -> None:
    served = serve()
    assert served.ask("/health", None, "GET")[:2] == (200, {"status": "ready"})
    gate.shut()
    running = served.later("/rerank", {"query": QUERY, "texts": ["a"]})
    wait(gate.inside.is_set)
    served.service.draining = True
    assert served.ask("/health", None, "GET")[:2] == (503, {"status": "draining"})
    told = "the service is ending; ask another one."
    assert served.ask("/rerank", {"query": QUERY, "texts": ["a"]})[:2] == (503, {"error": told})
    gate.opened.set()
    running.join()
    assert running.found[0] == 200


def test_metrics_count_what_was_done(serve) -> None:
    served = serve()
    served.ask("/rerank", {"query": "bees", "texts": ["wings", "honey"]})
    served.ask("/score", {"pairs": [["bees", "wings"]]})
    served.ask("/score", b"")
    status, text, response = served.ask("/metrics", None, "GET")
    assert (status, response.getheader("content-type")) == (200, "text/plain; version=0.0.4; charset=utf-8")
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert rows.pop('rankdistil_requests_total{path="/rerank",status="200"}') == "1"
    assert rows.pop('rankdistil_requests_total{path="/score",status="200"}') == "1"
    assert rows.pop('rankdistil_requests_total{path="/score",status="400"}') == "1"
    assert (rows["rankdistil_passages_total"], rows["rankdistil_tokens_total"]) == ("3", "15")  # [CLS] a [SEP] b [SEP]
    assert [rows[f"rankdistil_{name}"] for name in ("queue_passages", "rejected_total", "running_requests")] == ["0"] * 3
    buckets = [int(value) for name, value in rows.items() if "_bucket" in name]
    assert buckets == sorted(buckets)
    assert (buckets[-1], rows["rankdistil_request_seconds_count"]) == (2, "2")
    assert float(rows["rankdistil_request_seconds_sum"]) > 0
    kinds = re.findall(r"# TYPE (\S+) (\S+)", text)
    assert {name for name, kind in kinds if kind == "histogram"} == {"rankdistil_request_seconds"}


def test_the_description_names_every_path_and_key(serve) -> None:
    found = serve().ask("/openapi.json", None, "GET")[1]
    assert {*found["paths"]} == {"/rerank", "/v1/rerank", "/v2/rerank", "/score", "/health", "/metrics"}
    body = found["paths"]["/rerank"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    keys = {"query", "documents", "texts", "top_n", "return_documents", "return_text", "raw_scores"}
    assert {*body} == keys
