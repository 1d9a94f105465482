"""The command: its words, what it says, and that it ends in good order."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from gate import PATIENCE_S
from support import REPOSITORY

from rankdistil.serve.__main__ import _listen, main, name_of, settings_of, usable_cores

BODY = json.dumps({"query": "bees", "documents": ["wings"]}).encode()


def test_windows_are_json_or_none() -> None:
    assert settings_of(["export", "--windows", "none"]).windows is False
    assert settings_of(["export", "--windows", '{"stride": 4, "most": 9}']).windows["most"] == 9
    with pytest.raises(ValueError, match=r"^--windows is 'some'; expected none, or JSON such as "):
        settings_of(["export", "--windows", "some"])


def test_an_export_is_enough() -> None:
    found = vars(settings_of(["export"]))
    assert found == {
        "export": "export", "host": "127.0.0.1", "port": 8000, "dtype": "auto", "backend": "torch", "max_length": None,
        "workers": None, "max_queue": 10_000, "max_documents": 1000, "max_characters": 100_000, "max_body": 16, "drain": 30,
        "windows": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--port 1", "the following arguments are required: export. --help lists what there is."),
        ("export --prot 1", "unrecognized arguments: --prot 1. --help lists what there is."),
        ("export --port x", "argument --port: invalid int value: 'x'. --help lists what there is."),
        ("export --port 65536", "--port is 65536; expected 0 to 65535."),
        ("export --max-queue 0", "--max-queue is 0; expected a whole number of at least 1."),
        ("export --drain -1", "--drain is -1; expected seconds, 0 at least."),
    ],
)
def test_wrong_words_are_one_message_and_status_1(words: str, message: str, capsys) -> None:
    assert main(words.split()) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_ranker_that_cannot_be_had_is_one_message_and_status_1(export: Path, capsys) -> None:
    assert main([str(export), "--port", "0", "--dtype", "float33"]) == 1
    told = "error: dtype is 'float33'; expected one of float32, bfloat16, int8."
    assert capsys.readouterr().err.splitlines() == [f"loading {export}", told]


def test_an_address_that_is_taken_is_told_before_anything_is_loaded(capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["export", "--port", str(port)]) == 1
    told = f"error: --host 127.0.0.1 --port {port} can't be listened on: Address already in use. Give another.\n"
    assert capsys.readouterr().err == told


def test_answers_are_not_held_back_for_more() -> None:
    with _listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # by which asyncio knows where to set TCP_NODELAY


def test_cores_are_those_of_this_process_and_of_its_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert usable_cores(tmp_path / "none") == 4
    for text, expected in {"max 100000\n": 4, "200000 100000\n": 2, "50000 100000\n": 1, "150000 100000\n": 2}.items():
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cores(tmp_path / "cpu.max") == expected


def test_a_run_s_export_is_named_by_its_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs/ranker_distill/4l/seed0/export"
    folder.mkdir(parents=True)
    assert [name_of(str(path)) for path in (folder, folder.parent)] == ["ranker_distill/4l/seed0", "seed0"]
    assert name_of("owner/name") == "owner/name"


@pytest.fixture
def process(export: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the command on a free port."""
    line = [sys.executable, "-m", "rankdistil.serve", str(export), "--port", "0", "--workers", "1", "--drain", "1"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY) as started:
        yield started
        started.kill()


def said(process: subprocess.Popen[str], start: str) -> str:
    for line in process.stderr:
        if line.startswith(start):
            return line.removesuffix("\n")
    raise AssertionError(f"the process ended without saying {start!r}")


def begun(port: int) -> HTTPConnection:
    """Send a request but for its last byte."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.putrequest("POST", "/rerank")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:-1])
    return connection


def get(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, object]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_sigterm_lets_running_requests_end_refuses_others_and_exits_0(process: subprocess.Popen[str]) -> None:
    assert said(process, "float32 by torch on cpu: 1 workers of ")
    assert said(process, "pairs of ") == "pairs of 64 tokens at most; 429 while 10000 passages wait"
    port = int(said(process, "ready: ").removesuffix("/rerank").rpartition(":")[2])
    assert get(port, "POST", "/rerank", BODY)[0] == 200
    running = begun(port)
    while "running_requests 1" not in metrics(port):
        pass
    process.send_signal(signal.SIGTERM)
    assert said(process, "draining: ") == "draining: 1 requests are running"
    assert get(port, "GET", "/health") == (503, {"status": "draining"})
    assert get(port, "POST", "/rerank", BODY) == (503, {"error": "the service is ending; ask another one."})
    running.send(BODY[-1:])
    response = running.getresponse()
    assert (response.status, json.loads(response.read())["model"]) == (200, "tiny")
    running.close()
    assert said(process, "ended: ") == "ended: 3 requests were answered"
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_client_that_never_ends_its_request_does_not_keep_the_service(process: subprocess.Popen[str]) -> None:
    port = int(said(process, "ready: ").removesuffix("/rerank").rpartition(":")[2])
    running = begun(port)
    while "running_requests 1" not in metrics(port):
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    running.close()


def metrics(port: int) -> str:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
