"""scale=paper on a stand-in of MS MARCO, in the layout that ir_datasets gives the real files."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import MINILM, REPOSITORY
from transformers import BertConfig, BertForMaskedLM

from rankdistil.models.checkpoints import load_tokenizer

WORDS = ["apple", "bee", "cat", "dog", "elm", "fox", "goat", "hen", "ivy", "jay", "kite", "lion", "moth", "newt", "owl", "pig"]
SMALL = [
    "trainer=cpu", "steps={teacher: 4, ranker_distill: 4}", "validations=1", "data.batch_size=2", "data.eval_batch_size=16",
    "data.valid_queries=3", "data.max_length=27", "data.workers=0",
    "student.hidden_size=12", "student.heads=2", "student.intermediate_size=24",
    "callbacks.inference_time={queries: 1, candidates: [4, 8], throughput_pairs: 12, rounds: 1, warmup: 1}",
]  # fmt: skip


def train(*arguments: str, home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(REPOSITORY / "train.py"), "+experiment=ranker_distill_6l", "scale=paper", *arguments]
    environment = os.environ | {"IR_DATASETS_HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9"}  # no network
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of ir_datasets with forty passages and a few queries of each split, sixteen candidates each, without scores."""
    folder = tmp_path_factory.mktemp("ir_datasets")
    base = folder / "msmarco-passage"
    passages = {number: f"{WORDS[number % 16]} and {WORDS[(number * 7 + 3) % 16]}" for number in range(40)}
    splits = {
        "train": range(100, 130),
        "dev/small": range(200, 206),
        "trec-dl-2019": range(300, 304),
        "trec-dl-2020": range(400, 403),
    }
    files = {"collection.tsv": "".join(f"{key}\t{text}\n" for key, text in passages.items()), "irds_version.txt": "v2"}
    for split, queries in splits.items():
        texts = "".join(f"{query}\twhere is the {WORDS[query % 16]}\n" for query in queries)
        grades = (1,) if split in ("train", "dev/small") else (0, 1, 2, 3)
        answers = {query: query % 16 for query in queries}
        files[f"{split}/qrels"] = "".join(
            f"{query} 0 {answers[query] + 16 * (place % 2) + place // 2} {grade}\n"
            for query in queries
            for place, grade in enumerate(reversed(grades))
        )
        files["trec-dl-2020/queries.tsv.gz" if split == "trec-dl-2020" else f"{split}/queries.tsv"] = texts
        run = {"dev/small": "dev/ms.run"}.get(split, f"{split}/ms.run")
        files[run] = "".join(f"{query}\t{(answers[query] + 3 * place) % 40}\n" for query in queries for place in range(16))
    files["train/small.triples.qidpid.tsv"] = "".join(
        f"{query}\t{query % 16}\t{(query + step) % 40}\n" for query in splits["train"] for step in (1, 5)
    )
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of twelve layers with random weights and real tokens, in place of bert-base."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = load_tokenizer(MINILM)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_plan_says_what_would_be_fetched_and_run(tmp_path: Path) -> None:
    done = train("plan=show", home=tmp_path / "empty", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("runs/teacher/bert_base/seed0", "runs/ranker_distill/6l/seed0", f"to {tmp_path / 'empty'}"):
        assert part in done.stdout.replace("\n", "")
    for file in (
        "collectionandqueries.tar.gz (1.06 GB)",
        "triples.train.small.tar.gz (7.93 GB)",
        "top1000.dev.tar.gz (0.69 GB)",
    ):
        assert f"/{file}\n" in done.stdout
    assert "to fetch from the Hugging Face hub: google-bert/bert-base-uncased" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_without_a_network_the_run_ends_before_it_writes(tmp_path: Path, language_model: Path) -> None:
    done = train(*SMALL, f"teacher.path={language_model}", home=tmp_path / "empty", cwd=tmp_path)
    assert done.returncode == 1
    assert "10 files are not on this machine, and can't be fetched (" in done.stderr
    assert "python -m rankdistil.data.fetch msmarco-passage/" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_same_config_trains_on_the_stand_in_and_tests_on_both_years(
    tmp_path: Path, home: Path, language_model: Path
) -> None:
    done = train(*SMALL, f"teacher.path={language_model}", home=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to fetch" not in done.stdout
    run = tmp_path / "runs/ranker_distill/6l/seed0"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    for folder, year, queries in ((run, 2019, 4), (run / "tests/2-msmarco-passage-trec-dl-2020-judged", 2020, 3)):
        told = json.loads((folder / "metrics.json").read_text())
        assert (told["dataset"], told["queries"]) == (f"msmarco-passage/trec-dl-{year}/judged", queries)
        assert told["pairs"] == 16 * queries
        assert told["first_stage_name"] == "scoreddocs (no order)"
        assert f"msmarco-passage/trec-dl-{year}/judged, {queries} queries" in done.stdout
    for kind in ("msmarco-passage-*-passages", "msmarco-passage-*-texts", "msmarco-passage-train-triples-small-*-triples"):
        assert len(list((tmp_path / "stores").glob(kind))) == 1, kind
    assert not list(home.rglob("*.pklz4")), "ir_datasets' own store is pickles"
