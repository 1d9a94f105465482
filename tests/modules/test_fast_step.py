"""The training step against the plain one: eager attention, every layer, float32, padded to 128 tokens."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.data.records import PairBatch
from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LabelLoss, LogitLoss, Projection, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher
from rankdistil.models.student import map_layers
from rankdistil.modules.stage import DistillModule, OptimSettings

LENGTHS = [33, 20, 41, 12, 25, 25, 8, 39]
PADDED = 128
KINDS = {"embedding": EmbeddingLoss, "hidden": HiddenLoss, "attention": AttentionLoss, "logits": LogitLoss, "labels": LabelLoss}
STAGES = [*([name] for name in KINDS), ["embedding", "hidden", "attention"], [*KINDS]]


def network(layers: int, width: int, seed: int) -> BertForSequenceClassification:
    """Return a BERT whose layers, heads and scores all matter, without dropout."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=60, hidden_size=width, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=2 * width,
        num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.15,
    )  # fmt: skip
    return BertForSequenceClassification._from_config(config, attn_implementation="eager")


def a_batch(length: int) -> PairBatch:
    """Return four triples, padded to a length."""
    mask = (torch.arange(length) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, 60, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    ids = F.pad(ids, (0, length - max(LENGTHS))) * mask
    types = (torch.arange(length) > 5).long() * mask
    labels, groups = torch.tensor([1.0, 0] * 4), torch.arange(8) // 2
    return PairBatch(ids, mask, types, labels, groups, ("q",) * 8, tuple("abcdefgh"))


def shown(bert: BertForSequenceClassification, batch: PairBatch) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return logits, every hidden state, and every layer's QKᵀ/√d, from the library's own forward pass."""
    parts: dict[tuple[int, str], Tensor] = {}
    hooks = [
        getattr(layer.attention.self, name).register_forward_hook(
            lambda _, __, out, key=(index, name): parts.__setitem__(key, out)
        )
        for index, layer in enumerate(bert.bert.encoder.layer)
        for name in ("query", "key")
    ]
    out = bert(batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids,
               output_hidden_states=True)  # fmt: skip
    for hook in hooks:
        hook.remove()
    heads = {key: part.unflatten(2, (4, -1)).transpose(1, 2) for key, part in parts.items()}
    count = bert.config.num_hidden_layers
    scores = [heads[layer, "query"] @ heads[layer, "key"].mT / heads[layer, "key"].size(-1) ** 0.5 for layer in range(count)]
    return out.logits.squeeze(1), list(out.hidden_states), scores


def plain_losses(student: nn.Module, teacher: nn.Module, bridge: nn.Module, batch: PairBatch) -> dict[str, Tensor]:
    """Compute every loss the plain way, text by text, over its real tokens."""
    with torch.no_grad():
        other_logits, other_states, other_scores = shown(teacher, batch)
    logits, states, scores = shown(student, batch)
    tokens = sum(LENGTHS)

    def gap(own: Tensor, other: Tensor) -> Tensor:
        return sum((own[row, :n] - other[row, :n]).square().sum() for row, n in enumerate(LENGTHS)) / (tokens * other.size(2))

    def map_gap(own: Tensor, other: Tensor) -> Tensor:
        found = sum((own[row, :, :n, :n] - other[row, :, :n, :n]).square().sum() for row, n in enumerate(LENGTHS))
        return found / (sum(n * n for n in LENGTHS) * 4)

    pairs = logits.view(-1, 2)
    return {
        "embedding": gap(bridge(states[0]), other_states[0]),
        "hidden": sum(gap(bridge(states[m]), other_states[2 * m]) for m in (1, 2)),
        "attention": sum(map_gap(scores[m], other_scores[2 * m + 1]) for m in (0, 1)),
        "logits": F.binary_cross_entropy_with_logits(logits, other_logits.sigmoid()),
        "labels": -pairs.log_softmax(1)[:, 0].mean(),
    }


def both(names: list[str], mixed: bool) -> tuple[dict, dict, dict, dict]:
    """Return losses and gradients of the module's step and of the plain one."""
    teacher, student = network(4, 32, 1), network(2, 16, 2)
    other, needs_states = copy.deepcopy(student), bool({"embedding", "hidden"} & {*names})
    torch.manual_seed(3)
    bridge = Projection("shared", 16, 32, 3) if needs_states else None
    plain_bridge = copy.deepcopy(bridge.maps[0]) if bridge else nn.Linear(16, 32)
    summed = WeightedSum({name: KINDS[name]() for name in names}, dict.fromkeys(names, 1.0), bridge)
    optim = OptimSettings(1e-3, 10, 1)
    frozen = FrozenTeacher(CrossEncoder(copy.deepcopy(teacher)))
    module = DistillModule(CrossEncoder(student), summed, optim, frozen, map_layers("uniform", 2, 4)).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        value = module.loss(a_batch(max(LENGTHS)))
    value.total.backward()
    expected = plain_losses(other, teacher.eval(), plain_bridge, a_batch(PADDED))
    sum(expected[name] for name in names).backward()
    gradients = {name: part.grad for name, part in student.named_parameters() if part.grad is not None}
    plain = {name: part.grad for name, part in other.named_parameters() if name in gradients}
    if needs_states:
        gradients["projection"], plain["projection"] = bridge.maps[0].weight.grad, plain_bridge.weight.grad
    return value.parts, {name: expected[name] for name in names}, gradients, plain


@pytest.mark.parametrize("names", STAGES, ids="+".join)
def test_in_float32_losses_and_gradients_equal_those_of_the_plain_step(names: list[str]) -> None:
    losses, expected, gradients, plain = both(names, mixed=False)
    for name in names:
        assert_close(losses[name], expected[name], rtol=1e-5, atol=0)
    assert gradients
    for name, gradient in gradients.items():
        wanted = torch.zeros_like(gradient) if plain[name] is None else plain[name]
        assert float((gradient - wanted).norm()) <= 1e-5 * float(wanted.norm()) + 1e-7, name


@pytest.mark.parametrize("names", STAGES, ids="+".join)
def test_in_bfloat16_losses_are_within_one_percent_and_the_gradient_points_the_same_way(names: list[str]) -> None:
    losses, expected, gradients, plain = both(names, mixed=True)
    for name in names:
        assert losses[name].dtype == torch.float32
        assert_close(losses[name], expected[name], rtol=1e-2, atol=0)
    kept = [name for name in gradients if plain[name] is not None]
    own, wanted = (torch.cat([part[name].flatten() for name in kept]) for part in (gradients, plain))
    assert F.cosine_similarity(own, wanted, dim=0) > 0.999
    assert_close(own.norm(), wanted.norm(), rtol=1e-2, atol=0)
