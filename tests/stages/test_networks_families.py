"""Stages around teachers of every family: which weights learn, and what a student may start from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from families import NAMES, tiny, tokenizer_of
from support import composed
from tokenizers.processors import TemplateProcessing

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair, PairBatch
from rankdistil.inference.export_files import write_export
from rankdistil.modules.stage import StageModule
from rankdistil.stages import networks

SIZE = ("student.layers=2", "student.hidden_size=16", "student.heads=4", "student.intermediate_size=24")
LAYERS = ("embedding", "hidden", "attention")
ALONE = {kept: tuple(f"~stage.losses.{name}" for name in LAYERS if name != kept) for kept in LAYERS}


def batch_of(name: str) -> PairBatch:
    pairs = [Pair("q", str(number), "how do bees fly", "wings beat fast " * number) for number in range(4)]
    batch = PairEncoder(tokenizer_of(name), 24).batch(pairs)
    return batch._replace(labels=torch.tensor([1.0, 0, 1, 0]), groups=torch.tensor([0, 0, 1, 1]))


def built(name: str, *overrides: str) -> StageModule:
    batch = batch_of(name)
    encoder = PairEncoder(tokenizer_of(name), 24)
    data = SimpleNamespace(first_batches=lambda pairs: [batch] * (pairs // 4), encoder=encoder)
    own = *SIZE, "student.init_from=random", "recipe.weights.attention=1"
    return networks.build_module(composed(*own, *overrides), tiny(name), data, {})


@pytest.mark.parametrize(
    "overrides",
    [("stage=finetune",), ("stage=ranker_distill",), *(("stage=lm_distill", *dropped) for dropped in ALONE.values())],
    ids=["labels", "all", *ALONE],
)
@pytest.mark.parametrize("name", NAMES)
def test_every_weight_that_a_stage_would_train_gets_a_gradient(name: str, overrides: tuple) -> None:
    module = built(name, *overrides)
    module.loss(batch_of(name)).total.backward()
    idle = [key for key, value in module.named_parameters() if value.requires_grad and value.grad is None]
    assert idle == []  # data-parallel training stops at weights that get none


def test_a_student_of_another_family_learns_its_teacher_s_layers_where_their_tokens_agree(tmp_path: Path) -> None:
    start, batch = tmp_path / "start", batch_of("bert")
    write_export(start, tiny("distilbert", hidden_size=16, hidden_dim=24), tokenizer_of("bert"), 24, with_head=False)
    module = built("bert", "stage=ranker_distill", f"student.init_from=pretrained:{start}")
    assert (module.ranker.config.model_type, module.teacher.config.model_type) == ("distilbert", "bert")
    value = module.loss(batch)
    assert {*LAYERS, "logits"} <= {*value.parts}
    assert all(part > 0 for part in value.parts.values())
    value.total.backward()
    assert all(part.grad is not None for part in module.ranker.parameters())


def test_a_start_whose_tokenizer_lays_out_pairs_otherwise_is_refused(tmp_path: Path) -> None:
    own = type(tokenizer_of("bert"))(vocab=tokenizer_of("bert").get_vocab())
    tokens = [("[CLS]", own.cls_token_id), ("[SEP]", own.sep_token_id)]
    pair = "[CLS]:0 $A:0 [SEP]:0 [SEP]:0 $B:1 [SEP]:1"
    own.backend_tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=tokens)
    write_export(tmp_path / "start", tiny("electra"), tokenizer_of("bert"), 24)
    with pytest.raises(ValueError) as caught:
        networks.check_tokens(str(tmp_path / "start"), own)
    assert str(caught.value) == (
        f"{tmp_path}/start: its tokenizer puts [CLS] query [SEP] passage [SEP], that of the network that the student learns "
        "from [CLS] query [SEP] [SEP] passage [SEP]. Start from a checkpoint with the same tokenizer."
    )
