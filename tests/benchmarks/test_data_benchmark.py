"""The benchmark of the data pipeline, tiny: what it makes is what it says, and it finds a wrong token."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import MINILM, REPOSITORY

from benchmarks.batches import ROWS, compare
from benchmarks.building import build
from benchmarks.setting import Setting
from benchmarks.synthetic import Sizes, answer, generate, passages
from benchmarks.words import Words
from rankdistil.data.collections.texts import training_triples
from rankdistil.data.stores.ragged import RaggedStore
from rankdistil.models.checkpoints import load_tokenizer

SIZES = Sizes(passages=1500, queries=400, triples=3000, judged=20, depth=30)
STORED = [f"{kind} {rows}" for rows in ROWS for kind in ("groups", "candidates")]


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(load_tokenizer(MINILM))


@pytest.fixture(scope="module")
def setting(words, tmp_path_factory) -> Setting:
    """A generated collection with its stores."""
    folder = tmp_path_factory.mktemp("synthetic")
    generate(folder, SIZES, words)
    found = Setting(str(folder))
    build(found, SIZES, words, direct=True)
    return found


def test_texts_have_the_tokens_that_they_were_drawn_with(words, setting):
    tokenizer = load_tokenizer(MINILM)
    texts = [text for _, text in setting.reader().passages()]
    drawn = [row for part in passages(words, SIZES) for row in words.tokens(part.words, part.lengths).rows()]
    assert tokenizer(texts, add_special_tokens=False)["input_ids"] == drawn


def test_texts_are_as_long_as_those_of_ms_marco(words, setting):
    lengths = np.array([len(text.split()) for _, text in setting.reader().passages()])
    tokens = np.concatenate([words.tokens(part.words, part.lengths).lengths for part in passages(words, SIZES)])
    for found, mean in ((lengths, 55.6), (tokens, 72.7)):
        assert abs(found.mean() - mean) < 5 * found.std() / len(found) ** 0.5  # five standard errors


def test_triples_and_judgments_agree_and_name_what_is_there(setting):
    reader = setting.reader()
    triples = [triple for _, triple in training_triples(reader)[1]]
    assert len(triples) == SIZES.triples
    assert len(reader.qrels) == SIZES.judged
    for query, positive, negative in triples:
        assert positive == str(answer(np.array([int(query)]), SIZES)[0]) != negative
        assert int(query) < SIZES.queries
        assert int(negative) < SIZES.passages
        assert reader.qrels.get(query, {positive: 1}) == {positive: 1}


def test_candidates_are_as_many_as_asked_for_best_first(setting):
    found = setting.reader().candidates(SIZES.depth)
    assert sum(bool(row) for row in found.values()) == SIZES.judged
    assert [hit.score for hit in found["7"]] == [*range(SIZES.depth, 0, -1)]


def test_a_collection_depends_on_its_seed_only(words, setting, tmp_path):
    for seed, same in ((0, True), (1, False)):
        generate(tmp_path / str(seed), SIZES._replace(seed=seed), words)
        for name in ("docs.tsv", "queries.tsv", "triples.tsv", "run.txt"):
            assert ((tmp_path / str(seed) / name).read_bytes() == (Path(setting.folder) / name).read_bytes()) == same


def test_a_folder_of_other_sizes_is_refused(words, setting):
    with pytest.raises(ValueError, match=f"^{setting.folder} holds a collection of .* Name another folder.$"):
        generate(Path(setting.folder), SIZES._replace(passages=9), words)


def test_a_store_that_was_built_the_other_way_is_refused(words, setting):
    with pytest.raises(ValueError, match=f"^the passages of {setting.folder} were written as drawn. Name another folder, or"):
        build(setting, SIZES, words, direct=False)


def test_the_comparison_finds_one_wrong_token(setting):
    assert compare(setting) == 2 * len(ROWS) * max(ROWS)
    (folder,) = setting.store.glob("synthetic-*-passages")
    items = RaggedStore(folder).folder / "items.bin"
    right = items.read_bytes()
    wrong = np.frombuffer(right, np.uint16).copy()
    wrong[::500] += 1
    try:
        items.write_bytes(wrong.tobytes())
        with pytest.raises(ValueError, match=r"^groups 32: input_ids from the token store and from the texts differ\.$"):
            compare(setting)
    finally:
        items.write_bytes(right)


@pytest.mark.slow
def test_the_command_measures_all_and_writes_it(setting, tmp_path):
    sizes = [word for name, value in SIZES._asdict().items() for word in (f"--{name}", str(value))]
    brief = ["--rounds", "2", "--seconds", "0", "--batches", "150", "--sample", "300"]
    line = [sys.executable, "-m", "benchmarks.data", setting.folder, "--results", str(tmp_path / "results"), *sizes, *brief]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "results/data.json").read_text())
    assert result["sizes"] == SIZES._asdict()
    assert result["store"] == "direct"
    assert result["rows_compared"] == 2 * len(ROWS) * max(ROWS)
    assert set(result["batches"]) == {"naive 32", *STORED, *(f"bare gather {rows}" for rows in ROWS)}
    for row in result["batches"].values():
        assert len(row["rounds"]) == 2
        assert 0 < row["least"] <= row["rows_per_core_s"] <= row["most"]
    assert result["batches"]["naive 32"]["over_naive"] == 1
    streaming = result["streaming"]
    assert (streaming["batches"], streaming["candidates"]) == (150, SIZES.judged * SIZES.depth)
    assert 0 < streaming["rows"] <= 150 * 64
    assert {"VmRSS", "RssAnon", "RssFile"} <= streaming["growth_mib"].keys()
    (folder,) = setting.store.glob("synthetic-*-passages")
    files = {path.name: path.stat().st_size for path in folder.glob("*.bin")}
    for name in ("ids.bin", "starts.bin", "items.bin", "order.bin"):
        assert streaming["files_mib"][f"{folder.name}/{name}"]["size"] * 2**20 == files[name]
    assert result["tokenising"]["one_core"]["passages"] == 300
    assert {"passages written", "triples mapped"} <= result["building"].keys()
    for name in ("groups 512", "growth over 150 batches", "opening to first batch", "tokenising", "machine"):
        assert name in done.stdout
