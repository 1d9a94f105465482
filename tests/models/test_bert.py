"""The cross-encoder: the same scores as transformers, and a trace of exactly what was asked for."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.models.bert import CrossEncoder, Layers, parameter_count

IDS = torch.tensor([[2, 7, 9, 3, 11, 12, 3], [2, 8, 3, 13, 3, 0, 0]])
MASK = (IDS > 0).long()
SEGMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]])


@pytest.fixture
def eager(tiny_ranker):
    config = deepcopy(tiny_ranker.config)  # from_config writes its attention into the config it is given
    network = BertForSequenceClassification._from_config(config, attn_implementation="eager").eval()
    network.load_state_dict(tiny_ranker.bert.state_dict())
    return network


def test_logits_are_those_of_transformers(tiny_ranker, eager):
    expected = eager(IDS, attention_mask=MASK, token_type_ids=SEGMENTS).logits
    assert_close(tiny_ranker(IDS, MASK, SEGMENTS).logits, expected[:, 0], rtol=1e-5, atol=1e-6)


def test_hidden_states_are_those_of_transformers_and_the_first_is_the_embedding_output(tiny_ranker, eager):
    states = eager(IDS, attention_mask=MASK, token_type_ids=SEGMENTS, output_hidden_states=True).hidden_states
    ours = tiny_ranker(IDS, MASK, SEGMENTS, Layers(hidden=(0, 2, 4))).hidden_states
    assert len(ours) == 3
    for mine, index in zip(ours, (0, 2, 4), strict=True):
        assert_close(mine[MASK.bool()], states[index][MASK.bool()], rtol=1e-5, atol=1e-6)
    assert_close(ours[0], tiny_ranker.bert.bert.embeddings(IDS, token_type_ids=SEGMENTS))


def test_nothing_but_logits_is_traced_by_default(tiny_ranker):
    trace = tiny_ranker(IDS, MASK, SEGMENTS)
    assert trace.logits.shape == (2,)
    assert trace.hidden_states == trace.attention_scores == ()


def test_padding_never_changes_a_score(tiny_ranker):
    padded = tiny_ranker(F.pad(IDS, (0, 20), value=17), F.pad(MASK, (0, 20)), F.pad(SEGMENTS, (0, 20), value=1))
    assert_close(padded.logits, tiny_ranker(IDS, MASK, SEGMENTS).logits, rtol=1e-5, atol=1e-6)


def test_a_pair_scores_the_same_alone_and_in_a_batch(tiny_ranker):
    alone = tiny_ranker(IDS[1:, :5], MASK[1:, :5], SEGMENTS[1:, :5]).logits
    assert_close(alone, tiny_ranker(IDS, MASK, SEGMENTS).logits[1:], rtol=1e-5, atol=1e-6)


def test_segments_tell_query_from_passage(tiny_ranker):
    swapped = tiny_ranker(IDS, MASK, 1 - SEGMENTS).logits
    assert (swapped - tiny_ranker(IDS, MASK, SEGMENTS).logits).abs().min() > 1e-4


def test_dropout_is_on_in_training_only(tiny_ranker):
    assert torch.equal(tiny_ranker(IDS, MASK, SEGMENTS).logits, tiny_ranker(IDS, MASK, SEGMENTS).logits)
    tiny_ranker.train()
    assert not torch.equal(tiny_ranker(IDS, MASK, SEGMENTS).logits, tiny_ranker(IDS, MASK, SEGMENTS).logits)


@pytest.mark.parametrize("place", ["bert.bert.encoder.layer.2.attention.self.dropout", "bert.dropout"])
def test_attention_and_head_have_dropouts_of_their_own_in_training(tiny_ranker, place):
    for name, part in tiny_ranker.named_modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5 if name == place else 0.0
    tiny_ranker.train()
    assert not torch.equal(tiny_ranker(IDS, MASK, SEGMENTS).logits, tiny_ranker(IDS, MASK, SEGMENTS).logits)


def test_a_head_with_two_classes_keeps_both_logits():
    config = BertConfig(
        vocab_size=50, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, num_labels=2
    )
    assert CrossEncoder(BertForSequenceClassification(config))(IDS, MASK, SEGMENTS).logits.shape == (2, 2)


def test_a_batch_of_one_keeps_its_dimension(tiny_ranker):
    assert tiny_ranker(IDS[:1], MASK[:1], SEGMENTS[:1]).logits.shape == (1,)


def test_parameter_count_holds_embeddings_layers_pooler_and_head(tiny_ranker):
    norm, embeddings = 2 * 24, (50 + 40 + 2) * 24
    layer = 4 * (24 * 24 + 24) + norm + (24 * 48 + 48) + (48 * 24 + 24) + norm
    assert parameter_count(tiny_ranker) == embeddings + norm + 4 * layer + (24 * 24 + 24) + (24 + 1)
