"""Embedding loss: hidden state 0 and nothing else."""

import pytest
import torch

from rankdistil.losses.hidden import EmbeddingLoss
from rankdistil.models.bert import Trace

LOGITS = torch.zeros(1)


def test_only_the_embedding_output_counts(batch_of):
    zeros = torch.zeros(1, 2, 3)
    student, teacher = Trace(LOGITS, (zeros + 3, zeros + 100)), Trace(LOGITS, (zeros, zeros))
    assert EmbeddingLoss()(student, teacher, batch_of([[1, 1]])) == 9


def test_a_trace_that_holds_the_embedding_alone_is_enough(batch_of):
    student, teacher = Trace(LOGITS, (torch.ones(1, 2, 3),)), Trace(LOGITS, (torch.zeros(1, 2, 3),))
    assert EmbeddingLoss()(student, teacher, batch_of([[1, 1]])) == 1


def test_padding_counts_only_where_asked_for(batch_of):
    student, teacher = Trace(LOGITS, (torch.tensor([[[1.0], [3.0]]]),)), Trace(LOGITS, (torch.zeros(1, 2, 1),))
    assert EmbeddingLoss()(student, teacher, batch_of([[1, 0]])) == 1
    assert EmbeddingLoss(count_padding=True)(student, teacher, batch_of([[1, 0]])) == (1 + 9) / 2


@pytest.mark.parametrize("empty", ["student", "teacher"])
def test_a_trace_without_hidden_states_is_refused(batch_of, empty):
    full = Trace(LOGITS, (torch.zeros(1, 2, 3),))
    traces = {"student": full, "teacher": full, empty: Trace(LOGITS)}
    with pytest.raises(RuntimeError, match="without hidden states"):
        EmbeddingLoss()(traces["student"], traces["teacher"], batch_of([[1, 1]]))
