"""The engine scores like the plain network, and an export loads back as the same ranker."""

import itertools
import json
import os
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from support import MINILM, needs_bfloat16, random_student, uneven_ranker
from tokenizers import Tokenizer
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.inference import engine
from rankdistil.inference.engine import Engine, TorchNetwork
from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_ranker, load_tokenizer
from rankdistil.models.cpu_layers import prepacks
from rankdistil.models.student import StudentSize

PAIRS = [
    Pair("q", str(number), "how do bees fly", " ".join(["wings beat fast and the air moves"] * number))
    for number in (3, 0, 1, 9, 2)
]


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return load_tokenizer(MINILM)


@pytest.fixture
def ranker(tiny_ranker: CrossEncoder, tokenizer: object) -> CrossEncoder:
    """Return a small ranker that knows the real vocabulary."""
    tiny_ranker.config.vocab_size = len(tokenizer)
    built = random_student(StudentSize("tiny", 2, 24, 3, 48), tiny_ranker, seed=5).eval()
    with torch.no_grad():
        built.bert.classifier.weight *= 1000  # fresh heads give all pairs nearly the same score
    return built


@pytest.mark.parametrize("budget", [1, 60, 10_000])
@pytest.mark.fault("F6")
def test_scores_come_in_the_order_of_the_pairs_and_equal_the_plain_network(
    ranker: CrossEncoder, tokenizer: object, budget: int
) -> None:
    encoder = PairEncoder(tokenizer, 38, 40)
    network = TorchNetwork(ranker, encoder, torch.device("cpu"), budget=budget)
    scores, sample = Engine(network, encoder).score(PAIRS)
    alone = [ranker(*encoder.batch([pair])[:3]).logits.item() for pair in PAIRS]
    assert scores == pytest.approx(alone, abs=1e-5)
    assert sample.tokenise > 0
    assert sample.model > 0


class Rows(TorchDispatchMode):
    """Notes how many rows oneDNN is given to multiply by weights: for each number it prepares a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: OpOverload, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        if "linear_pointwise" in str(func):
            self.seen.add(len(args[0]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "precision",
    ["int8", pytest.param("bfloat16", marks=[needs_bfloat16, pytest.mark.skipif(not prepacks(), reason="no kernels")])],
)
def test_in_fewer_bits_batches_of_any_sizes_have_few_numbers_of_rows(precision: str) -> None:
    ranker, tokenizer = uneven_ranker(2)
    encoder, place = PairEncoder(tokenizer, 38, 40), torch.device("cpu")
    network, exact = (TorchNetwork(ranker, encoder, place, each, budget=256) for each in (precision, "float32"))
    batches = [[PAIRS[number % 5] for number in range(count)] for count in range(1, 41)]
    with Rows() as rows:
        found = [Engine(network, encoder).score(pairs)[0] for pairs in batches]
    expected = np.array(Engine(exact, encoder).score(PAIRS)[0])
    for scores in found:
        gaps = [abs(score - expected[number % 5]) for number, score in enumerate(scores)]
        assert max(gaps) < 0.2 * expected.std()
    assert len(rows.seen) > 1
    assert rows.seen <= {*range(64, 257, 64), *range(8, 64, 8)}


def test_attention_as_a_gpu_computes_it_gives_the_same_scores(ranker: CrossEncoder, tokenizer: object) -> None:
    encoder, place = PairEncoder(tokenizer, 38, 40), torch.device("cpu")
    expected, found = (
        Engine(TorchNetwork(ranker, encoder, place, fused=fused), encoder).score(PAIRS)[0] for fused in (False, True)
    )
    assert found == pytest.approx(expected, abs=1e-5)


def test_ahead_the_next_chunk_is_tokenised_while_one_is_scored(
    ranker: CrossEncoder, tokenizer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = PairEncoder(tokenizer, 38, 40)
    network = TorchNetwork(ranker, encoder, torch.device("cpu"))
    expected, _ = Engine(network, encoder).score(PAIRS)
    monkeypatch.setattr(engine, "CHUNK", 2)
    tokenised = [Event() for _ in range(4)]
    tokens, count, scored = Engine.tokens, itertools.count(), itertools.count()

    def noted(own: Engine, pairs: list[Pair]) -> object:
        found = tokens(own, pairs)
        tokenised[next(count)].set()
        return found

    def waiting(*segments: object) -> object:
        number = next(scored)
        assert number == 2 or tokenised[number + 1].wait(20), "the next one isn't tokenised before this one is scored"
        return network(*segments)

    monkeypatch.setattr(Engine, "tokens", noted)
    waiting.budget = network.budget
    scores, sample = Engine(waiting, encoder, ahead=True).score(PAIRS)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert next(scored) == 3
    assert sample.tokenise > 0


@pytest.mark.fault("H1")
def test_an_export_loads_back_bit_by_bit_and_in_transformers(tmp_path: Path, ranker: CrossEncoder, tokenizer: object) -> None:
    write_export(tmp_path / "export", ranker, tokenizer, 38)
    batch = PairEncoder(load_tokenizer(str(tmp_path / "export")), 38, 40).batch(PAIRS)
    ours = ranker(*batch[:3]).logits.detach()
    loaded = load_ranker(str(tmp_path / "export"))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in ranker.state_dict().items())
    assert torch.allclose(loaded.eval()(*batch[:3]).logits, ours, atol=1e-6)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export").eval()
    logits = theirs(batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids).logits
    assert torch.allclose(logits[:, 0], ours, atol=1e-5)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_files_of_an_export_are_as_open_as_the_umask_leaves_them(
    tmp_path: Path, ranker: CrossEncoder, tokenizer: object, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        write_export(tmp_path / "export", ranker, tokenizer, 38)
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "export").iterdir()}
    assert found == dict.fromkeys(found, mode)
    assert "model.safetensors" in found


def test_an_export_says_its_length_its_activation_and_its_special_tokens(
    tmp_path: Path, ranker: CrossEncoder, tokenizer: object
) -> None:
    write_export(tmp_path / "export", ranker, tokenizer, 38)
    config = json.loads((tmp_path / "export/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["sentence_transformers"] == {"activation_fn": "torch.nn.modules.linear.Identity"}
    assert (config["id2label"], config["problem_type"]) == ({"0": "LABEL_0"}, "regression")
    assert AutoTokenizer.from_pretrained(tmp_path / "export").model_max_length == 38
    assert json.loads((tmp_path / "export/sentence_bert_config.json").read_text())["max_seq_length"] == 38
    lengths = json.loads((tmp_path / "export/tokenizer_config.json").read_text())
    assert (lengths["model_max_length"], lengths["max_length"]) == (38, 38), "not the 128 of the encoder that this came from"
    assert json.loads((tmp_path / "export/special_tokens_map.json").read_text())["cls_token"] == "[CLS]"


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_tokenizer_s_file_alone_cuts_pairs_as_training_did(tmp_path: Path, ranker: CrossEncoder, side: str) -> None:
    tokenizer = load_tokenizer(MINILM)
    tokenizer.truncation_side = side
    tokenizer(["a"], padding="max_length", truncation="only_first", max_length=7)  # which leaves no trace
    write_export(tmp_path / "export", ranker, tokenizer, 12)
    texts = "one two three four five", "six seven eight nine ten eleven"
    (expected,) = PairEncoder(tokenizer, 12).batch([Pair("1", "a", *texts)]).input_ids.tolist()
    assert Tokenizer.from_file(str(tmp_path / "export/tokenizer.json")).encode(*texts).ids == expected


def test_an_export_without_its_head_is_the_language_model_and_claims_no_ranking(
    tmp_path: Path, ranker: CrossEncoder, tokenizer: object
) -> None:
    write_export(tmp_path / "export", ranker, tokenizer, 38, with_head=False)
    config = json.loads((tmp_path / "export/config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert "sentence_transformers" not in config
    exported, whole = AutoModel.from_pretrained(tmp_path / "export").state_dict(), ranker.bert.bert.state_dict()
    assert exported.keys() == whole.keys()
    assert all(torch.equal(value, whole[key]) for key, value in exported.items())
    with pytest.raises(ValueError, match="is a language model without a ranking head"):
        load_ranker(str(tmp_path / "export"))


def test_an_export_replaces_an_older_one_and_leaves_nothing_beside_it(
    tmp_path: Path, ranker: CrossEncoder, tokenizer: object
) -> None:
    for _ in range(2):
        write_export(tmp_path / "export", ranker, tokenizer, 38)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


@pytest.mark.fault("H3")
def test_an_export_that_fails_leaves_the_old_one(
    tmp_path: Path, ranker: CrossEncoder, tokenizer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_export(tmp_path / "export", ranker, tokenizer, 38)
    before = (tmp_path / "export/model.safetensors").read_bytes()
    monkeypatch.setattr(type(tokenizer), "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_export(tmp_path / "export", ranker, tokenizer, 12)
    assert (tmp_path / "export/model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
