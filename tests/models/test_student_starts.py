"""What a student starts from: which weights, which are refused, and what the seed decides."""

import pytest
import torch
from support import MINILM, random_student

from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.student import Start, StudentSize, build_student, check_start, read_start

SMALL = StudentSize("small", layers=2, hidden_size=12, heads=3, intermediate_size=20)
LIKE_TINY = StudentSize("like", layers=2, hidden_size=24, heads=3, intermediate_size=48)
HEAD = {"bert.classifier.weight", "bert.classifier.bias"}


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(MINILM)


@pytest.fixture
def export(tmp_path, tokenizer):
    """Export a network to a folder; return what names it as a start."""

    def write(network: CrossEncoder, with_head: bool = True) -> Start:
        write_export(tmp_path / "export", network, tokenizer, 38, with_head)
        return Start("export", str(tmp_path / "export"))

    return write


def weights(network: CrossEncoder) -> dict[str, torch.Tensor]:
    return network.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], but: frozenset | set = frozenset()) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(value, right[name]) for name, value in left.items() if name not in but
    )


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("random", Start("random")),
        ("teacher_layers", Start("teacher_layers")),
        ("subclone", Start("subclone")),
        ("export:runs/a/export", Start("export", "runs/a/export")),
        ("pretrained:package:carrier/model", Start("pretrained", "package:carrier/model")),
    ],
)
def test_a_start_is_a_kind_and_for_some_what_follows_the_first_colon(text, start):
    assert read_start(text) == start


@pytest.mark.parametrize("text", ["wiki", "", "random:", "subclone:x", "export:", "experiment:x", "wiki:path", "None"])
def test_any_other_start_is_refused_with_the_known_ones(text):
    with pytest.raises(ValueError) as caught:
        read_start(text)
    assert str(caught.value) == (
        f"student.init_from is {text!r}; expected one of random, teacher_layers, subclone, export:<folder>, "
        "pretrained:<path>. The run of an experiment is gone on with by follows=<experiment>."
    )


def test_the_seed_decides_every_weight_of_a_random_start(tiny_ranker):
    first, again, other = (weights(random_student(SMALL, tiny_ranker, seed)) for seed in (1, 1, 2))
    assert same(first, again)
    drawn = [name for name, value in first.items() if value.dim() > 1]
    assert "bert.classifier.weight" in drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_a_random_start_takes_no_weight_from_the_network_it_learns_from(tiny_ranker):
    size = StudentSize("twin", layers=4, hidden_size=24, heads=3, intermediate_size=48)
    fresh, source = weights(random_student(size, tiny_ranker)), weights(tiny_ranker)
    assert not any(torch.equal(value, source[name]) for name, value in fresh.items() if value.dim() > 1)


@pytest.mark.parametrize("kind", ["random", "teacher_layers"])
def test_the_global_generator_is_untouched_and_has_no_say(tiny_ranker, kind):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_student(LIKE_TINY, Start(kind), tiny_ranker, (1, 3), 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(weights(build_student(LIKE_TINY, Start(kind), tiny_ranker, (1, 3), 0)), weights(first))


def test_teacher_layers_are_copies_of_the_mapped_layers_and_of_all_that_is_no_layer(tiny_ranker):
    student = weights(build_student(LIKE_TINY, Start("teacher_layers"), tiny_ranker, (1, 3), 0))
    source = weights(tiny_ranker)
    for name, value in student.items():
        origin = name.replace(".layer.1.", ".layer.3.").replace(".layer.0.", ".layer.1.")
        assert torch.equal(value, source[origin]), name


def test_a_student_of_copied_layers_shares_no_weight_with_its_source(tiny_ranker):
    student = build_student(LIKE_TINY, Start("teacher_layers"), tiny_ranker, (1, 3), 0)
    before = tiny_ranker.bert.classifier.weight.clone()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(tiny_ranker.bert.classifier.weight, before)


def test_an_exported_ranker_comes_back_bit_by_bit_whatever_the_seed(tiny_ranker, export):
    exported = random_student(SMALL, tiny_ranker, seed=4)
    start = export(exported)
    for seed in (0, 1):
        assert same(weights(build_student(SMALL, start, tiny_ranker, (), seed)), weights(exported))


def test_an_exported_language_model_comes_back_bit_by_bit_with_a_new_head_that_follows_the_seed(tiny_ranker, export):
    exported = random_student(SMALL, tiny_ranker, seed=4)
    start = export(exported, with_head=False)
    first, again, other = (weights(build_student(SMALL, start, tiny_ranker, (), seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert same(first, weights(exported), but=HEAD)
    assert same(first, other, but=HEAD)
    heads = [one["bert.classifier.weight"] for one in (first, other, weights(exported))]
    assert not any(torch.equal(heads[0], head) for head in heads[1:])


def test_a_pretrained_start_has_the_checkpoint_s_weights_and_a_new_head(tiny_ranker, tmp_path):
    pretrained = random_student(SMALL, tiny_ranker, seed=4)
    pretrained.bert.bert.save_pretrained(tmp_path)
    start = Start("pretrained", str(tmp_path))
    first, other = (weights(build_student(SMALL, start, tiny_ranker, (), seed)) for seed in (1, 2))
    assert same(first, weights(pretrained), but=HEAD)
    assert not torch.equal(first["bert.classifier.weight"], other["bert.classifier.weight"])


def refused(start: Start, size: StudentSize, source: CrossEncoder, shape: object = None) -> str:
    with pytest.raises(ValueError) as caught:
        check_start(start, size, source.config, shape)
    return str(caught.value)


def test_copied_layers_of_another_width_name_both_shapes_and_two_ways_out(tiny_ranker):
    assert refused(Start("teacher_layers"), SMALL, tiny_ranker) == (
        "student.init_from=teacher_layers copies layers of a network of width 24 with 3 heads and feed-forward width 48; "
        "student small has 12, 3 and 20. Set student.hidden_size, student.heads and student.intermediate_size to those, "
        "or set student.init_from=subclone."
    )


@pytest.mark.parametrize(("field", "value"), [("hidden_size", 15), ("heads", 4), ("intermediate_size", 21)])
def test_an_export_of_another_shape_names_both_shapes(tiny_ranker, field, value):
    shape = SMALL.config(tiny_ranker.config)
    asked = StudentSize(**vars(SMALL) | {field: value})
    assert refused(Start("export", "a/b"), asked, tiny_ranker, shape) == (
        "student.init_from=export:a/b is a network of width 12 with 3 heads and feed-forward width 20; student small has "
        f"{asked.hidden_size}, {asked.heads} and {asked.intermediate_size}. Set student.hidden_size, student.heads and "
        "student.intermediate_size to those, or start from another checkpoint."
    )


@pytest.mark.parametrize("kind", ["export", "pretrained"])
def test_a_checkpoint_of_another_depth_names_both_depths(tiny_ranker, kind):
    shape = SMALL.config(tiny_ranker.config)
    shape.num_hidden_layers = 3
    assert refused(Start(kind, "a/b"), SMALL, tiny_ranker, shape) == (
        f"student.init_from={kind}:a/b has 3 layers, student small has student.layers=2. "
        "Choose a student of that depth, or start from another checkpoint."
    )


def test_a_checkpoint_of_another_vocabulary_names_both_sizes(tiny_ranker):
    shape = SMALL.config(tiny_ranker.config)
    shape.vocab_size = 51
    assert refused(Start("export", "a/b"), SMALL, tiny_ranker, shape) == (
        "student.init_from=export:a/b knows 51 tokens, the network that the student learns from 50: their vocabularies differ. "
        "Start from a checkpoint with the same tokenizer."
    )


def test_starts_that_give_the_student_s_shape_are_accepted(tiny_ranker):
    check_start(Start("random"), SMALL, tiny_ranker.config, None)
    check_start(Start("subclone"), SMALL, tiny_ranker.config, None)
    check_start(Start("teacher_layers"), LIKE_TINY, tiny_ranker.config, None)
    check_start(Start("export", "a/b"), SMALL, tiny_ranker.config, SMALL.config(tiny_ranker.config))
