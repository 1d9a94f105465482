"""The public Reranker: exports and other BERT rankers, and one message for each thing that can't be."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import MINILM, needs_bfloat16, random_student
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification

from rankdistil import Reranker
from rankdistil.inference import engine, machine, reranker
from rankdistil.inference.export_files import write_export, write_fitted, write_precisions
from rankdistil.inference.machine import weight_bits
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.student import StudentSize

QUERY = "how do bees fly"
LONG = " ".join(["honey", "flowers", "nectar"] * 20)
PASSAGES = ["", "wings", "wings beat fast and the air moves", LONG, "pollen is carried on the legs"]
PAIRS = [(QUERY, passage) for passage in PASSAGES]
TOP_K = "expected a whole number of at least 1, or None for all."
LONE = "pair {}: the {} holds a lone surrogate ('\\ud83d', character {}), which is no text. Replace it."


class Frame:
    """A data frame, which iterates over the names of its columns."""

    columns = ("passage",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.fixture
def ranker(tiny_ranker: CrossEncoder) -> CrossEncoder:
    """Return a small ranker that knows the real vocabulary and tells pairs apart."""
    tiny_ranker.config.vocab_size = len(load_tokenizer(MINILM))
    built = random_student(StudentSize("tiny", 2, 24, 3, 48), tiny_ranker, seed=5).eval()
    with torch.no_grad():
        for name, value in built.named_parameters():
            if "LayerNorm" not in name:
                value.normal_(std=0.3)
    return built


@pytest.fixture
def export(tmp_path: Path, ranker: CrossEncoder) -> Path:
    """Write an export whose pairs are cut to 38 tokens."""
    write_export(tmp_path / "export", ranker, load_tokenizer(MINILM), 38)
    return tmp_path / "export"


def columns(pairs: list[tuple[str, str]]) -> list[list[str]]:
    """Return the queries, and the passages."""
    return list(map(list, zip(*pairs, strict=True)))


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


TOLD = "process CHILD was forked from PARENT, which had loaded a ranker: it lacks the threads that compute, and would wait for "
FORK = """
import os, signal, sys
from rankdistil import Reranker
ranker = Reranker(sys.argv[1], device="cpu")
signal.alarm(60)
for act in (lambda: ranker.score([("a", "b")]), lambda: Reranker(sys.argv[1], device="cpu")):
    if os.fork() == 0:
        try:
            act()
        except RuntimeError as error:
            print(str(error).replace(str(os.getpid()), "CHILD").replace(str(os.getppid()), "PARENT"), flush=True)
        os._exit(0)
    os.wait()
print(len(ranker.score([("a", "b")])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_that_was_forked_from_one_with_a_ranker_says_so_where_it_would_wait_for_ever(export, threads: int) -> None:
    line = [sys.executable, "-W", "ignore", "-c", FORK, str(export)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [row[: len(TOLD)] for row in done.stdout.splitlines()] == ([TOLD] * 2 if threads == 2 else []) + ["1"]


@pytest.mark.parametrize("threads", [1, 2])
def test_only_several_threads_are_lost_by_a_fork(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_Threads", type("_Threads", (), {"of": 0, "lost": False}))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    engine.require_threads()  # a ranker is loaded
    engine._note_fork()
    assert engine._Threads.lost is (threads == 2)
    if threads == 2:
        with pytest.raises(
            RuntimeError, match=r"was forked from \d+, which had loaded a ranker: .* Load rankers behind the fork"
        ):
            engine.require_threads()


@torch.inference_mode()
def test_a_ranker_scores_as_in_transformers(export: Path) -> None:
    tokenizer, network = AutoTokenizer.from_pretrained(export), AutoModelForSequenceClassification.from_pretrained(export)
    expected = network.eval()(**tokenizer(*columns(PAIRS), padding=True, truncation=True, return_tensors="pt")).logits[:, 0]
    found = Reranker(export, device="cpu").score(PAIRS)
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert max(found) - min(found) > 0.1


def test_long_pairs_score_as_in_sentence_transformers(export: Path) -> None:
    peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(export), device="cpu")
    long = "where do honey bees find nectar and flowers " * 6
    pairs = [(long, "wings beat"), (QUERY, LONG), (long, LONG), (LONG, long), (long, ""), (QUERY, ""), (LONG[:70], LONG[:80])]
    found = Reranker(export, device="cpu").score(pairs)
    assert found == pytest.approx(peer.predict(pairs).tolist(), abs=1e-4)
    assert len(set(found)) == len(pairs)


def test_marks_of_the_layout_in_a_text_are_text_as_in_sentence_transformers(export: Path) -> None:
    peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(export), device="cpu")
    pairs = [(QUERY, "wings [SEP] beat"), (QUERY, "[PAD] wings"), ("how [MASK] fly", "wings"), (QUERY, "wings [ SEP ] beat")]
    found = Reranker(export, device="cpu").score(pairs)
    assert found == pytest.approx(peer.predict(pairs).tolist(), abs=1e-4)
    assert found[0] == found[3]


@pytest.mark.parametrize("passage", [" " * 20_000 + "bees live six weeks", LONG], ids=["blanks", "long"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_end_that_the_tokenizer_cuts_is_that_of_sentence_transformers(export: Path, side: str, passage: str) -> None:
    edit(export / "tokenizer_config.json", truncation_side=side)
    peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(export), device="cpu")
    found = Reranker(export, device="cpu").score([(QUERY, passage)])
    assert found == pytest.approx(peer.predict([(QUERY, passage)]).tolist(), abs=1e-4)


def test_pairs_are_cut_to_the_length_of_the_export_or_to_less(export: Path) -> None:
    own, shorter = Reranker(export, device="cpu"), Reranker(export, device="cpu", max_length=11)
    assert [each.engine.encoder.max_length for each in (own, shorter)] == [38, 11]
    (cut,) = shorter.score([("one two three four five six", "wings beat fast and the air")])
    assert cut == pytest.approx(*own.score([("one two three four", "wings beat fast and")]), abs=1e-6)


@pytest.mark.parametrize("length", [4, 39, True, 20.0, "20"])
def test_a_length_that_the_export_does_not_read_is_named(export: Path, length: object) -> None:
    with pytest.raises(ValueError) as caught:
        Reranker(export, device="cpu", max_length=length)
    assert str(caught.value) == f"max_length is {length!r}; expected 5 to 38, which {export} reads of a pair."


@pytest.mark.parametrize(("said", "expected"), [(1e30, 40), (10**30, 40), (None, 40), (12.0, 12), (12, 12)])
def test_an_export_without_a_limit_is_read_to_its_positions(export: Path, said: float | None, expected: int) -> None:
    edit(export / "tokenizer_config.json", model_max_length=said)
    assert Reranker(export, device="cpu").engine.encoder.max_length == expected


@pytest.mark.parametrize("said", [0, -1, 4])
def test_an_export_that_reads_nothing_is_refused(export: Path, said: int) -> None:
    edit(export / "tokenizer_config.json", model_max_length=said)
    with pytest.raises(ValueError) as caught:
        Reranker(export)
    assert str(caught.value) == (
        f"{export}: model_max_length is {said} in its tokenizer_config.json; expected tokens of a pair, 5 at least."
    )


def test_devices_and_dtypes_of_torch_are_understood(export: Path) -> None:
    found = Reranker(export, device=torch.device("cpu"), dtype=torch.float32)
    assert (found.dtype, found.engine.network.device) == ("float32", torch.device("cpu"))
    assert found.score(PAIRS) == Reranker(export, device="cpu").score(PAIRS)


def test_an_array_of_texts_is_ranked_as_a_list(export: Path) -> None:
    ranker = Reranker(export, device="cpu")
    assert ranker.rerank(QUERY, np.array(PASSAGES), top_k=np.int64(2)) == ranker.rerank(QUERY, PASSAGES, top_k=2)


def test_passages_are_ordered_and_cut_to_the_best(export: Path) -> None:
    ranker = Reranker(export, device="cpu")
    scores, hits = ranker.score(PAIRS), ranker.rerank(QUERY, PASSAGES)
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    assert [hit.passage for hit in hits] == [PASSAGES[hit.index] for hit in hits]
    assert sorted(hit.index for hit in hits) == [0, 1, 2, 3, 4]
    assert ranker.rerank(QUERY, PASSAGES, top_k=2) == hits[:2]
    assert [hit.index for hit in ranker.rerank(QUERY, ["same"] * 4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=needs_bfloat16), "int8"])
def test_fewer_bits_give_nearly_the_same_scores(export: Path, dtype: str) -> None:
    expected, found = (Reranker(export, device="cpu", dtype=name).score(PAIRS) for name in ("float32", dtype))
    assert found != expected
    assert found == pytest.approx(expected, abs=0.2)


def test_without_a_check_auto_is_float32_on_a_cpu_and_says_so(export: Path) -> None:
    ranker = Reranker(export, device="cpu", dtype="auto")
    assert ranker.dtype == "float32"
    assert ranker.score(PAIRS) == Reranker(export, device="cpu").score(PAIRS)


@pytest.mark.parametrize(("change", "expected"), [(0.0049, "int8"), (-0.0049, "int8"), (0.005, "float32"), (-0.01, "float32")])
def test_auto_is_int8_where_the_check_found_it_harmless(export: Path, change: float, expected: str) -> None:
    write_precisions(export, [{"backend": "torch", "dtype": "int8", "weight_bits": weight_bits(), "change": change}], {})
    ranker = Reranker(export, device="cpu", dtype="auto")
    assert (ranker.dtype, ranker.engine.network.precision) == (expected, expected)


def test_bfloat16_on_a_processor_without_it_is_refused_with_the_cost(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "computes_bfloat16", lambda: False)
    with pytest.raises(ValueError) as caught:
        Reranker(export, device="cpu", dtype="bfloat16")
    assert str(caught.value) == (
        "dtype=bfloat16 needs a processor with bfloat16 (AVX512_BF16, AMX or ARM's BF16), and this one has none or is held "
        "back: emulated, it takes 6.7 times as long as float32. Use dtype=float32 or int8."
    )


def test_many_pairs_are_taken_from_an_iterator_a_chunk_at_a_time(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker, asked, ahead = Reranker(export, device="cpu"), [], []
    expected = ranker.score(PAIRS * 3)
    for module in (engine, reranker):
        monkeypatch.setattr(module, "CHUNK", 4)
    network = ranker.engine.network

    def seen(*pair: object) -> object:
        ahead.append(len(asked))
        return network(*pair)

    ranker.engine.network = seen
    assert ranker.score(asked.append(pair) or pair for pair in PAIRS * 3) == pytest.approx(expected, abs=1e-6)
    assert ahead == [4, 8, 12, 15]


def test_threads_of_a_service_share_one_ranker(export: Path) -> None:
    ranker = Reranker(export, device="cpu")
    expected = ranker.score(PAIRS)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ranker.score(PAIRS), range(200)))
    assert found == [expected] * 200


@torch.inference_mode()
def test_two_labels_are_folded_into_one(tmp_path: Path, export: Path, ranker: CrossEncoder) -> None:
    ranker.config.num_labels = 2
    two = BertForSequenceClassification(ranker.config).eval()
    two.bert.load_state_dict(ranker.bert.bert.state_dict())
    two.classifier.weight.normal_()
    two.save_pretrained(tmp_path / "two")
    load_tokenizer(MINILM).save_pretrained(tmp_path / "two")
    edit(tmp_path / "two/tokenizer_config.json", model_max_length=38)
    rows = AutoTokenizer.from_pretrained(export)(*map(list, zip(*PAIRS, strict=True)), padding=True, truncation=True,
                                                 max_length=38, return_tensors="pt")  # fmt: skip
    expected = two(**rows).logits.softmax(-1)[:, 1]
    found = torch.tensor(Reranker(tmp_path / "two", device="cpu").score(PAIRS)).sigmoid()
    assert torch.allclose(found, expected, atol=1e-5)
    names = {"0": "relevant", "1": "not_relevant"}
    edit(tmp_path / "two/config.json", id2label=names, label2id={name: int(label) for label, name in names.items()})
    turned = torch.tensor(Reranker(tmp_path / "two", device="cpu").score(PAIRS)).sigmoid()
    assert torch.allclose(turned, 1 - expected, atol=1e-5)


@pytest.mark.parametrize(
    ("ask", "error", "expected"),
    [
        (lambda r: r.rerank(QUERY, []), ValueError, "there are no passages to rank. Give at least one."),
        (lambda r: r.score([]), ValueError, "there are no pairs to score. Give at least one (query, passage)."),
        (lambda r: r.rerank(" ", ["a"]), ValueError, "pair 0: the query is empty."),
        (lambda r: r.rerank(QUERY, "wings"), TypeError, "passages is a text; expected a list of texts."),
        (lambda r: r.rerank(QUERY, ["a", 7]), TypeError, "pair 1: the passage is 7 (int); expected a text."),
        (lambda r: r.score([(None, "a")]), TypeError, "pair 0: the query is None (NoneType); expected a text."),
        (lambda r: r.score([5]), TypeError, "pair 0 is 5; expected (query, passage)."),
        (lambda r: r.score(["ab"]), TypeError, "pair 0 is 'ab'; expected (query, passage)."),
        (lambda r: r.score([("a", "b", "c")]), TypeError, "pair 0 is ('a', 'b', 'c'); expected (query, passage)."),
        (lambda r: r.rerank(QUERY, ["a"], top_k=0), ValueError, f"top_k is 0; {TOP_K}"),
        (lambda r: r.rerank(QUERY, ["a"], top_k=2.5), ValueError, f"top_k is 2.5; {TOP_K}"),
        (lambda r: r.rerank(QUERY, ["a"], top_k="2"), ValueError, f"top_k is '2'; {TOP_K}"),
        (lambda r: r.rerank(QUERY, ["a"], top_k=True), ValueError, f"top_k is True; {TOP_K}"),
        (lambda r: r.rerank(QUERY, iter([5]), top_k=0), ValueError, f"top_k is 0; {TOP_K}"),
        (lambda r: r.rerank(QUERY, {"d1": "bees"}), TypeError, "passages is a dict; expected a list of texts."),
        (lambda r: r.rerank(QUERY, {"bees"}), TypeError, "passages is a set; expected a list of texts."),
        (lambda r: r.rerank(QUERY, b"bees"), TypeError, "passages is a bytes; expected a list of texts."),
        (lambda r: r.rerank(QUERY, None), TypeError, "passages is a NoneType; expected a list of texts."),
        (lambda r: r.rerank(QUERY, Frame()), TypeError, "passages is a Frame; expected a list of texts."),
        (lambda r: r.rerank(QUERY, ["a", "b\ud83d"]), ValueError, LONE.format(1, "passage", 1)),
        (lambda r: r.rerank("\ud83d", ["a"]), ValueError, LONE.format(0, "query", 0)),
    ],
)
def test_what_cannot_be_scored_is_named(export: Path, ask, error: type[Exception], expected: str) -> None:
    with pytest.raises(error) as caught:
        ask(Reranker(export, device="cpu"))
    assert str(caught.value) == expected


BOTH = {"fusion": {"method": "interpolation", "weight": 0.25}, "probability": {"slope": 2.0, "offset": -1.0}}


def test_scores_of_the_first_stage_are_united_as_the_export_says(export: Path) -> None:
    write_fitted(export, BOTH)
    ranker, first = Reranker(export, device="cpu"), np.array([3.0, 9.0, 1.0, 4.0, 5.0])
    own = np.array(ranker.score(PAIRS))
    expected = 0.25 * (own - own.min()) / np.ptp(own) + 0.75 * (first - 1) / 8
    hits = ranker.rerank(QUERY, PASSAGES, first_stage_scores=first)
    assert [hit.index for hit in hits] == np.argsort(-expected).tolist()
    assert {hit.index: hit.fused for hit in hits} == pytest.approx(dict(enumerate(expected)))
    assert {hit.index: hit.score for hit in hits} == pytest.approx(dict(enumerate(own)))
    assert ranker.rerank(QUERY, PASSAGES, 2, first) == hits[:2]
    assert [hit.fused for hit in ranker.rerank(QUERY, PASSAGES)] == [None] * 5


def test_a_hit_has_the_probability_that_the_export_keeps(export: Path) -> None:
    assert Reranker(export, device="cpu").rerank(QUERY, PASSAGES)[0].probability is None
    write_fitted(export, BOTH)
    for hit in Reranker(export, device="cpu").rerank(QUERY, PASSAGES):
        assert hit.probability == pytest.approx(1 / (1 + np.exp(1 - 2 * hit.score)))


def test_what_was_fitted_to_other_weights_is_not_used_and_a_damaged_file_is_named(export: Path) -> None:
    write_fitted(export, BOTH)
    edit(export / "fitted.json", weights="0")
    ranker = Reranker(export, device="cpu")
    assert (ranker.fusion, ranker.probability) == (None, None)
    with pytest.raises(ValueError) as caught:
        ranker.rerank(QUERY, ["a"], first_stage_scores=[1.0])
    assert str(caught.value) == (
        f"first_stage_scores: {export} keeps no fusion, or one of other weights or windows. Fit it on the run's validation: "
        "python -m rankdistil.export run=<run> to=fitted"
    )
    (export / "fitted.json").write_text("{}")
    with pytest.raises(
        ValueError, match=re.escape(f"{export / 'fitted.json'} is damaged (KeyError('weights')). Write it again: ")
    ):
        Reranker(export)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ([1.0], "first_stage_scores holds 1 numbers; expected one for each of 2 passages."),
        ([1.0, float("nan")], "first_stage_scores[1] is nan; expected a finite number."),
        (["1", 2.0], "first_stage_scores[0] is '1'; expected a finite number."),
    ],
)
def test_first_stage_scores_that_fit_no_passage_are_refused(export: Path, first: list, message: str) -> None:
    write_fitted(export, BOTH)
    with pytest.raises(ValueError) as caught:
        Reranker(export, device="cpu").rerank(QUERY, ["a", "b"], first_stage_scores=first)
    assert str(caught.value) == message


def test_weights_that_are_not_finite_are_refused(export: Path) -> None:
    weights = load_file(export / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, export / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError) as caught:
        Reranker(export)
    assert str(caught.value) == f"{export}: 1 weights are NaN or infinite, classifier.bias among them. Take another checkpoint."


def test_a_tokenizer_that_does_not_belong_is_refused(export: Path, tmp_path: Path, ranker: CrossEncoder) -> None:
    ranker.bert.resize_token_embeddings(100)
    write_export(tmp_path / "small", ranker, load_tokenizer(MINILM), 38)
    with pytest.raises(ValueError, match=re.escape("its tokenizer has 30522 tokens, its network knows 100. Tokenizer and")):
        Reranker(tmp_path / "small")


def test_folders_without_a_head_or_with_many_labels_are_refused(export: Path) -> None:
    edit(export / "config.json", id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    with pytest.raises(ValueError) as caught:
        Reranker(export)
    assert str(caught.value) == f"{export}: the head has 3 labels, expected 1, or 2 of which one is relevance."
    edit(export / "config.json", architectures=["BertModel"])
    with pytest.raises(ValueError, match="is a language model without a ranking head"):
        Reranker(export)


def test_a_folder_without_a_vocabulary_or_with_another_kind_is_refused(export: Path) -> None:
    file = export / "tokenizer.json"
    edit(file, model={"type": "WordLevel", "vocab": []})
    with pytest.raises(ValueError) as caught:
        Reranker(export)
    assert str(caught.value) == f"{file} is a tokenizer of type 'WordLevel'; expected one of WordPiece, BPE, Unigram."
    file.unlink()
    with pytest.raises(FileNotFoundError) as missing:
        Reranker(export)
    assert str(missing.value) == f"{export} holds no tokenizer.json and no vocab.txt. Copy the checkpoint's tokenizer there."


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type_vocab_size": 1}, "doesn't tell the query from the passage by token types"),
        ({"is_decoder": True}, "is_decoder is true; expected an encoder"),
    ],
)
def test_a_network_of_another_layout_is_refused(export: Path, entry: dict, expected: str) -> None:
    edit(export / "config.json", **entry)
    with pytest.raises(ValueError, match=expected):
        Reranker(export)


def test_int8_stays_on_the_cpu_where_there_is_a_gpu(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Reranker(export, dtype="int8").engine.network.device.type == "cpu"


def test_a_column_is_ranked_by_place_not_by_its_index(export: Path) -> None:
    class Column:
        def __iter__(self) -> Iterator[str]:
            return iter(PASSAGES)

        def __getitem__(self, label: int) -> str:
            raise KeyError(label)

    hits = Reranker(export, device="cpu").rerank(QUERY, Column())
    assert [hit.passage for hit in hits] == [PASSAGES[hit.index] for hit in hits]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"backend": "tensorrt"}, "backend is 'tensorrt'; expected one of torch, onnx, openvino."),
        ({"dtype": "float16"}, "dtype is 'float16'; expected one of float32, bfloat16, int8."),
        (
            {"device": "cuda:99"},
            f"device is 'cuda:99', but torch sees {torch.cuda.device_count()} GPUs here. Use device='cpu'.",
        ),
        ({"device": "gpu"}, "device is 'gpu'; expected cpu, cuda or cuda:<n>."),
        ({"device": 0}, "device is 0; expected cpu, cuda or cuda:<n>."),
        ({"device": torch.device("meta")}, "device is 'meta'; expected cpu, cuda or cuda:<n>."),
        ({"dtype": torch.float16}, "dtype is 'float16'; expected one of float32, bfloat16, int8."),
        ({"dtype": None}, "dtype is None; expected one of float32, bfloat16, int8."),
    ],
)
def test_what_this_machine_or_library_does_not_have_is_named(export: Path, settings: dict, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        Reranker(export, **settings)
    assert str(caught.value) == expected
