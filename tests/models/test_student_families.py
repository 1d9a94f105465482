"""Students and checkpoints of every family: sizes, starts, and what is loaded of whom."""

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers
from families import NAMES, tiny, tokenizer_of
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import CrossEncoder, Layers
from rankdistil.models.checkpoints import (
    head_weights,
    is_language_model,
    load_language_model,
    load_ranker,
    load_tokenizer,
    new_head,
    read_config,
    refuse_ranker,
    require_fitting,
)
from rankdistil.models.families import FAMILIES, shape_of
from rankdistil.models.student import Start, StudentSize, build_student, check_start

EVERY = pytest.mark.parametrize("name", NAMES)
SMALL = StudentSize("small", layers=1, hidden_size=12, heads=2, intermediate_size=20)
IDS = torch.tensor([[5, 7, 9, 6, 11, 12, 8], [6, 8, 7, 13, 9, 10, 11]])
INPUTS = IDS, torch.ones_like(IDS), torch.zeros_like(IDS)


def batches(ranker: CrossEncoder) -> list[PairBatch]:
    """Make enough text to fit a cut on."""
    generator, found = torch.Generator().manual_seed(3), []
    for _ in range(16):
        ids = torch.randint(5, ranker.config.vocab_size, (8, 24), generator=generator)
        mask = (torch.arange(24) < torch.randint(6, 25, (8, 1), generator=generator)).long()
        found.append(PairBatch(ids, mask, torch.zeros_like(ids), torch.zeros(8), torch.arange(8), ("q",) * 8, ("p",) * 8))
    return found


@pytest.mark.parametrize("size", [SMALL, StudentSize("deep", 3, 48, 4, 16)], ids=lambda size: size.name)
@EVERY
def test_a_random_student_is_of_its_teacher_s_family_and_of_the_size_asked_for(name, size, tmp_path):
    teacher = tiny(name)
    student = build_student(size, Start("random"), teacher, (), 0)
    assert shape_of(student.config) == (size.layers, size.hidden_size, size.heads, size.intermediate_size)
    assert type(student.bert) is type(teacher.bert)
    states = student(*INPUTS, Layers(tuple(range(size.layers + 1)), (0,)))
    assert [state.shape for state in states.hidden_states] == [(2, 7, size.hidden_size)] * (size.layers + 1)
    assert states.attention_scores[0].shape == (2, size.heads, 7, 7)
    student.bert.save_pretrained(tmp_path)
    own, loaded = student.eval().state_dict(), load_ranker(str(tmp_path))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in own.items())
    assert_close(loaded(*INPUTS).logits, student(*INPUTS).logits)


@pytest.mark.parametrize("name", [name for name in NAMES if "teacher_layers" not in FAMILIES[name].uncut])
def test_copied_layers_and_all_that_is_no_layer_are_the_source_s(name):
    source = tiny(name, num_hidden_layers=4)
    size = StudentSize("like", 2, *shape_of(source.config)[1:])
    student = build_student(size, Start("teacher_layers"), source, (1, 3), 0)
    own, whole = student.bert.state_dict(), source.bert.state_dict()
    for key, value in own.items():
        origin = key.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
        assert torch.equal(value, whole[origin]), key


@pytest.mark.parametrize("name", [name for name in NAMES if "subclone" not in FAMILIES[name].uncut])
def test_a_subclone_of_the_network_s_own_shape_computes_what_the_network_computes(name):
    source = tiny(name)
    size = StudentSize("same", *shape_of(source.config))
    student, texts = build_student(size, Start("subclone"), source, (0, 1), 0, batches(source)).eval(), batches(source)
    scores = torch.stack([torch.cat([ranker(*batch[:3]).logits for batch in texts]) for ranker in (student, source)])
    assert torch.corrcoef(scores.detach())[0, 1] > 0.99
    narrow = build_student(StudentSize("narrow", 2, 28, 4, 40), Start("subclone"), source, (0, 1), 0, batches(source))
    assert narrow(*INPUTS).logits.isfinite().all()


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NAMES for kind in FAMILIES[name].uncut])
def test_a_start_that_a_family_does_not_allow_says_why_and_what_to_do(name, kind):
    shape = tiny(name).config
    with pytest.raises(ValueError) as caught:
        check_start(Start(kind), StudentSize("like", *shape_of(shape)), shape, None)
    assert str(caught.value) == (
        f"student.init_from={kind} can't cut a student out of {FAMILIES[name].name}: {FAMILIES[name].uncut[kind]}. Set "
        "student.init_from=random, or pretrained:<path> with a checkpoint of the student's shape."
    )


def test_a_student_of_the_width_of_electra_s_embeddings_is_not_cut():
    shape = tiny("electra").config
    with pytest.raises(ValueError, match=r"student\.hidden_size is 24, the width of the network's embeddings"):
        check_start(Start("subclone"), StudentSize("thin", 2, 24, 4, 40), shape, None)


def test_an_odd_number_of_dimensions_per_head_can_not_be_rotated():
    with pytest.raises(ValueError) as caught:
        StudentSize("odd", 2, 12, 4, 20).config(tiny("modernbert").config)
    assert str(caught.value) == (
        "student odd: ModernBERT turns each head's dimensions in pairs, and student.hidden_size=12 over student.heads=4 gives "
        "3. Set student.hidden_size to 16."
    )


@EVERY
def test_a_language_model_lacks_the_head_alone_and_gets_one_that_follows_the_seed(name, tmp_path):
    ranker = tiny(name)
    ranker.bert.base_model.save_pretrained(tmp_path)
    assert is_language_model(read_config(str(tmp_path)))
    first, again, other = (load_language_model(str(tmp_path), seed).bert.state_dict() for seed in (1, 1, 2))
    kept = ranker.bert.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert {key for key, value in first.items() if not torch.equal(value, kept[key])} <= head_weights(ranker.config)
    (matrix,) = (key for key in new_head(ranker.config) if key.endswith("weight"))
    assert not torch.equal(first[matrix], other[matrix])
    with pytest.raises(ValueError, match="is a language model without a ranking head"):
        load_ranker(str(tmp_path))


PRETRAINED = {
    "bert": "BertForMaskedLM", "electra": "ElectraForPreTraining", "roberta": "RobertaForMaskedLM",
    "xlm-roberta": "XLMRobertaForMaskedLM", "distilbert": "DistilBertForMaskedLM", "mpnet": "MPNetForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
}  # fmt: skip


@EVERY
def test_heads_of_pretraining_are_left_behind_and_other_weights_are_not(name, tmp_path):
    network = getattr(transformers, PRETRAINED[name])(copy.deepcopy(tiny(name).config))
    network.save_pretrained(tmp_path)
    loaded, kept = load_language_model(str(tmp_path)).bert.base_model.state_dict(), network.base_model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in kept.items())
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"fit_dense.weight": torch.zeros(2, 2)}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"expected a pretrained {FAMILIES[name].name}'s weights; found keys unexpected"):
        load_language_model(str(tmp_path))


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "mpnet"])
def test_a_pooler_that_rankers_lack_is_left_behind(name, tmp_path):
    kind = {"roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel", "mpnet": "MPNetModel"}[name]
    getattr(transformers, kind)(copy.deepcopy(tiny(name).config)).save_pretrained(tmp_path)
    assert "pooler.dense.weight" in load_file(tmp_path / "model.safetensors")
    assert load_language_model(str(tmp_path)).config.num_labels == 1


@EVERY
def test_a_ranker_of_any_family_is_refused_where_a_language_model_gets_a_new_head(name, tmp_path):
    tiny(name).bert.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"is a ranker \({FAMILIES[name].ranker}\); expected a pretrained language model"):
        refuse_ranker(str(tmp_path), "teacher.path=")


@EVERY
def test_a_tokenizer_comes_back_as_it_was_and_fits_its_network(name, tmp_path):
    own, ranker = tokenizer_of(name), tiny(name)
    own.save_pretrained(tmp_path)
    ranker.bert.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded("how do bees fly", "wings, beat")["input_ids"] == own("how do bees fly", "wings, beat")["input_ids"]
    require_fitting(str(tmp_path), loaded, ranker.config)


def test_token_types_that_the_network_lacks_are_refused():
    shape = SimpleNamespace(vocab_size=420, model_type="electra", type_vocab_size=1)
    with pytest.raises(
        ValueError, match=r"its tokenizer does: its network knows 1\. Tokenizer and weights don't belong together"
    ):
        require_fitting("a/b", tokenizer_of("electra"), shape)


def test_rotary_positions_that_change_with_the_length_are_refused(tmp_path):
    shape = copy.deepcopy(tiny("modernbert").config)
    shape.rope_parameters["full_attention"] |= {"rope_type": "dynamic", "factor": 2.0}
    shape.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="rope_type is 'dynamic', expected one of default, linear, yarn, llama3"):
        read_config(str(tmp_path))
