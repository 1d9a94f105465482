"""Rows of real tokens and padded batches: back and forth, with the gradient that belongs to it."""

import pytest
import torch

from rankdistil.models.layout import attend, lay_out, real_places

MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
KEPT = [0, 1, 4, 5, 6, 7, 8]


def test_rows_are_the_real_tokens_and_the_first_ones_begin_the_texts():
    layout = lay_out(MASK, padding=False)
    assert layout.take(torch.arange(12).view(3, 4)).tolist() == KEPT
    assert layout.first(layout.take(torch.arange(12).view(3, 4))).tolist() == [0, 4, 8]
    assert torch.equal(layout.mask.squeeze(), torch.where(MASK == 0, -torch.inf, 0.0))


@pytest.mark.parametrize(("mask", "padding"), [(MASK, True), (torch.ones(3, 4), False)], ids=["asked for", "no padding"])
def test_every_place_has_a_row_where_padding_is_asked_for_or_there_is_none(mask, padding):
    layout, places = lay_out(mask, padding), torch.arange(12).view(3, 4)
    assert torch.equal(layout.take(places), places.flatten())
    assert layout.first(layout.take(places)[:, None]).squeeze(1).tolist() == [0, 4, 8]
    assert (layout.mask is None) == (not padding)


def test_padding_and_taking_it_out_again_changes_nothing_in_value_and_gradient():
    layout, rows = lay_out(MASK, padding=False), torch.randn(7, 5, requires_grad=True)
    batch = layout.pad(rows)
    assert batch.shape == (3, 4, 5)
    assert torch.equal(batch.view(12, 5)[KEPT], rows)
    assert torch.isfinite(batch).all()
    weights = torch.randn(7, 5)
    (layout.unpad(batch) * weights).sum().backward()
    assert torch.equal(rows.grad, weights)


def test_padding_gets_and_gives_no_gradient():
    layout = lay_out(MASK, padding=False)
    batch = torch.randn(3, 4, 5, requires_grad=True)
    layout.unpad(batch).sum().backward()
    assert torch.equal(batch.grad, MASK[:, :, None].float().expand(3, 4, 5))
    rows = torch.randn(7, 5, requires_grad=True)
    layout.pad(rows).sum().backward()
    assert torch.equal(rows.grad, torch.ones(7, 5))


def texts_of_many_lengths() -> torch.Tensor:
    return (torch.arange(40) < torch.randint(1, 41, (21, 1))).long()


def test_parts_hold_eight_texts_of_neighbouring_lengths_and_are_as_long_as_a_multiple_of_eight_or_as_all():
    mask = (torch.arange(30) < torch.tensor([3, 30, *range(4, 17), 17, 18])[:, None]).long()
    assert lay_out(mask, padding=False).parts.shapes == ((8, 16), (8, 24), (1, 30))
    assert lay_out(mask[:9, :16], padding=False).parts.shapes == ((8, 16), (1, 16))


def test_texts_attend_in_parts_as_they_do_in_one_batch_in_value_and_gradient():
    mask = texts_of_many_lengths()
    layout = lay_out(mask, padding=False)
    weights = torch.randn(int(mask.sum()), 6, dtype=torch.float64)
    found = []
    for each in (layout, layout._replace(parts=None)):
        rows = [weights.roll(shift, 0).requires_grad_() for shift in (1, 2, 3)]
        attended, scores = each.attend(*rows, heads=2, alone=False)
        (attended * weights).sum().backward()
        found.append((attended, *(part.grad for part in rows)))
        assert scores is None
    for parts, whole in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("width", [6, 16, 22, 26])
def test_texts_attend_by_a_fused_kernel_as_they_do_in_parts_whatever_the_width_of_a_head(width):
    mask = texts_of_many_lengths()
    weights = torch.randn(int(mask.sum()), 2 * width, dtype=torch.float64)
    found = []
    for fused in (False, True):
        layout = lay_out(mask, padding=False, tokens=len(weights), fused=fused)
        assert (layout.parts is None) is fused
        rows = [weights.roll(shift, 0).requires_grad_() for shift in (1, 2, 3)]
        attended, _ = layout.attend(*rows, heads=2, alone=False)
        (attended * weights).sum().backward()
        found.append((attended, *(part.grad for part in rows)))
    for parts, fused in zip(*found, strict=True):
        torch.testing.assert_close(parts, fused)


@pytest.mark.parametrize(("width", "handed"), [(22, 24), (26, 32), (32, 32)])
def test_fused_kernels_are_handed_heads_whose_width_is_a_multiple_of_eight(width, handed, monkeypatch):
    asked, product = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention",
        lambda *parts, **more: asked.append([part.size(-1) for part in parts]) or product(*parts, **more),
    )  # fmt: skip
    rows = [torch.randn(2, 3, 5, width) for _ in range(3)]
    for fused in (True, False):
        attended, _ = attend(*rows, None, 0.0, record=False, fused=fused)
        assert attended.shape == (2, 3, 5, width)
    assert asked == [[handed] * 3, [width] * 3]


def test_the_places_of_real_tokens_are_the_same_whether_their_number_is_known_or_not():
    mask = texts_of_many_lengths()
    assert torch.equal(real_places(mask, None), real_places(mask, int(mask.sum())))


def test_attention_in_bfloat16_rounds_its_shares_but_sums_them_up_in_float32():
    query, key = torch.randn(2, 3, 2, 150, 32, dtype=torch.bfloat16)
    shares, _ = attend(query, key, torch.eye(150, dtype=torch.bfloat16).expand(3, 2, 150, 150), None, 0.0, record=False)
    scores = query @ key.transpose(2, 3) * 32**-0.5  # rounded, as every product in bfloat16
    torch.testing.assert_close(shares.double(), scores.double().softmax(-1), rtol=2**-8, atol=1e-6)
