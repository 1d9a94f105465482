"""Every family through the one forward pass: the scores, states and attention of transformers' own class."""

import copy

import pytest
import torch
import torch.nn.functional as F
from families import NAMES, tiny
from torch.testing import assert_close

from rankdistil.inference.packed import PackedRanker, pack_padded
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers
from rankdistil.models.families import FAMILIES, max_positions, parts_of
from rankdistil.models.layout import Places, places

LENGTHS = torch.tensor([21, 5, 34, 1])
EVERY = pytest.mark.parametrize("name", NAMES)
MEAN = ("modernbert", {"classifier_pooling": "mean"})
HEADS = pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in NAMES), MEAN], ids=lambda part: str(part))


def batch(ranker: CrossEncoder, length: int = 34) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make pairs of token ids; token types where the family tells them apart."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(length) < LENGTHS[:, None]).long()
    ids = torch.randint(5, ranker.config.vocab_size, mask.shape, generator=generator)
    ids = torch.where(mask > 0, ids, ranker.config.pad_token_id)
    types = (torch.arange(length) >= 4).long() * mask
    return ids, mask, types * (getattr(ranker.config, "type_vocab_size", 1) > 1)


def theirs(ranker: CrossEncoder, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor, **asked: bool) -> object:
    """Run transformers' own forward pass, attention written out."""
    own = copy.deepcopy(ranker.config)
    network = type(ranker.bert)._from_config(own, attn_implementation="eager").eval()
    network.load_state_dict(ranker.bert.state_dict())
    known = {"token_type_ids": types} if FAMILIES[own.model_type].encoder.types else {}
    return network(ids, attention_mask=mask, **known, **asked)


@HEADS
@torch.inference_mode()
def test_scores_are_those_of_transformers_in_every_layout(name, settings):
    ranker = tiny(name, **settings)
    inputs = batch(ranker)
    expected = theirs(ranker, *inputs).logits[:, 0]
    assert expected.std() > 0.1
    assert_close(ranker(*inputs).logits, expected, rtol=1e-5, atol=1e-5)
    every = Layers((ranker.config.num_hidden_layers,), (0,))
    for padding in (True, False):
        assert_close(ranker(*inputs, every, padding).logits, expected, rtol=1e-5, atol=1e-5)
    for fused in (False, True):
        packed, order = pack_padded(*inputs, fused=fused)
        assert_close(PackedRanker(ranker)(packed), expected[order], rtol=1e-5, atol=1e-5)
    packed, order = pack_padded(*inputs)
    for each in (packed.side_by_side(), packed.rounded()):
        assert_close(PackedRanker(ranker)(each)[: len(order)], expected[order], rtol=1e-5, atol=1e-5)


@EVERY
@torch.inference_mode()
def test_hidden_states_are_those_of_transformers(name):
    ranker = tiny(name)
    inputs, count = batch(ranker), ranker.config.num_hidden_layers
    expected, real = theirs(ranker, *inputs, output_hidden_states=True).hidden_states, inputs[1].bool()
    found = ranker(*inputs, Layers(tuple(range(count + 1)))).hidden_states
    assert len(found) == len(expected) == count + 1
    for own, other in zip(found, expected, strict=True):
        scale = other[real].std()  # what isn't normed grows
        assert_close(own[real] / scale, other[real] / scale, rtol=1e-5, atol=1e-5)


@EVERY
@torch.inference_mode()
def test_softmax_of_recorded_scores_and_masks_is_the_attention_of_transformers(name):
    ranker = tiny(name)
    inputs, count = batch(ranker), ranker.config.num_hidden_layers
    expected, real = theirs(ranker, *inputs, output_attentions=True).attentions, inputs[1].bool()
    found = ranker(*inputs, Layers(attention=tuple(range(count)))).attention_scores
    where = places(ranker.encoder, real.size(1), real.device)
    for layer, own, other in zip(ranker.encoder.layers, found, expected, strict=True):
        window = where[layer.kind].window if layer.kind in where else None
        masked = own.masked_fill(~real[:, None, None], -torch.inf) + (0 if window is None else window)
        rows = real[:, None, :, None].expand_as(own)
        assert_close(masked.softmax(-1)[rows], other[rows], rtol=1e-5, atol=1e-5)


@HEADS
@torch.inference_mode()
def test_neither_padding_nor_company_changes_a_score(name, settings):
    ranker = tiny(name, **settings)
    ids, mask, types = batch(ranker)
    expected = ranker(ids, mask, types).logits
    wider = ranker(F.pad(ids, (0, 20), value=17), F.pad(mask, (0, 20)), F.pad(types, (0, 20)), Layers((0, 1, 2), (1,)))
    assert_close(wider.logits, expected, rtol=1e-5, atol=1e-5)
    assert all(part.isfinite().all() for part in (*wider.hidden_states, *wider.attention_scores))
    for row, length in enumerate(LENGTHS):
        alone = (part[row : row + 1, :length] for part in (ids, mask, types))
        assert_close(ranker(*alone).logits, expected[row : row + 1], rtol=1e-5, atol=1e-5)


@EVERY
def test_every_weight_is_learnt_and_every_dropout_drops(name):
    ranker = tiny(name)
    inputs = batch(ranker)
    ranker(*inputs).logits.sum().backward()
    assert not [key for key, value in ranker.named_parameters() if value.grad is None]
    drops = {place: part for place, part in ranker.named_modules() if isinstance(part, torch.nn.Dropout)}
    quiet = ranker(*inputs).logits
    ranker.train()
    for one in drops.values():
        for part in drops.values():
            part.p = 0.5 if part is one else 0.0
        assert not torch.equal(ranker(*inputs).logits, quiet)


@EVERY
@torch.inference_mode()
def test_a_frozen_teacher_in_bfloat16_keeps_its_head_and_its_angles(name):
    ranker = tiny(name)
    inputs = batch(ranker)
    expected, teacher = ranker(*inputs).logits, FrozenTeacher(copy.deepcopy(ranker))
    with torch.autocast("cpu", torch.bfloat16):
        trace = teacher(*inputs, Layers((0, 1), (1,)), False)
    assert trace.logits.dtype == torch.float32
    assert (trace.logits - expected).abs().mean() < 0.2 * expected.std()
    parts = teacher.encoder
    assert {part.weight.dtype for part in (parts.pooler, parts.head)} == {torch.float32}
    assert parts.words.weight.dtype == torch.bfloat16
    assert all(value.dtype != torch.bfloat16 for value in teacher.buffers())


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@EVERY
@torch.inference_mode()
def test_fewer_bits_keep_scores_within_a_share_of_their_spread(name, precision):
    ranker = tiny(name)
    packed, order = pack_padded(*batch(ranker))
    expected = ranker(*batch(ranker)).logits[order]
    for each in (PackedRanker(ranker, precision)(packed), PackedRanker(ranker, precision, stays=True)(packed.rounded())):
        assert (each[: len(order)] - expected).abs().mean() < 0.2 * expected.std()


@pytest.mark.parametrize(
    ("name", "most"), [("bert", 66), ("roberta", 64), ("xlm-roberta", 64), ("mpnet", 64), ("modernbert", 66)]
)
@torch.inference_mode()
def test_a_text_of_as_many_tokens_as_there_are_positions_is_scored(name, most):
    ranker = tiny(name)
    assert max_positions(ranker.config) == most
    ids = torch.randint(5, 300, (1, most))
    inputs = ids, torch.ones_like(ids), torch.zeros_like(ids)
    assert_close(ranker(*inputs).logits, theirs(ranker, *inputs).logits[:, 0], rtol=1e-5, atol=1e-5)


def test_relative_biases_are_those_of_transformers_at_every_distance():
    ranker = tiny("mpnet")
    with torch.inference_mode():
        expected = ranker.bert.mpnet.encoder.compute_position_bias(torch.zeros(1, 400, 1))
        assert torch.equal(places(parts_of(ranker.bert), 400, torch.device("cpu"))[None].bias, expected)


@EVERY
@torch.inference_mode()
def test_kept_vectors_are_those_of_attention_before_positions_turn_them(name):
    ranker = tiny(name)
    inputs = batch(ranker)
    trace = ranker(*inputs, Layers(attention=(1,), vectors=(1,)), False)
    query, key, value = (part.unflatten(2, (4, 8)).transpose(1, 2) for part in trace.vectors[0])
    where = places(ranker.encoder, 34, torch.device("cpu")).get(ranker.encoder.layers[1].kind, Places())
    scores = where.turned(query) @ where.turned(key).mT / 8**0.5 + (0 if where.bias is None else where.bias)
    real = inputs[1].bool()
    pairs = (real[:, None, :, None] & real[:, None, None]).expand_as(scores)
    assert_close(scores[pairs], trace.attention_scores[0][pairs], rtol=1e-5, atol=1e-5)
    assert value.shape == query.shape
