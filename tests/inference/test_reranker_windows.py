"""Reranker on documents in windows: a naive loop over hand-made windows, and what an export remembers of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import uneven_ranker
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rankdistil import Reranker
from rankdistil.data.windows import Windows
from rankdistil.inference import engine
from rankdistil.inference.export_files import read_windows, write_export, write_fitted
from rankdistil.models.checkpoints import read_config

QUERY = "how do bees fly in spring"
random = np.random.default_rng(7)
WORDS = ["honey", "flower", "nectar", "wing", "air", "hive", "queen", "pollen", "meadow", "river", "stone", "bridge"]
DOCUMENTS = [" ".join(random.choice(WORDS, size)) for size in (3, 25, 31, 60, 200, 1, 120)] + [""]
SIZE, STRIDE, MOST = 20, 8, 6
WINDOWS = {"stride": STRIDE, "most": MOST, "size": SIZE}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an export that reads documents in windows of 20 tokens."""
    folder = tmp_path_factory.mktemp("windows") / "export"
    ranker, tokenizer = uneven_ranker(2)
    write_export(folder, ranker, tokenizer, 38, windows=Windows(**WINDOWS))
    return folder


def naive(export: Path, document: str) -> list[float]:
    """Score each window alone, with transformers."""
    tokenizer, network = (
        AutoTokenizer.from_pretrained(export),
        AutoModelForSequenceClassification.from_pretrained(export).eval(),
    )
    ids = tokenizer(document, add_special_tokens=False, truncation=False).input_ids
    parts = [ids[start : start + SIZE] for start in range(0, max(len(ids) - SIZE + STRIDE, 1), STRIDE)][:MOST]
    first = tokenizer(QUERY).input_ids
    scores = []
    for part in parts:
        row = torch.tensor([[*first, *part, tokenizer.sep_token_id]])
        types = torch.tensor([[0] * len(first) + [1] * (len(part) + 1)])
        with torch.no_grad():
            scores.append(network(input_ids=row, token_type_ids=types).logits.item())
    return scores


@pytest.mark.parametrize(
    ("settings", "united"),
    [
        ({}, max),
        ({"aggregate": "first"}, lambda scores: scores[0]),
        ({"aggregate": "mean"}, np.mean),
        ({"aggregate": "mean", "top": 2}, lambda scores: np.mean(sorted(scores)[-2:])),
    ],
)
def test_scores_are_those_of_a_loop_over_windows_with_transformers(export: Path, settings: dict, united) -> None:
    ranker = Reranker(export, device="cpu", windows=WINDOWS | settings)
    found = ranker.score((QUERY, document) for document in DOCUMENTS)
    parts = [naive(export, document) for document in DOCUMENTS]
    assert [len(part) for part in parts] == [1, 2, 3, 6, 6, 1, 6, 1]
    assert found == pytest.approx([united(part) for part in parts], abs=1e-5)
    assert np.std(found) > 0.01


def test_a_document_s_score_is_the_best_of_its_windows_scored_as_passages(export: Path) -> None:
    maxp, cut = Reranker(export, device="cpu"), Reranker(export, device="cpu", windows=False)
    for document in DOCUMENTS[:4]:
        words = document.split()  # each is one token
        parts = [" ".join(words[start : start + SIZE]) for start in range(0, max(len(words) - SIZE + STRIDE, 1), STRIDE)][:MOST]
        alone = max(cut.score((QUERY, part) for part in parts))
        assert maxp.score([(QUERY, document)]) == pytest.approx([alone], abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"aggregate": "mean"}, {"aggregate": "mean", "top": 2}])
def test_documents_of_one_window_score_as_without_windows_to_the_bit(export: Path, settings: dict) -> None:
    short = [(QUERY, document) for document in DOCUMENTS if len(document.split()) <= SIZE]
    short += [(QUERY, " ".join(WORDS)), ("bees " * 40, "honey"), ("bees " * 60, " ".join(WORDS))]
    found = Reranker(export, device="cpu", windows=WINDOWS | settings).score(short)
    assert found == Reranker(export, device="cpu", windows=False).score(short)


def test_first_windows_as_long_as_the_query_leaves_are_what_truncation_keeps_to_the_bit(export: Path) -> None:
    pairs = [(query, document) for query in (QUERY, "bees") for document in DOCUMENTS]
    first = Reranker(export, device="cpu", windows={"stride": 1, "most": 1, "aggregate": "first"})
    assert first.score(pairs) == Reranker(export, device="cpu", windows=False).score(pairs)


def test_a_score_depends_neither_on_order_nor_on_company(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = Reranker(export, device="cpu")
    pairs = [(QUERY, document) for document in DOCUMENTS]
    found = ranker.score(pairs)
    assert ranker.score(pairs[::-1])[::-1] == pytest.approx(found, abs=1e-5)
    assert [ranker.score([pair])[0] for pair in pairs] == pytest.approx(found, abs=1e-5)
    monkeypatch.setattr(engine, "CHUNK", 2 * MOST)
    assert Reranker(export, device="cpu").score(pairs) == pytest.approx(found, abs=1e-5)


def test_an_answer_beyond_the_cut_is_found(export: Path) -> None:
    """A stand-in for the network counts the query's words in a window; rank alone decides, and truncation can't see it."""

    class Counting:
        budget = 100

        def __call__(self, first, second):
            pairs = zip(first.rows(), second.rows(), strict=True)
            return np.array([len({*query} & {*passage}) for query, passage in pairs], np.float32)

    filler = " ".join(["stone river bridge"] * 25)
    documents = [f"{filler} bees fly in spring {filler}", f"how bees {filler}", f"{filler} {filler}"]
    orders = {}
    for name, windows in {"MaxP": None, "cut": False}.items():
        ranker = Reranker(export, device="cpu", windows=WINDOWS | {"most": 30} if windows is None else False)
        ranker.engine.network = Counting()
        orders[name] = [hit.index for hit in ranker.rerank(QUERY, documents)]
    assert orders == {"MaxP": [0, 1, 2], "cut": [1, 0, 2]}


def test_an_export_keeps_its_windows_and_other_tools_read_it_as_ever(export: Path, tmp_path: Path) -> None:
    assert Reranker(export, device="cpu").windows == Windows(**WINDOWS)
    assert Reranker(export, device="cpu", windows=False).windows is None
    assert json.loads((export / "config.json").read_text())["rankdistil"] == {
        "windows": WINDOWS | {"aggregate": "max", "top": None}
    }
    ranker, tokenizer = uneven_ranker(2)
    ranker.config.rankdistil = {"windows": WINDOWS}  # as a student's config has it of its teacher
    write_export(tmp_path / "cut", ranker, tokenizer, 38)
    assert "rankdistil" not in json.loads((tmp_path / "cut/config.json").read_text())
    assert read_windows("cut", read_config(str(tmp_path / "cut"))) is None


def test_what_was_fitted_to_scores_of_windows_is_not_used_beside_others(tmp_path: Path) -> None:
    ranker, tokenizer = uneven_ranker(1)
    write_export(tmp_path / "export", ranker, tokenizer, 38, windows=Windows(**WINDOWS))
    write_fitted(tmp_path / "export", {"fusion": {"method": "rrf"}, "probability": {"slope": 1.0, "offset": 0.0}})
    own, cut = Reranker(tmp_path / "export", device="cpu"), Reranker(tmp_path / "export", device="cpu", windows=False)
    assert own.fusion is not None
    assert own.rerank(QUERY, DOCUMENTS[:2])[0].probability is not None
    assert (cut.fusion, cut.probability) == (None, None)
    with pytest.raises(ValueError, match=r"keeps no fusion, or one of other weights or windows\."):
        cut.rerank(QUERY, DOCUMENTS[:2], first_stage_scores=[1.0, 2.0])
    same = Reranker(tmp_path / "export", device="cpu", windows=WINDOWS)
    assert same.fusion == own.fusion


@pytest.mark.parametrize("held", [{"windows": {"stride": 0, "most": 2}}, {"windows": 3}, [1]])
def test_windows_of_an_export_that_cannot_be_read_are_told(export: Path, tmp_path: Path, held: object) -> None:
    ranker, tokenizer = uneven_ranker(1)
    write_export(tmp_path / "export", ranker, tokenizer, 38)
    file = tmp_path / "export/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rankdistil": held}))
    with pytest.raises(
        ValueError, match=r"export: rankdistil in its config\.json is .*, which can't be read \(.*\)\. Remove it\.$"
    ):
        Reranker(tmp_path / "export", device="cpu")


def test_windows_that_do_not_fit_are_refused_by_name(export: Path) -> None:
    with pytest.raises(ValueError, match=r"^windows\.size is 40; expected 34 at most: of the 38 tokens of a pair"):
        Reranker(export, device="cpu", windows={"stride": 4, "most": 3, "size": 40})
    with pytest.raises(ValueError, match=r"^windows lacks most\."):
        Reranker(export, device="cpu", windows={"stride": 4})
