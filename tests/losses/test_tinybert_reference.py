"""Our losses against the numbers of TinyBERT's own code, on two networks whose weights follow from a formula.

The numbers come from huawei-noah/Pretrained-Language-Model at 0598f02 (fp32, evaluation mode, CPU). Parameter values
are sines, so the networks are rebuilt here without any file. ``RELU`` and ``PLAIN`` differ in TinyBERT's ReLU before
the head, which a BERT of transformers doesn't have.
"""

import zlib

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LogitLoss, Projection, WeightedSum
from rankdistil.losses.attention import attention_mse
from rankdistil.losses.hidden import hidden_mse
from rankdistil.losses.labels import label_binary_cross_entropy
from rankdistil.losses.logits import soft_cross_entropy
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.student import map_layers

ATTENTION = [101.02879333496094, 23.687421798706055]
HIDDEN = [4.056096076965332, 2.7800052165985107, 1.9955850839614868]  # the first is the embedding output
TOTAL = 134.6332744061947  # attention, hidden, soft and hard labels with the ReLU
LABELS = torch.tensor([1, 0, 1])
RELU = {
    "student": [
        [0.23249483108520508, -0.18413016200065613],
        [0.2412305772304535, -0.17945203185081482],
        [0.2352905124425888, -0.18302038311958313],
    ],
    "teacher": [
        [0.6676198840141296, -0.5594004988670349],
        [0.6581075191497803, -0.5451729893684387],
        [0.6342082619667053, -0.5205976366996765],
    ],
}
PLAIN = {
    "student": [
        [-0.15083599090576172, 0.35158050060272217],
        [-0.14501887559890747, 0.355496346950531],
        [-0.14978665113449097, 0.3536258339881897],
    ],
    "teacher": [
        [0.19352006912231445, -0.06732882559299469],
        [0.18620766699314117, -0.059219226241111755],
        [0.16716282069683075, -0.046388253569602966],
    ],
}


def _fill(module: torch.nn.Module, tag: str, prefix: str = "") -> None:
    for name, parameter in module.named_parameters(prefix):
        start = zlib.crc32((tag + name).encode()) % 1000
        wave = torch.sin(0.37 * torch.arange(parameter.numel(), dtype=torch.float64) + start).view_as(parameter)
        norm, bias = name.endswith("LayerNorm.weight"), name.endswith("bias")
        parameter.data.copy_(1 + 0.05 * wave if norm else (0.05 if bias else 0.3) * wave)


def _network(tag: str, layers: int, width: int, inner: int) -> CrossEncoder:
    config = BertConfig(
        vocab_size=40, max_position_embeddings=16, num_labels=2, num_attention_heads=3,
        num_hidden_layers=layers, hidden_size=width, intermediate_size=inner,
    )  # fmt: skip
    bert = BertForSequenceClassification(config).eval()
    _fill(bert, tag)
    return CrossEncoder(bert)


@pytest.fixture(scope="module")
def traces():
    ids = torch.tensor(
        [[2, 5, 6, 7, 3, 11, 12, 13, 3, 0], [2, 8, 9, 3, 21, 22, 23, 24, 25, 3], [2, 30, 3, 31, 3, 0, 0, 0, 0, 0]]
    )
    segments = torch.tensor([[0] * 5 + [1] * 4 + [0], [0] * 4 + [1] * 6, [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]])
    layers = map_layers("uniform", 2, 4)
    projection = Projection("shared", 12, 24, states=3)
    _fill(projection.maps[0], "S.", "fit_dense")
    with torch.no_grad():
        student = projection(_network("S.", 2, 12, 24)(ids, ids != 0, segments, layers.student))
        teacher = _network("T.", 4, 24, 48)(ids, ids != 0, segments, layers.teacher)
    return student, teacher, ids != 0


def test_attention_of_each_layer_matches_tinybert(traces):
    student, teacher, mask = traces
    pairs = zip(student.attention_scores, teacher.attention_scores, strict=True)
    assert_close([attention_mse(s, t, mask, True).item() for s, t in pairs], ATTENTION, rtol=1e-5, atol=0)


def test_embedding_and_hidden_states_of_each_layer_match_tinybert(traces):
    student, teacher, mask = traces
    pairs = zip(student.hidden_states, teacher.hidden_states, strict=True)
    assert_close([hidden_mse(s, t, mask, True).item() for s, t in pairs], HIDDEN, rtol=1e-5, atol=0)


def test_logits_of_both_networks_are_those_without_the_relu(traces):
    assert_close(traces[0].logits, torch.tensor(PLAIN["student"]), rtol=1e-5, atol=1e-6)
    assert_close(traces[1].logits, torch.tensor(PLAIN["teacher"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("logits", "temperature", "expected"),
    [(RELU, 1.0, 0.3014442026615143), (RELU, 2.0, 0.3341256082057953), (PLAIN, 1.0, 0.3771533668041229)],
    ids=["relu", "relu, temperature 2", "plain"],
)
def test_half_of_our_soft_cross_entropy_matches_tinybert(logits, temperature, expected):
    student, teacher = torch.tensor(logits["student"]), torch.tensor(logits["teacher"])
    assert_close(soft_cross_entropy(student, teacher, temperature).item() / 2, expected, rtol=1e-5, atol=0)
    margins = student.diff(dim=1)[:, 0], teacher.diff(dim=1)[:, 0]  # the same two classes as one logit
    assert_close(soft_cross_entropy(*margins, temperature).item() / 2, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("logits", "expected"), [(RELU, 0.7839286923408508), (PLAIN, 0.6401177048683167)])
def test_binary_cross_entropy_of_the_margin_matches_tinybert_with_hard_labels(logits, expected):
    margin = torch.tensor(logits["student"]).diff(dim=1)[:, 0]
    assert_close(label_binary_cross_entropy(margin, LABELS).item(), expected, rtol=1e-5, atol=0)


def test_the_weighted_sum_is_the_total_of_the_merged_stage(traces, batch_of):
    student, teacher, mask = traces
    student = student._replace(logits=torch.tensor(RELU["student"]))
    teacher = teacher._replace(logits=torch.tensor(RELU["teacher"]))
    layer_losses = {kind.__name__: kind(count_padding=True) for kind in (AttentionLoss, EmbeddingLoss, HiddenLoss)}
    losses = WeightedSum({**layer_losses, "logits": LogitLoss()}, dict.fromkeys(layer_losses, 1.0) | {"logits": 0.5})
    total = losses(student, teacher, batch_of(mask.int().tolist())).total + F.cross_entropy(student.logits, LABELS)
    assert_close(total.item(), TOTAL, rtol=1e-5, atol=0)
