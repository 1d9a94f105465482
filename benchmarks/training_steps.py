"""One training step, written plainly and as the package does it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.rankers import SIZES
from rankdistil.data.records import PairBatch
from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LabelLoss, LogitLoss, Projection, WeightedSum
from rankdistil.losses.labels import label_cross_entropy
from rankdistil.models.bert import CrossEncoder, FrozenTeacher
from rankdistil.models.student import map_layers
from rankdistil.modules.stage import DistillModule, FinetuneModule, OptimSettings, StageModule, adamw

TEACHER = "12l"
VOCABULARY = 30522
OPTIM = OptimSettings(lr=1e-4, steps=1000, warmup_steps=10)
LAYERS = {"embedding": EmbeddingLoss, "hidden": HiddenLoss, "attention": AttentionLoss}
LOSSES = {  # of each stage
    "teacher": {"labels": LabelLoss},
    "lm": LAYERS,
    "layers": LAYERS | {"logits": LogitLoss},
    "logits": {"logits": LogitLoss},
}
Step = Callable[[PairBatch], None]
"""Trains on a batch."""


def shape(name: str) -> BertConfig:
    """Return the config of a size."""
    layers, wide, heads, inner = SIZES[name]
    return BertConfig(
        vocab_size=VOCABULARY, hidden_size=wide, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
        num_labels=1,
    )  # fmt: skip


def module_of(stage: str, name: str) -> StageModule:
    """Build the module of a stage, with random weights.

    Args:
        stage: one of ``LOSSES``.
        name: size of what learns.
    """
    torch.manual_seed(0)
    kinds = LOSSES[stage]
    learner, losses = CrossEncoder(BertForSequenceClassification(shape(name))), {key: kind() for key, kind in kinds.items()}
    weights = dict.fromkeys(losses, 1.0)
    if stage == "teacher":
        return FinetuneModule(learner, WeightedSum(losses, weights), OPTIM)
    own, other = shape(name), shape(TEACHER)
    bridge = Projection("auto", own.hidden_size, other.hidden_size, own.num_hidden_layers + 1) if "hidden" in losses else None
    teacher = None if stage == "logits" else FrozenTeacher(CrossEncoder(BertForSequenceClassification(other)))
    layer_map = map_layers("uniform", own.num_hidden_layers, other.num_hidden_layers)
    return DistillModule(learner, WeightedSum(losses, weights, bridge), OPTIM, teacher, layer_map)


def our_step(module: StageModule, device: str, mixed: bool) -> Step:
    """Return the step that Lightning takes with a module.

    Args:
        module: of a stage.
        device: where it runs.
        mixed: in bfloat16 mixed precision, else in float32.
    """
    module.to(device).train()
    if getattr(module, "teacher", None) is not None:
        module.teacher.to(device)
    optimizer, schedule = adamw(module, OPTIM)

    def step(batch: PairBatch) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            value = module.loss(batch)
        value.total.backward()
        clip_grad_norm_(module.parameters(), OPTIM.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    return step


def naive_step(stage: str, name: str, device: str) -> Step:
    """Return the step that one writes first: float32, eager attention, every layer of both networks kept.

    Args:
        stage: one of ``LOSSES``; cached logits aren't read, the teacher is asked.
        name: size of what learns.
        device: where it runs.
    """
    torch.manual_seed(0)
    student = BertForSequenceClassification._from_config(shape(name), attn_implementation="eager").to(device).train()
    teacher = BertForSequenceClassification._from_config(shape(TEACHER), attn_implementation="eager").to(device).eval()
    own, other = student.config, teacher.config
    bridge = nn.Linear(own.hidden_size, other.hidden_size).to(device) if own.hidden_size != other.hidden_size else nn.Identity()
    every = other.num_hidden_layers // own.num_hidden_layers
    everything = {"output_hidden_states": True, "output_attentions": True}
    optimizer = torch.optim.AdamW([*student.parameters(), *bridge.parameters()], lr=1e-4)

    def loss(batch: PairBatch) -> torch.Tensor:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "token_type_ids": batch.token_type_ids}
        if stage == "teacher":
            return label_cross_entropy(student(**inputs).logits.squeeze(1), batch.labels, batch.groups)
        with torch.no_grad():
            shown = teacher(**inputs, **everything)
        seen = student(**inputs, **everything)
        soft = F.binary_cross_entropy_with_logits(seen.logits, shown.logits.sigmoid())
        if stage == "logits":
            return soft
        states = zip(seen.hidden_states, shown.hidden_states[::every], strict=True)
        maps = zip(seen.attentions, shown.attentions[every - 1 :: every], strict=True)
        compared = sum(F.mse_loss(bridge(s), t) for s, t in states) + sum(F.mse_loss(s, t) for s, t in maps)
        return compared if stage == "lm" else compared + soft

    def step(batch: PairBatch) -> None:
        optimizer.zero_grad()
        loss(batch).backward()
        clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()

    return step
