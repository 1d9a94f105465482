"""Scores that were written down train a student exactly as the teacher that wrote them."""

import copy
import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from support import MINILM
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.data.batches.groups import ListedGroups, list_groups
from rankdistil.data.batches.stream import GroupStream, Size
from rankdistil.data.collections.texts import Collection, LiveTexts
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import BadLines
from rankdistil.data.records import Triple
from rankdistil.data.teacher_scores.folder import Shard, load_scores, shard_name, write_shard
from rankdistil.losses import LabelLoss, LogitLoss, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.student import LayerMap
from rankdistil.modules.stage import DistillModule, OptimSettings

TEXTS = {f"{kind}{number}": f"{kind} word {'tree ' * (number % 7)}{number}" for kind in "qp" for number in range(24)}
TRIPLES = [Triple(f"q{n}", f"p{n}", f"p{(n * 5 + 1) % 24}") for n in range(24)]
NOTHING = LayerMap(Layers(), Layers())
OPTIM = OptimSettings(lr=1e-3, steps=10, warmup_steps=1)


@pytest.fixture(scope="module")
def encoder() -> PairEncoder:
    return PairEncoder(load_tokenizer(MINILM), 23)


@pytest.fixture(scope="module")
def texts(encoder: PairEncoder) -> Collection:
    return Collection(*(LiveTexts(lambda ids: {key: TEXTS[key] for key in ids}, encoder) for _ in range(2)))


def ranker(seed: int, layers: int) -> CrossEncoder:
    torch.manual_seed(seed)
    config = BertConfig(hidden_size=24, num_hidden_layers=layers, num_attention_heads=3, intermediate_size=48, num_labels=1)
    config._attn_implementation = "sdpa"
    return CrossEncoder(BertForSequenceClassification(config)).eval()


def losses() -> WeightedSum:
    parts = {"logits": LogitLoss(temperature=2.0), "labels": LabelLoss()}
    return WeightedSum(parts, {"logits": 1.0, "labels": 0.5}, None)


def test_losses_and_gradients_from_cached_scores_equal_those_of_the_live_teacher_bit_by_bit(
    encoder: PairEncoder, texts: Collection, tmp_path: Path
) -> None:
    source, teacher, student = (
        ListedGroups(list_groups(enumerate(TRIPLES, 1), *texts, BadLines().of("triples"))),
        ranker(1, 3),
        ranker(2, 2),
    )
    stream = [source, *texts, encoder, Size(4), 5]
    batches = list(islice(GroupStream(*stream), 6))
    with torch.no_grad():
        logits = [teacher(*batch[:3]).logits for batch in batches]
    found = {}
    for batch, row in zip(batches, logits, strict=True):
        found |= dict(zip(zip(batch.query_ids, batch.passage_ids, strict=True), row.tolist(), strict=True))
    queries, passages = zip(*found, strict=True)
    write_shard(tmp_path / shard_name(0), Shard(queries, passages, torch.tensor(list(found.values())).numpy()))
    (tmp_path / "scores.json").write_text(json.dumps({"made_of": {}, "shards": {shard_name(0): len(found)}}))

    live = DistillModule(copy.deepcopy(student), losses(), OPTIM, FrozenTeacher(teacher), NOTHING)
    cached = DistillModule(copy.deepcopy(student), losses(), OPTIM, None, NOTHING)
    carrying = islice(GroupStream(*stream, scores=load_scores(tmp_path, texts, {})), 6)
    for one, other in zip(batches, carrying, strict=True):
        left, right = live.loss(one), cached.loss(other)
        assert torch.equal(left.total, right.total)
        left.total.backward()
        right.total.backward()
    gradients = zip(live.ranker.parameters(), cached.ranker.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in gradients)
