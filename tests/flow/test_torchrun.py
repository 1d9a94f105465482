"""``torchrun train.py``: every process is a rank of a group that somebody else started, here one on each of two machines."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty import with_fault
from support import REPOSITORY

from tests.flow.reference import FILES, STILL, measure

pytestmark = pytest.mark.slow

CHAIN = ["+experiment=finetune_6l", "follows=finetune_6l", "method=again", *STILL, "data.valid_queries=1"]
ACROSS = ["trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2"]


def across(runs: Path, *last: str, **fault: object) -> list[tuple[int, str, str]]:
    """Start two agents of one process, the second with further settings and a fault; return status, output, errors of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agent = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1",
        f"--master-port={port}", "--local-addr=127.0.0.1",
    ]  # fmt: skip
    line = [str(REPOSITORY / "train.py"), *CHAIN, *ACROSS, f"paths.runs={runs}"]
    started = [
        subprocess.Popen(
            [*agent, f"--node-rank={node}", *line, *(last if node else ())],
            cwd=REPOSITORY, env=with_fault(runs, **fault) if node else None,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for node in (0, 1)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def test_a_run_and_its_parent_are_carried_out_together_and_measure_what_one_process_does(tmp_path: Path) -> None:
    (code, said, problems), (other_code, other_said, other_problems) = across(tmp_path)
    assert (code, other_code) == (0, 0), problems + other_problems
    assert said.count("to run") == 2
    assert said.count("files: ") == 2
    assert other_said == ""  # rank 0 speaks for all
    assert "Warning" not in problems + other_problems
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/*"))
    assert found == ["again/2l/seed0", "finetune/2l/seed0"]
    parent, run = (tmp_path / folder for folder in found[::-1])
    records = [json.loads((folder / "run.json").read_text()) for folder in (parent, run)]
    assert [record["status"] for record in records] == ["finished"] * 2
    assert records[1]["parents"]["student"]["fingerprint"] == records[0]["fingerprint"]
    alone = tmp_path / "alone/finetune/2l/seed0"
    measure(alone, 1, "data.valid_queries=1")
    for name in FILES:
        assert (parent / name).read_bytes() == (alone / name).read_bytes(), name
    assert records[0]["validation"] == json.loads((alone / "run.json").read_text())["validation"]


@pytest.mark.fault("E7")
def test_ranks_with_other_settings_end_before_anything_runs_and_each_machine_is_told_which(tmp_path: Path) -> None:
    ended = across(tmp_path / "runs", "lr.finetune=0.125", "seed=1")
    for code, _, problems in ended:
        assert code == 1
        lines = problems.splitlines()
        (at,) = (number for number, line in enumerate(lines) if line.startswith("error: "))
        assert lines[at : at + 5] == [
            "error: rank 1 was started with other settings than rank 0 (rank 0 -> rank 1):",
            "  folder: again/2l/seed0 -> again/2l/seed1",
            "  follows_run: seed0 -> seed1",
            "  lr.finetune: 1e-300 -> 0.125",
            "  run_name: seed0 -> seed1",
        ]
        assert "  teacher.assistant_run: seed0 -> seed1" in lines
        assert "  stage.lr: 1e-300 -> 0.125" in lines
    assert not (tmp_path / "runs").exists()


def test_a_rank_that_fails_on_one_machine_ends_those_that_wait_for_it_on_another(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = across(tmp_path / "runs", rank=1, at="rankdistil.stages.train:load_tokenizer", call=1, do="raise")
    assert time.monotonic() - began < 90
    for code, _, problems in ended:
        assert code == 1
        assert [line for line in problems.splitlines() if line.startswith("error: ")] == ["error: a fault in rank 1"]
