"""Rows of real tokens and padded batches: back and forth, with the gradient that belongs to it."""

import pytest
import torch

from rankdistil.models.layout import lay_out

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
