"""Subclones: close to what they are cut out of, and cut out of nothing narrower."""

from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.models.bert import CrossEncoder, Layers, Trace
from rankdistil.models.student import Start, StudentSize, build_student
from rankdistil.models.subclone import affine_fit, check_narrower


def cut(source, batches, layers=4, width=24, heads=3, inner=48, start="subclone"):
    chosen = [(index + 1) * 4 // layers - 1 for index in range(layers)]
    return build_student(StudentSize("cut", layers, width, heads, inner), Start(start), source, chosen, 0, batches).eval()


@torch.no_grad()
def rows(network, batches, hidden) -> list[torch.Tensor]:
    """Hidden states of all real tokens, (N, D) each."""
    found = [network(*batch[:3], Layers(hidden=hidden)).hidden_states for batch in batches]
    real = [batch.attention_mask.bool() for batch in batches]
    return [torch.cat([state[mask] for state, mask in zip(states, real, strict=True)]) for states in zip(*found, strict=True)]


def unexplained(student, source, batches, layers) -> torch.Tensor:
    """Share of the spread of the source's states that no affine map of the student's predicts, on text that wasn't fitted."""
    hidden = tuple(range(layers + 1)), tuple(index * 4 // layers for index in range(layers + 1))
    fitted, fresh = batches[:8], batches[8:]
    shares = []
    for x, y, new_x, new_y in zip(
        rows(student, fitted, hidden[0]), rows(source, fitted, hidden[1]),
        rows(student, fresh, hidden[0]), rows(source, fresh, hidden[1]), strict=True,
    ):  # fmt: skip
        weight, bias = affine_fit(x, y)
        shares.append((new_x @ weight.T + bias - new_y).norm() / (new_y - new_y.mean(0)).norm())
    return torch.stack(shares)


@torch.no_grad()
def widened(small: CrossEncoder, wider_heads: bool) -> CrossEncoder:
    """Every hidden unit twice, side by side; in heads, inner and pooled units as many again, which add nothing.

    The attention's new units are heads of their own, or the first half of each head.
    """
    shape = small.config
    heads = shape.num_attention_heads
    config = BertConfig(
        vocab_size=50, hidden_size=2 * shape.hidden_size, num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=heads if wider_heads else 2 * heads, intermediate_size=2 * shape.intermediate_size,
        max_position_embeddings=40, num_labels=1,
    )  # fmt: skip
    large = CrossEncoder(BertForSequenceClassification(config)).eval()
    for (name, new), old in zip(large.named_parameters(), small.parameters(), strict=True):
        group = heads if wider_heads and (".self." in name or "attention.output.dense" in name) else 1
        value = old.repeat_interleave(2, -1) if old.dim() > 1 and "embeddings" not in name else old
        if any(part in name for part in ("output.dense.weight", "classifier.weight")):
            value = beside(torch.zeros_like(old), old, 1, group)  # reads nothing of the new units
        elif value.dim() > 1 and "embeddings" not in name:
            value = value / 2  # reads every hidden unit twice
        if any(part in name for part in (".self.", "intermediate", "pooler")):
            scores = wider_heads and ("query" in name or "key" in name)
            value = value * 2**0.25 if scores else value  # Q·Kᵀ is divided by a greater root
            value = beside(torch.zeros_like(value) if scores else torch.randn_like(value), value, 0, group)
        elif "classifier" not in name:
            value = value.repeat_interleave(2, -1 if "embeddings" in name else 0)
        new.copy_(value)
    return large


def beside(first: torch.Tensor, second: torch.Tensor, dim: int, groups: int) -> torch.Tensor:
    """Join group by group along a dimension."""
    parts = (pair for pair in zip(first.chunk(groups, dim), second.chunk(groups, dim), strict=True))
    return torch.cat([part for pair in parts for part in pair], dim)


def test_a_subclone_of_the_network_s_own_shape_computes_what_the_network_computes(lively_ranker, texts):
    same = cut(lively_ranker, texts)
    for mine, wanted in zip(rows(same, texts, range(5)), rows(lively_ranker, texts, range(5)), strict=True):
        assert (mine - wanted).norm() < 2e-3 * wanted.norm()  # the ridge of 1e-4 is left
    scores = lively_ranker(*texts[0][:3]).logits
    assert scores.std() > 0.1  # so the next line says something
    assert_close(same(*texts[0][:3]).logits, scores, rtol=0, atol=5e-3)


@pytest.mark.parametrize("wider_heads", [False, True], ids=["more heads", "wider heads"])
def test_a_widened_network_is_cut_back_to_what_it_was(lively_ranker, texts, wider_heads):
    wide = widened(lively_ranker, wider_heads)
    full = Layers(attention=(0, 1, 2, 3))
    before: Trace = lively_ranker(*texts[0][:3], full)
    assert_close(wide(*texts[0][:3]).logits, before.logits, rtol=1e-4, atol=1e-4)
    after = cut(wide, texts)(*texts[0][:3], full)
    assert_close(after.logits, before.logits, rtol=0, atol=1e-2)
    real = texts[0].attention_mask.bool()
    pairs = (real[:, None, :, None] & real[:, None, None, :]).expand_as(before.attention_scores[0])
    for mine, wanted in zip(after.attention_scores, before.attention_scores, strict=True):
        assert (mine - wanted)[pairs].norm() < 1e-2 * wanted[pairs].norm()


@pytest.mark.parametrize(("layers", "width", "heads", "inner", "share"), [(4, 21, 3, 42, 0.5), (2, 16, 2, 32, 0.8)])
def test_a_narrower_subclone_follows_the_network_where_random_weights_do_not(
    lively_ranker, texts, layers, width, heads, inner, share
):
    shape = layers, width, heads, inner
    subclone, fresh = (cut(lively_ranker, texts, *shape, start=start) for start in ("subclone", "random"))
    bound = share * unexplained(fresh, lively_ranker, texts, layers)
    assert (unexplained(subclone, lively_ranker, texts, layers) < bound).all()


def test_a_subclone_scores_in_its_source_s_order_from_the_start(lively_ranker, texts):
    subclone, fresh = (cut(lively_ranker, texts, width=21, inner=42, start=start) for start in ("subclone", "random"))
    scores = torch.stack([torch.cat([x(*batch[:3]).logits for batch in texts]) for x in (lively_ranker, subclone, fresh)])
    told, untold = scores.detach().corrcoef()[0, 1:]
    assert told > 0.9
    assert untold.abs() < 0.3


def test_a_subclone_is_the_same_every_time_and_leaves_its_source_alone(lively_ranker, texts):
    before = deepcopy(lively_ranker.state_dict())
    first, again = (cut(lively_ranker, texts, 2, 12).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(torch.equal(value, before[name]) for name, value in lively_ranker.state_dict().items())


def test_what_stands_in_the_padding_has_no_say(lively_ranker, texts):
    noise = [batch._replace(input_ids=torch.where(batch.attention_mask > 0, batch.input_ids, 49)) for batch in texts]
    first, second = (cut(lively_ranker, batches, 2, 12)(*texts[0][:3]).logits for batches in (texts, noise))
    assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "what"),
    [
        (StudentSize("wide", 2, 27, 3, 48), "student.hidden_size is 27, the network has 24. Set it to 24"),
        (StudentSize("wide", 2, 24, 3, 49), "student.intermediate_size is 49, the network has 48. Set it to 48"),
        (StudentSize("wide", 2, 24, 4, 48), "student.heads is 4, the network has 3. Set it to 3"),
        (StudentSize("wide", 2, 24, 2, 48), "student.hidden_size / student.heads is 12, the network has 8. Set it to 8"),
    ],
    ids=lambda value: value[:15] if isinstance(value, str) else "",
)
def test_a_student_wider_than_its_source_is_refused_with_both_numbers(lively_ranker, size, what):
    with pytest.raises(ValueError) as caught:
        check_narrower(size.config(lively_ranker.config), lively_ranker.config)
    opening = "student.init_from=subclone cuts a student out of a network: "
    assert str(caught.value) == f"{opening}{what} or less, or choose another start."


def test_a_wider_student_is_refused_before_a_weight_is_written(lively_ranker, texts):
    with pytest.raises(ValueError, match=r"student\.hidden_size is 48, the network has 24"):
        cut(lively_ranker, texts, width=48)
