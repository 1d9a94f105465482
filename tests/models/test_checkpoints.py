"""Loading checkpoints: what is taken, and what is refused instead of being filled with random weights."""

import json
import re

import pytest
import torch
from conftest import MINILM
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import PretrainedConfig

from rankdistil.models.checkpoints import (
    is_language_model,
    load_cross_encoder,
    load_language_model,
    load_ranker,
    load_tokenizer,
    read_config,
    refuse_ranker,
    relevant_label,
)
from rankdistil.models.families import FAMILIES
from rankdistil.models.locate import locate

NEW_HEAD = {"classifier.weight", "classifier.bias"}

IDS = torch.tensor([[2, 7, 9, 3, 11, 3]])
INPUTS = IDS, torch.ones_like(IDS), torch.tensor([[0, 0, 0, 0, 1, 1]])


@pytest.fixture
def folder(tiny_ranker, tmp_path):
    tiny_ranker.bert.save_pretrained(tmp_path)
    return tmp_path


def _edit_weights(folder, edit):
    weights = load_file(folder / "model.safetensors")
    save_file(edit(weights) or weights, folder / "model.safetensors", metadata={"format": "pt"})


def _edit_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_saved_ranker_comes_back_with_the_same_score_in_evaluation_mode(folder, tiny_ranker):
    loaded = load_ranker(str(folder))
    assert not any(part.training for part in loaded.bert.modules())
    assert torch.equal(loaded(*INPUTS).logits, tiny_ranker(*INPUTS).logits)


def test_weights_stored_in_half_precision_are_loaded_as_float32(folder):
    _edit_weights(folder, lambda weights: {name: value.half() for name, value in weights.items()})
    _edit_config(folder, dtype="float16")
    assert {parameter.dtype for parameter in load_ranker(str(folder)).parameters()} == {torch.float32}


def test_a_ranker_without_its_head_is_refused_and_the_keys_are_named(folder):
    _edit_weights(folder, lambda weights: {name: value for name, value in weights.items() if name not in NEW_HEAD})
    with pytest.raises(ValueError, match="expected a ranker's weights and head; found keys missing") as error:
        load_ranker(str(folder))
    assert "['classifier.bias', 'classifier.weight']" in str(error.value)
    assert str(folder) in str(error.value)


def test_a_language_model_without_a_layer_is_refused_and_the_keys_are_named(folder):
    _edit_weights(folder, lambda weights: {name: value for name, value in weights.items() if ".layer.3." not in name})
    with pytest.raises(ValueError, match=r"expected a pretrained BERT's weights; .*missing \['bert\.encoder.layer.3\."):
        load_language_model(str(folder))


def test_weights_that_belong_nowhere_are_refused(folder):
    _edit_weights(folder, lambda weights: weights | {"fit_dense.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"unexpected \['fit_dense\.weight'\]"):
        load_ranker(str(folder))


def test_weights_of_another_shape_are_refused(folder):
    _edit_config(folder, vocab_size=51)
    with pytest.raises(ValueError, match=r"of another shape .*word_embeddings"):
        load_ranker(str(folder))


@pytest.mark.fault("G6")
def test_a_folder_with_pickled_weights_only_is_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        load_ranker(str(folder))


@pytest.mark.fault("G6")
def test_a_checkpoint_that_brings_code_is_refused(folder):
    _edit_config(folder, auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ValueError, match=r"config\.json asks for code of its own \(auto_map\)"):
        load_ranker(str(folder))


def test_another_architecture_is_refused(folder):
    _edit_config(folder, model_type="t5")
    with pytest.raises(ValueError) as caught:
        read_config(str(folder))
    assert str(caught.value) == f"{folder}/config.json: model_type is 't5', expected one of {', '.join(FAMILIES)}."


def test_a_deberta_is_refused_with_the_way_to_learn_from_its_scores(folder):
    _edit_config(folder, model_type="deberta-v2")
    with pytest.raises(ValueError, match="model_type is 'deberta-v2', expected one of bert, ") as caught:
        read_config(str(folder))
    way = "+experiment=score_teacher teacher.kind=cross_encoder teacher.path=<checkpoint>."
    assert str(caught.value).endswith(f". A DeBERTa gives scores to learn from: {way}")


@pytest.mark.fault("G6")
def test_how_a_checkpoint_asks_to_be_computed_is_left_out(folder, tiny_ranker):
    _edit_config(folder, attn_implementation="some/kernel", _attn_implementation="flash_attention_2")
    _edit_config(folder, _attn_implementation_internal="some/kernel")
    (folder / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    loaded = load_ranker(str(folder))
    assert loaded.config._attn_implementation == tiny_ranker.config._attn_implementation
    assert torch.equal(loaded(*INPUTS).logits, tiny_ranker(*INPUTS).logits)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_a_quantised_checkpoint_is_refused(folder, key):
    _edit_config(folder, **{key: {"quant_method": "bitsandbytes", "load_in_8bit": True}})
    with pytest.raises(ValueError) as caught:
        load_ranker(str(folder))
    assert str(caught.value) == (
        f"{folder}/config.json: its weights are quantised ({key}); expected plain floats. Take the checkpoint that it was made "
        "from; Reranker(dtype='int8') quantises by itself."
    )


@pytest.mark.parametrize(
    ("first", "second", "relevant"),
    [
        ("LABEL_0", "LABEL_1", 1), ("relevant", "not_relevant", 0), ("Not Relevant", "Relevant", 1), ("yes", "no", 0),
        ("non-relevant", "relevant", 1), ("False", "True", 1), ("entailment", "not_entailment", 0), ("LABEL_1", "LABEL_0", 0),
    ],
)  # fmt: skip
def test_the_relevant_label_is_found_by_its_name(folder, first, second, relevant):
    _edit_config(folder, id2label={"0": first, "1": second}, label2id={first: 0, second: 1})
    assert relevant_label("", read_config(str(folder))) == relevant


@pytest.mark.parametrize(("first", "second"), [("cats", "dogs"), ("relevant", "LABEL_1"), ("yes", "yes")])
def test_labels_whose_names_leave_relevance_open_are_refused(folder, first, second):
    _edit_config(folder, id2label={"0": first, "1": second}, label2id={first: 0, second: 1})
    with pytest.raises(ValueError) as caught:
        load_cross_encoder(str(folder))
    assert str(caught.value) == (
        f"{folder}: id2label is {{0: {first!r}, 1: {second!r}}}, which doesn't say which label is relevance. Name them "
        "not_relevant and relevant in its config.json, or LABEL_0 and LABEL_1, of which LABEL_1 is relevance."
    )


def test_a_hub_id_that_gives_nothing_may_have_been_meant_as_a_folder(monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'.\nCheck your connection.")

    monkeypatch.setattr(PretrainedConfig, "get_config_dict", offline)
    with pytest.raises(FileNotFoundError) as caught:
        read_config("runs/exprot")
    assert str(caught.value) == (
        "'runs/exprot' is no folder here, and no checkpoint came from the Hugging Face hub (We couldn't connect to "
        "'https://huggingface.co'.) Give a folder with config.json, or a hub id owner/name."
    )


def test_a_folder_without_config_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json: it is no checkpoint folder"):
        read_config(str(tmp_path))


@pytest.mark.fault("H4")
def test_a_language_model_is_no_ranker_and_the_way_to_one_is_named():
    with pytest.raises(ValueError) as caught:
        load_ranker(MINILM)
    assert str(caught.value) == (
        f"{MINILM} is a language model without a ranking head (BertModel): it can't rank yet. Train it to: "
        f"+experiment=finetune_6l student.init_from=export:{MINILM}, or name a ranker."
    )


def test_a_head_of_two_labels_is_no_ranker(folder):
    _edit_config(folder, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    with pytest.raises(ValueError) as caught:
        load_ranker(str(folder))
    assert str(caught.value) == f"{folder}: the head has 2 labels, expected 1 (a ranker with one logit)."


def test_a_ranker_is_refused_where_a_language_model_gets_a_new_head(folder):
    with pytest.raises(ValueError) as caught:
        refuse_ranker(str(folder), "teacher.path=")
    assert str(caught.value) == (
        f"teacher.path={folder} is a ranker (BertForSequenceClassification); expected a pretrained language model, without "
        f"a trained head. Name the one that the ranker started from. Or keep the ranker's head: teacher.export={folder} learns "
        f"from the ranker, and student.init_from=export:{folder} trains it further, in a stage that ranks."
    )
    refuse_ranker(MINILM, "teacher.path=")


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [(["BertModel"], True), (["BertForMaskedLM"], True), (["BertForSequenceClassification"], False), (None, False)],
)
def test_a_checkpoint_is_a_language_model_if_it_says_so(folder, architectures, expected):
    _edit_config(folder, architectures=architectures)
    assert is_language_model(read_config(str(folder))) is expected


def test_minilm_loads_with_only_a_new_head():
    stored = load_file(locate(MINILM) / "model.safetensors")
    loaded = load_language_model(MINILM).bert.state_dict()
    assert set(loaded) - {f"bert.{name}" for name in stored} == NEW_HEAD
    for name, value in stored.items():
        if "position_ids" not in name:
            assert_close(loaded[f"bert.{name}"], value.float(), rtol=0, atol=0)


def test_the_new_head_follows_the_seed_and_the_global_generator_is_untouched(folder):
    _edit_weights(folder, lambda weights: {name: value for name, value in weights.items() if name not in NEW_HEAD})
    before = torch.get_rng_state()
    heads = [load_language_model(str(folder), seed=seed).bert.classifier.weight for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_that_a_checkpoint_has_leaves_no_trace(folder, tiny_ranker):
    """The new one is that of the same checkpoint without a head."""
    loaded = load_language_model(str(folder), seed=3).bert.state_dict()
    _edit_weights(folder, lambda weights: {name: value for name, value in weights.items() if name not in NEW_HEAD})
    headless = load_language_model(str(folder), seed=3).bert.state_dict()
    assert loaded.keys() == headless.keys()
    assert all(torch.equal(value, headless[name]) for name, value in loaded.items())
    assert not torch.equal(headless["classifier.weight"], tiny_ranker.bert.classifier.weight)


def test_a_language_model_of_two_labels_gets_one_logit(folder):
    _edit_weights(folder, lambda weights: weights | {"classifier.weight": torch.ones(2, 24), "classifier.bias": torch.ones(2)})
    _edit_config(folder, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    assert load_language_model(str(folder)).bert.classifier.out_features == 1


def test_dropout_is_the_checkpoint_s_own(folder):
    def dropouts(ranker):
        return {part.p for part in ranker.modules() if isinstance(part, torch.nn.Dropout)}

    assert dropouts(load_language_model(str(folder))) == {0.1}


def test_the_head_of_masked_language_modelling_is_left_behind(folder):
    _edit_weights(folder, lambda weights: weights | {"cls.predictions.bias": torch.zeros(50)})
    assert load_language_model(str(folder)).config.num_hidden_layers == 4


def test_the_tokenizer_of_minilm_reads_a_pair_as_query_and_passage():
    encoded = load_tokenizer(MINILM)("a b", "c")
    assert encoded["input_ids"] == [101, 1037, 1038, 102, 1039, 102]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b'{"model_type": "be', "Unterminated string starting at: line 1 column 16 (char 15)"),
        ("config.json", b"\xff\xfe", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("config.json", b"[1]", "it holds no object"),
        ("model.safetensors", b"abc", "header too small"),
    ],
)
def test_a_damaged_file_is_named(folder, name, content, told):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load_ranker(str(folder))
    assert str(caught.value).lower().startswith(f"{folder / name} is damaged (".lower())
    assert told.lower().replace(" ", "") in str(caught.value).lower().replace(" ", "")
    assert str(caught.value).endswith("Copy the checkpoint again.")


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged \("):
        load_tokenizer(str(folder))


def test_a_value_of_the_wrong_type_in_a_config_is_told_with_its_checkpoint(folder):
    _edit_config(folder, hidden_size="wide")
    with pytest.raises(ValueError, match=rf"^{folder}/config\.json is damaged \(.*'hidden_size'.*\)\. Copy the checkpoint "):
        read_config(str(folder))


@pytest.fixture
def ranker(folder):
    load_tokenizer(MINILM).save_pretrained(folder)
    _edit_config(folder, vocab_size=30522)
    return folder


CONFIG = [
    ("hidden_size", 0), ("num_attention_heads", 0), ("num_attention_heads", 7), ("num_hidden_layers", -2), ("vocab_size", -1),
    ("max_position_embeddings", -3), ("pad_token_id", 10**9), ("hidden_act", "nope"), ("hidden_dropout_prob", 2),
    ("dtype", "nope"), ("id2label", []), ("architectures", 3), ("architectures", [3]), ("model_type", ["bert"]),
    ("model_type", None), ("quantization_config", {}), ("rope_parameters", 3), ("max_position_embeddings", None),
]  # fmt: skip
TOKENS = [
    ("tokenizer.json", {"model": 3}), ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": 3}}),
    ("tokenizer.json", {"added_tokens": [3]}), ("tokenizer.json", {"normalizer": 3}), ("tokenizer.json", {"truncation": "x"}),
    ("tokenizer_config.json", {"added_tokens_decoder": 3}), ("tokenizer_config.json", {"padding_side": "x"}),
    ("tokenizer_config.json", {"extra_special_tokens": 3}), ("tokenizer_config.json", {"unk_token": "[NONE]"}),
    ("tokenizer.json", {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
     "max_input_chars_per_word": 100, "vocab": {}}, "added_tokens": []}),
]  # fmt: skip


WAYS_OUT = ("Copy the checkpoint again.", ", mpnet, modernbert.", "quantises by itself.", " BPE, Unigram.")


def _told(load, folder, name):
    """The one message that names a damaged file, and what to do."""
    with pytest.raises(ValueError) as caught:
        load(str(folder))
    assert str(caught.value).startswith(f"{folder / name}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("key", "value"), CONFIG)
def test_a_config_that_no_network_can_be_made_of_is_told_by_its_file(folder, key, value):
    _edit_config(folder, **{key: value})
    assert _told(load_ranker, folder, "config.json").endswith(WAYS_OUT)


@pytest.mark.parametrize(("name", "values"), TOKENS)
def test_a_tokenizer_that_can_not_be_made_is_told_by_its_file(ranker, name, values):
    file = ranker / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    assert _told(load_tokenizer, ranker, name).endswith(WAYS_OUT)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_size", 8000), ("hidden_size", 10**6), ("intermediate_size", 2**31), ("max_position_embeddings", 2**31),
     ("type_vocab_size", 2**31), ("vocab_size", 2**40)],
)  # fmt: skip
def test_a_number_that_would_ask_for_more_weights_than_the_files_could_hold_is_told_and_takes_no_memory(folder, key, value):
    _edit_config(folder, **{key: value} | ({"num_attention_heads": 1} if key == "hidden_size" else {}))
    told = _told(load_ranker, folder, "config.json")
    assert re.search(
        r" can't be used \(it describes \d+ weights, for which the files of weights, \d+ bytes, are too small\)", told
    )


@pytest.mark.parametrize(("key", "value", "most"), [("num_hidden_layers", 2**31, 1000), ("num_labels", 10**9, 65536)])
def test_a_number_of_layers_or_labels_that_no_network_has_is_told_before_they_are_made(folder, key, value, most):
    _edit_config(folder, **{key: value})
    with pytest.raises(ValueError) as caught:
        read_config(str(folder))
    assert str(caught.value) == (f"{folder}/config.json: {key} is {value}; expected at most {most}. Copy the checkpoint again.")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"\0\0", b"[" * 100_000])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_what_is_no_json_is_told_by_its_file(ranker, name, content):
    (ranker / name).write_bytes(content)
    assert " is damaged (" in _told(load_tokenizer, ranker, name)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_weights_that_are_cut_are_told_by_their_file(folder, share):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert _told(load_ranker, folder, file.name).endswith("). Copy the checkpoint again.")


def _sharded(folder, **index):
    """Put the weights into two files, and what is said of them beside."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"{number % 2}.safetensors" for number, name in enumerate(weights)}
    for file in {*files.values()}:
        held = {name: value for name, value in weights.items() if files[name] == file}
        save_file(held, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files} | index))


def test_weights_in_several_files_are_read(folder, tiny_ranker):
    _sharded(folder)
    assert torch.equal(load_ranker(str(folder))(*INPUTS).logits, tiny_ranker(*INPUTS).logits)
    (folder / "1.safetensors").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_ranker(str(folder))
    assert str(caught.value) == (
        f"{folder}/1.safetensors isn't there, and model.safetensors.index.json names it; pickled weights are refused: they can "
        "run any code. Copy the checkpoint again."
    )


@pytest.mark.parametrize("name", [
    "../outside.safetensors", "/outside.safetensors", "a/b.safetensors", "..", "weights.bin", 3, "x" * 300 + ".safetensors",
    "a\0.safetensors", "\ud800.safetensors",
])  # fmt: skip
def test_an_index_that_names_a_file_elsewhere_or_of_another_kind_is_refused(folder, tmp_path_factory, name):
    _sharded(folder, weight_map={"classifier.bias": name})
    with pytest.raises(ValueError) as caught:
        load_ranker(str(folder))
    assert str(caught.value) == (
        f"{folder}/model.safetensors.index.json names {name!r}; expected .safetensors files that lie beside it. Copy the "
        "checkpoint again, from a source that you trust."
    )


@pytest.mark.parametrize("index", [{"weight_map": 3}, {"weight_map": {}}, {"metadata": None}])
def test_a_damaged_index_is_told(folder, index):
    _sharded(folder, **index)
    assert "is damaged (expected metadata, and a file for each weight in weight_map)" in _told(
        load_ranker, folder, "model.safetensors.index.json"
    )
