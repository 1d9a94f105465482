"""A teacher's scores: stopped, failed and resumed. In this process, with a tiny teacher."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support import MINILM, composed

from rankdistil.files import write_json
from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.planning.plan import outcome_settings
from rankdistil.runs.record import read_record, state
from rankdistil.stages import score_teacher
from rankdistil.stages.test import ScoringModule
from tests.data.conftest import FILES

SPLIT = "{queries: queries.tsv, qrels: qrels.txt, triples: triples.tsv, candidates: run.txt}"


@pytest.fixture
def run(tiny_ranker: CrossEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Score the collection's pairs, two to a shard, into one folder; call it again to resume."""
    monkeypatch.setattr(score_teacher, "SHARD", 2)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    tokenizer = load_tokenizer(MINILM)
    tiny_ranker.bert.resize_token_embeddings(len(tokenizer))
    write_export(tmp_path / "teacher", tiny_ranker, tokenizer, 38)
    cfg = composed(
        "+experiment=score_teacher", "scale=smoke", "data=files", f"data.root={tmp_path}", "data.corpus=corpus.tsv",
        f"data.train={SPLIT}", "data.max_length=27", "data.holdout=1",
        f"teacher.export={tmp_path}/teacher",
    )  # fmt: skip

    def run() -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        settings = outcome_settings(cfg, {})
        state(folder, settings)
        score_teacher.run_scoring(cfg, folder, settings, {}, Console(file=io.StringIO()))
        return folder

    return run


def cut(folder: Path) -> Path:
    """Leave a run as one that was stopped in the middle leaves it."""
    (folder / "scores/part-00001.parquet").unlink()
    (folder / "scores/scores.json").unlink()
    write_json(folder / "run.json", read_record(folder) | {"status": "running"})
    return folder


def test_a_run_that_fails_says_so_in_its_record_and_goes_on_when_resumed(run, monkeypatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory left")

    with monkeypatch.context() as patched:
        patched.setattr(ScoringModule, "test_step", fail)
        with pytest.raises(RuntimeError, match="no memory left"):
            run()
    record = read_record(tmp_path / "run")
    assert (record["status"], record["error"], record["pairs"]) == ("failed", "RuntimeError: no memory left", 5)
    assert read_record(run())["status"] == "finished"


@pytest.mark.parametrize("file", ["corpus.tsv", "queries.tsv", "qrels.txt", "triples.tsv"])
def test_scores_of_old_and_of_new_files_are_not_mixed(run, tmp_path: Path, file: str) -> None:
    folder, changed = cut(run()), tmp_path / file
    left = (folder / "scores/part-00000.parquet").read_bytes()
    text = changed.read_text()
    changed.write_text(text + {"corpus.tsv": "f\tFigs.\n", "queries.tsv": "4\twhy\n"}.get(file, text.splitlines()[0] + "\n"))
    with pytest.raises(ValueError) as caught:
        run()
    key = {"corpus.tsv": "data.corpus"}.get(file, f"data.train.{file.partition('.')[0]}")
    assert f"made with other settings (there -> asked for):\n  {key}: {file} has changed since (sha256 " in str(caught.value)
    changed.write_text(text)
    run()
    assert (folder / "scores/part-00000.parquet").read_bytes() == left
    assert read_record(folder)["status"] == "finished"


def test_the_header_tells_the_texts_by_the_hash_of_their_files(run, tmp_path: Path) -> None:
    made_of = json.loads((run() / "scores/scores.json").read_text())["made_of"]
    assert [made_of[kind] for kind in ("passages", "queries")] == [
        hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()[:16] for file in ("corpus.tsv", "queries.tsv")
    ]
