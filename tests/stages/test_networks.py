"""Networks: what a config's stage is built of, on tiny ones."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import CONF, MINILM, composed
from transformers import BertConfig

from rankdistil.data.records import PairBatch
from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import CrossEncoder, Layers
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.student import LayerMap, Start
from rankdistil.modules.stage import DistillModule, FinetuneModule, StageModule
from rankdistil.stages import networks

UNTRAINED = {"score_teacher", "mine_negatives"}  # which train nothing
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
STAGES = sorted({path.stem for path in (CONF / "stage").glob("*.yaml")} - UNTRAINED)
EXPERIMENTS = sorted({path.stem for path in (CONF / "experiment").glob("*.yaml")} - UNTRAINED)
TINY = ("student.layers=2", "student.hidden_size=12", "student.heads=3", "student.intermediate_size=24")


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return load_tokenizer(MINILM)


@pytest.fixture
def built(tiny_ranker: CrossEncoder, batch: PairBatch, tokenizer: object):
    """Build a stage's module around the tiny ranker."""

    def build(stage: str, *overrides: str, parents: dict | None = None) -> StageModule:
        data = SimpleNamespace(first_batches=lambda pairs: [batch] * (pairs // 4), encoder=SimpleNamespace(tokenizer=tokenizer))
        return networks.build_module(
            composed(f"stage={stage}", *TINY, "student.init_from=random", "recipe.weights.attention=1", *overrides),
            tiny_ranker,
            data,
            parents or {},
        )

    return build


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [(stage, ()) for stage in STAGES]
    + [
        (stage, (*(f"~stage.losses.{name}" for name in dropped), "stage.projection=per_layer"))
        for stage in ("lm_distill", "ranker_distill")
        for dropped in (("embedding",), ("hidden",), ("attention",), ("embedding", "hidden"), ("hidden", "attention"))
    ]
    + [("score_distill", (f"loss={loss}",)) for loss in LOSSES]
    + [
        ("relation_distill", words)
        for words in (
            ("~stage.losses.logits",),
            ("stage.losses.relations.loss.kind=minilm", "stage.losses.relations.loss.heads=3"),
            ("+stage.losses.first={weight: 1.0, loss: {_target_: rankdistil.losses.FirstTokenLoss}}",),
        )
    ],
)
def test_every_weight_that_a_stage_would_train_gets_a_finite_gradient(
    built, batch: PairBatch, stage: str, overrides: tuple
) -> None:
    module = built(stage, *overrides)
    with torch.autocast("cpu", torch.bfloat16):
        module.loss(batch).total.backward()
    idle = [name for name, value in module.named_parameters() if value.requires_grad and value.grad is None]
    assert idle == []  # data-parallel training stops at weights that get none
    assert all(value.grad.isfinite().all() for value in module.parameters() if value.requires_grad)


@pytest.mark.parametrize(
    ("stage", "kind", "head"),
    [
        ("teacher", FinetuneModule, True),
        ("finetune", FinetuneModule, True),
        ("lm_distill", DistillModule, False),
        ("layer_distill", DistillModule, False),
        ("logit_distill", DistillModule, True),
        ("ranker_distill", DistillModule, True),
        ("score_distill", DistillModule, True),
        ("relation_distill", DistillModule, True),
    ],
)
def test_a_stage_s_file_says_who_learns_and_whether_the_head_does(built, stage: str, kind: type, head: bool) -> None:
    module = built(stage)
    assert type(module) is kind
    assert module.losses.trains_head is head
    assert module.ranker.config.num_hidden_layers == (4 if stage == "teacher" else 2)


@pytest.mark.parametrize(
    ("stage", "overrides", "maps"),
    [
        ("logit_distill", (), None),
        ("lm_distill", ("~stage.losses.hidden", "~stage.losses.embedding"), None),
        ("lm_distill", (), 1),
        ("lm_distill", ("stage.projection=per_layer",), 3),
        ("lm_distill", ("student.hidden_size=24",), 0),
    ],
)
def test_widths_are_bridged_where_states_are_compared_and_differ(built, stage: str, overrides: tuple, maps: int | None) -> None:
    projection = built(stage, *overrides).losses.projection
    assert (None if projection is None else len(projection.maps)) == maps


def test_a_random_student_follows_the_run_s_seed(built) -> None:
    first, again, other = (built("finetune", f"seed={seed}").ranker.bert.classifier.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_projection_starts_where_it_maps_best(built, batch: PairBatch) -> None:
    module = built("lm_distill").eval()
    start = module.loss(batch).parts["hidden"]
    with torch.no_grad():
        for parameter in module.losses.projection.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert module.loss(batch).parts["hidden"] > start


def test_a_student_without_teacher_may_be_deeper_than_the_network_that_its_words_come_from(built) -> None:
    assert built("finetune", "student.layers=5").ranker.config.num_hidden_layers == 5
    with pytest.raises(ValueError, match="the student has 5 layers and its teacher 4"):
        built("lm_distill", "student.layers=5")


@pytest.mark.parametrize("stage", ["score_distill", "relation_distill"])
def test_a_student_of_scores_or_relations_may_be_deeper_and_wider_than_its_teacher_with_other_heads(
    built, batch: PairBatch, stage: str
) -> None:
    shape = "student.layers=5", "student.hidden_size=32", "student.heads=4"
    module = built(stage, *shape)
    assert float(module.loss(batch).total.detach()) > 0
    with pytest.raises(ValueError, match="the student has 5 layers and its teacher 4"):  # from which it would be cut
        built(stage, *shape, "student.init_from=teacher_layers")


@pytest.mark.parametrize(("named", "taken"), [("null", 3), ("2", 1)])
def test_relations_are_those_of_the_student_s_last_layer_and_of_the_teacher_s_last_or_the_one_named(
    built, batch: PairBatch, named: str, taken: int
) -> None:
    module = built("relation_distill", f"stage.losses.relations.loss.teacher_layer={named}", "~stage.losses.logits")
    assert module._layers == LayerMap(Layers(vectors=(1,)), Layers(vectors=(taken,)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("stage.losses.relations.loss.teacher_layer=5",),
            "stage.losses.relations.loss.teacher_layer is 5; the teacher has 4 layers. Name one of them, or null for the last.",
        ),
        (
            ("stage.losses.relations.loss.heads=5",),
            "stage.losses.relations.loss.heads is 5; expected a number that the widths 12 of the student and 24 of its teacher "
            "can be split into, 12 for example.",
        ),
        (
            ("stage.losses.relations.loss.kind=minilm2",),
            "stage.losses.relations.loss.kind is 'minilm2'; expected one of minilm, minilmv2.",
        ),
    ],
)
def test_relations_that_cannot_be_compared_are_refused_by_their_key(built, overrides: tuple, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        built("relation_distill", *overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("named", "taken"), [("[2,6]", (1, 3)), ("[1,6]", (0, 3)), ("[1,4]", (0, 3)), ("[3,6]", (1, 3)), ("spread", (1, 3))]
)
def test_a_student_of_an_assistant_learns_from_its_layers_at_the_depth_of_those_named(built, named: str, taken: tuple) -> None:
    """The tiny ranker, of four layers, stands for an assistant of a teacher of six."""
    module = built("ranker_distill", f"student.layer_map={named}", "teacher.assistant=ranker_distill_6l")
    assert module._layers.teacher.attention == taken


def test_a_list_of_layers_that_no_assistant_has_is_refused_as_it_stands(built) -> None:
    with pytest.raises(
        ValueError, match=r"^student\.layer_map is \[2, 6\]; expected uniform, spread, or 2 rising numbers of 1 to 4"
    ):
        built("ranker_distill", "student.layer_map=[2,6]")
    with pytest.raises(ValueError, match=r"^student\.layer_map is \[2, 5\]; expected"):
        built("ranker_distill", "student.layer_map=[2,5]", "teacher.assistant=ranker_distill_6l")


def test_a_student_is_held_against_the_shape_of_its_assistant() -> None:
    assistant = composed("+experiment=ranker_distill_6l", "student=4l")
    networks.check_student(composed("+experiment=assistant_2l"), assistant)
    wrong = {
        "student.layers=5": r"the student has 5 layers and its teacher 4: ",
        "student.intermediate_size=1000": "1000",  # the teacher has as many, its assistant doesn't
    }
    for override, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            networks.check_student(composed("+experiment=assistant_2l", "student.layer_map=spread", override), assistant)


def test_what_is_learnt_from_is_the_assistant_and_what_is_compared_with_the_teacher() -> None:
    cfg, parents = composed("+experiment=assistant_2l"), {"assistant": {"source": "a/export"}}
    assert networks.learnt_source(cfg, parents) == "a/export"
    assert networks.teacher_source(cfg) == "runs/teacher/minilm/seed0/export"
    own = composed("+experiment=ranker_distill_6l"), {"teacher": {"source": "runs/teacher/minilm/seed0/export"}}
    assert networks.learnt_source(*own) == networks.teacher_source(own[0])


def test_a_loss_over_lists_wants_more_than_pairs_and_its_file_asks_for_them() -> None:
    for loss in LOSSES:
        networks.check_losses(composed("stage=score_distill", f"loss={loss}"))
    with pytest.raises(ValueError) as caught:
        networks.check_losses(composed("stage=score_distill", "loss=listmle", "data.negatives=1"))
    assert str(caught.value) == (
        "stage.losses.scores is a loss over lists, and data.negatives=1 makes groups of 2 passages: it needs 3 at least. Set "
        "stage.negatives=7 (with data.train_on=sampled, or auto), or choose a loss over pairs: loss=ranknet, loss=margin_mse."
    )


def test_judgments_mix_with_the_teacher_s_scores_by_weights() -> None:
    mixed = composed(
        "stage=score_distill", "loss=logit_mse", "stage.losses.scores.weight=0.3", "stage.losses.labels.weight=0.7"
    )
    assert networks.build_losses(mixed, None).weights == {"labels": 0.7, "scores": 0.3}


def test_a_start_named_by_an_experiment_is_that_run_s_export() -> None:
    cfg = composed("+experiment=lm_finetune_6l")
    assert networks.student_start(cfg, {"student": {"source": "a/export"}}) == Start("export", "a/export")
    assert networks.student_start(composed("+experiment=finetune_6l"), {}) == Start("subclone")


def test_a_student_starts_from_exactly_the_weights_that_lm_distill_exported(
    built, tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path
) -> None:
    tiny_ranker.config.vocab_size = len(tokenizer)
    exported = built("finetune", "seed=4").ranker  # of the real vocabulary's size
    write_export(tmp_path / "export", exported, tokenizer, 38, with_head=False)
    parents = {"student": {"source": str(tmp_path / "export")}}
    student = built("finetune", "follows=lm_distill_6l", parents=parents).ranker
    body = exported.bert.bert.state_dict()
    assert all(torch.equal(value, body[name]) for name, value in student.bert.bert.state_dict().items())
    assert not torch.equal(student.bert.classifier.weight, exported.bert.classifier.weight)


@pytest.mark.fault("A5")
def test_a_start_whose_tokens_mean_something_else_is_refused(tokenizer: object, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    words = dict(tokenizer.get_vocab())
    words["tree"], words["bee"] = words["bee"], words["tree"]
    networks.check_tokens(str(tmp_path), tokenizer)
    with pytest.raises(ValueError) as caught:
        networks.check_tokens(str(tmp_path), SimpleNamespace(get_vocab=lambda: words))
    assert str(caught.value) == (
        f"{tmp_path}: its vocabulary isn't that of the network that the student learns from (4 entries differ). "
        "Start from a checkpoint with the same tokenizer; or learn from the other's scores (+experiment=score_teacher "
        "teacher.kind=cross_encoder, then teacher.scores), which need no common tokens."
    )


@pytest.mark.parametrize("start", ["student.init_from=export:START", "follows=lm_distill_6l"])
@pytest.mark.fault("A5")
def test_other_tokens_than_the_teacher_s_are_refused_before_a_parent_is_trained(
    built, tokenizer: object, tiny_ranker: CrossEncoder, tmp_path: Path, start: str
) -> None:
    """A teacher whose tokens mean something else than those of its language model."""
    tiny_ranker.config.vocab_size = len(tokenizer)
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["anothertoken"])
    write_export(tmp_path / "teacher", tiny_ranker, other, 38)
    write_export(tmp_path / "start", built("finetune").ranker, tokenizer, 38)
    start = start.replace("START", f"{tmp_path}/start")
    cfg = composed("stage=ranker_distill", *TINY, f"teacher.export={tmp_path}/teacher", start)
    with pytest.raises(ValueError, match=r"its vocabulary isn't that of the network that the student learns from \(1 entries"):
        networks.check_student(cfg)


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        (("teacher",), "teacher.path="),
        (("lm_distill",), "teacher.path="),
        (("finetune", "student.init_from=subclone"), "teacher.path="),
        (("logit_distill", "student.init_from=teacher_layers", "teacher.scores=scores"), "teacher.path="),
        (("finetune", "student.init_from=pretrained:RANKER"), "student.init_from=pretrained:"),
        (("lm_distill", "student.init_from=export:RANKER"), "student.init_from=export:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.fault("A9")
def test_a_ranker_is_refused_where_its_head_would_be_thrown_away(
    tiny_ranker: CrossEncoder, tmp_path: Path, stage: tuple[str, ...], key: str
) -> None:
    tiny_ranker.bert.save_pretrained(tmp_path)
    overrides = [word.replace("RANKER", str(tmp_path)) for word in stage[1:]]
    path = [f"teacher.path={tmp_path}"] if key == "teacher.path=" else []
    cfg = composed(f"stage={stage[0]}", *TINY, *overrides, *path)
    with pytest.raises(ValueError, match=rf"^{key}{tmp_path} is a ranker "):
        networks.check_language_models(cfg)


def test_a_ranker_whose_tokens_alone_are_used_is_taken(tiny_ranker: CrossEncoder, tmp_path: Path) -> None:
    tiny_ranker.bert.save_pretrained(tmp_path)
    networks.check_language_models(composed("stage=finetune", *TINY, "student.init_from=random", f"teacher.path={tmp_path}"))


def test_a_pretrained_start_does_not_rank_whatever_its_config_says(tiny_ranker: CrossEncoder, tmp_path: Path) -> None:
    tiny_ranker.bert.config.save_pretrained(tmp_path)
    for kind, ranks in (("export", True), ("pretrained", False)):
        cfg = composed("stage=finetune", *TINY, f"student.init_from={kind}:{tmp_path}")
        assert networks.start_ranks(cfg, {}) is ranks


@pytest.mark.parametrize("override", ["student.layers=3", "student.hidden_size=15"])
def test_an_export_of_another_size_is_refused_before_anything_is_read(
    tiny_ranker: CrossEncoder, tmp_path: Path, override: str
) -> None:
    networks.student_size(composed("stage=finetune", *TINY).student).config(tiny_ranker.config).save_pretrained(tmp_path)
    cfg = composed("stage=finetune", *TINY, f"student.init_from=export:{tmp_path}", override)
    with pytest.raises(ValueError, match=f"^student.init_from=export:{tmp_path} "):
        networks.check_student(cfg)


@pytest.mark.parametrize(
    ("stage", "loss", "message"),
    [
        ("finetune", "LogitLoss", "learns from a teacher, and stage finetune has none (stage.teacher=none)"),
        (
            "lm_distill", "LabelLoss",
            "reads relevance scores, but stage lm_distill learns from a language model's text, which has none",
        ),
    ],
)  # fmt: skip
def test_a_loss_is_refused_in_a_stage_that_lacks_what_it_reads(stage: str, loss: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        networks.check_losses(
            composed(
                f"+experiment={stage}_6l", f"+stage.losses.more={{weight: 1, loss: {{_target_: rankdistil.losses.{loss}}}}}"
            )
        )
    assert str(caught.value) == f"stage.losses.more {message}. Drop the loss: '~stage.losses.more', or choose another stage."


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_s_losses_have_what_they_read(experiment: str) -> None:
    networks.check_losses(composed(f"+experiment={experiment}"))


def test_one_map_for_each_state_is_one_map_where_only_the_embedding_is_compared() -> None:
    drop = ["~stage.losses.hidden", "stage.projection=per_layer"]
    cfg = composed("+experiment=lm_distill_6l", *drop)
    shape = BertConfig(hidden_size=384, num_attention_heads=12)
    assert len(networks._projection(cfg, networks.student_size(cfg.student), shape).maps) == 1
