"""Recorded attention scores, queries, keys and values: what they are, and which layers give them."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import BertForSequenceClassification

from rankdistil.models.bert import Layers

IDS = torch.tensor([[2, 7, 9, 3, 11, 12, 3], [2, 8, 3, 13, 3, 0, 0]])
MASK = (IDS > 0).long()
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]])
ALL = Layers(attention=(0, 1, 2, 3))


def test_softmax_of_scores_and_mask_is_the_attention_of_an_eager_network(tiny_ranker):
    eager = BertForSequenceClassification._from_config(deepcopy(tiny_ranker.config), attn_implementation="eager").eval()
    eager.load_state_dict(tiny_ranker.bert.state_dict())
    expected = eager(IDS, attention_mask=MASK, token_type_ids=SEGMENTS, output_attentions=True).attentions
    scores = tiny_ranker(IDS, MASK, SEGMENTS, ALL).attention_scores
    assert len(scores) == len(expected) == 4
    for ours, theirs in zip(scores, expected, strict=True):
        masked = ours.masked_fill(MASK[:, None, None, :] == 0, -torch.inf)
        assert_close(masked.softmax(-1), theirs, rtol=1e-5, atol=1e-6)


def test_scores_are_no_probabilities(tiny_ranker):
    for scores in tiny_ranker(IDS, MASK, SEGMENTS, ALL).attention_scores:
        assert scores.min() < 0
        assert (scores.sum(-1) - 1).abs().max() > 0.1


def test_scores_between_real_tokens_ignore_padding(tiny_ranker):
    padded = tiny_ranker(F.pad(IDS, (0, 6)), F.pad(MASK, (0, 6)), F.pad(SEGMENTS, (0, 6)), ALL).attention_scores
    pairs = (MASK[:, :, None] * MASK[:, None, :]).bool()[:, None].expand(-1, 3, -1, -1)
    for short, long in zip(tiny_ranker(IDS, MASK, SEGMENTS, ALL).attention_scores, padded, strict=True):
        assert_close(long[:, :, :7, :7][pairs], short[pairs], rtol=1e-5, atol=1e-6)


def test_only_the_wanted_layers_are_recorded_in_order(tiny_ranker):
    every = tiny_ranker(IDS, MASK, SEGMENTS, ALL).attention_scores
    some = tiny_ranker(IDS, MASK, SEGMENTS, Layers(attention=(1, 3))).attention_scores
    assert len(some) == 2
    assert_close(some[0], every[1], rtol=1e-5, atol=1e-6)
    assert_close(some[1], every[3], rtol=1e-5, atol=1e-6)
    assert not torch.equal(every[1], every[3])


def test_gradient_flows_from_recorded_scores_into_queries_and_keys_up_to_that_layer(tiny_ranker):
    tiny_ranker(IDS, MASK, SEGMENTS, Layers(attention=(1,))).attention_scores[0].square().sum().backward()
    layers = tiny_ranker.bert.bert.encoder.layer
    for layer in layers[0].attention.self, layers[1].attention.self:
        assert layer.query.weight.grad.abs().sum() > 0
        assert layer.key.weight.grad.abs().sum() > 0
    assert layers[2].attention.self.query.weight.grad is None


def test_recording_never_changes_the_logits(tiny_ranker):
    assert_close(tiny_ranker(IDS, MASK, SEGMENTS, ALL).logits, tiny_ranker(IDS, MASK, SEGMENTS).logits, rtol=1e-5, atol=1e-6)


def test_the_attention_that_the_library_is_set_to_has_no_say(tiny_ranker):
    expected = tiny_ranker(IDS, MASK, SEGMENTS, ALL)
    tiny_ranker.bert.set_attn_implementation("eager")
    found = tiny_ranker(IDS, MASK, SEGMENTS, ALL)
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(*pair) for pair in zip(found.attention_scores, expected.attention_scores, strict=True))


@pytest.mark.parametrize("kind", ["hidden", "attention", "vectors"])
def test_a_layer_that_does_not_exist_is_refused(tiny_ranker, kind):
    with pytest.raises(IndexError):
        tiny_ranker(IDS, MASK, SEGMENTS, Layers(**{kind: (5 if kind == "hidden" else 4,)}))


@pytest.mark.parametrize("padding", [True, False])
def test_recorded_queries_and_keys_give_the_recorded_scores_and_values_are_those_of_their_layer(tiny_ranker, padding):
    values = []
    layer = tiny_ranker.bert.bert.encoder.layer[3].attention.self
    hook = layer.value.register_forward_hook(lambda *seen: values.append(seen[2]))
    trace = tiny_ranker(IDS, MASK, SEGMENTS, Layers(attention=(1, 3), vectors=(1, 3)), padding)
    hook.remove()
    for scores, (query, key, _) in zip(trace.attention_scores, trace.vectors, strict=True):
        heads = [part.unflatten(2, (3, -1)).transpose(1, 2) for part in (query, key)]
        assert_close(heads[0] @ heads[1].mT / 8**0.5, scores)
    last = trace.vectors[1][2]
    assert last.shape == (2, 7, 24)
    assert torch.equal(last[MASK.bool()], values[0].view(2, 7, 24)[MASK.bool()] if padding else values[0])


def test_recording_the_vectors_of_the_last_layer_never_changes_the_logits(tiny_ranker):
    trace = tiny_ranker(IDS, MASK, SEGMENTS, Layers(vectors=(3,)), False)
    assert_close(trace.logits, tiny_ranker(IDS, MASK, SEGMENTS).logits, rtol=1e-5, atol=1e-6)
    assert (trace.attention_scores, len(trace.vectors)) == ((), 1)
