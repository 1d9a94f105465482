"""The networks of a stage, built from its config: teacher, student, losses, and the module around them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from rankdistil.config.checks import bind, build
from rankdistil.config.choices import (
    asks_assistant,
    asks_scorer,
    asks_teacher,
    kept_losses,
    knows_ranker,
    named_source,
    reads_scores,
    score_folders,
    scorer_settings,
    start_of,
    takes_export,
    teacher_folder,
)
from rankdistil.config.schema import names, plain
from rankdistil.data.batches.stream import StreamDataModule
from rankdistil.data.encode import PairLayout
from rankdistil.data.teacher_scores.folder import read_header
from rankdistil.files import called
from rankdistil.losses import Projection, RelationLoss, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers
from rankdistil.models.checkpoints import (
    is_language_model,
    load_language_model,
    load_ranker,
    load_tokenizer,
    read_config,
    refuse_ranker,
    require_ranker,
)
from rankdistil.models.cpu_layers import set_dropout
from rankdistil.models.locate import identity, is_content, locate
from rankdistil.models.student import (
    CUT,
    LayerMap,
    Start,
    StudentSize,
    at_depth,
    build_student,
    check_match,
    check_start,
    map_layers,
)
from rankdistil.modules.stage import DistillModule, FinetuneModule, OptimSettings, StageModule
from rankdistil.teachers.scorers import RANKER, check_scorer, foreign_kind

FITTED_ON = 128  # pairs that a subclone is fitted on, about
LIST = 7  # negatives beside a positive that make a list
PROJECTED_ON = 128  # pairs that a projection is fitted on, at least


def optim_settings(stage: DictConfig) -> OptimSettings:
    """Read the optimiser's settings of ``stage``.

    Raises:
        ValueError: for a value out of range, naming its key.
    """
    dropout, share = plain(stage.dropout), plain(stage.warmup_share)
    if dropout is not None and not _is_share(dropout):
        raise ValueError(
            f"stage.dropout is {dropout!r}; expected a number in [0, 1), or null for that of the network's config."
        )
    if not _is_share(share):
        raise ValueError(f"stage.warmup_share is {share!r}; expected a number in [0, 1).")
    steps = stage.steps if isinstance(stage.steps, int) else 0
    return OptimSettings(stage.lr, stage.steps, round(share * steps), stage.weight_decay, stage.gradient_clip)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def student_size(student: DictConfig) -> StudentSize:
    """Read the student's shape."""
    return StudentSize(**{name: student[name] for name in names(StudentSize)})


def teacher_source(cfg: DictConfig) -> str:
    """Return where the teacher ranker comes from or, without one, the network that a stage's tokens come from."""
    if asks_teacher(cfg) and not takes_export(cfg):
        return str(teacher_folder(cfg) / "export")
    return named_source(cfg)


def learnt_source(cfg: DictConfig, parents: dict[str, Any]) -> str:
    """Return where the network comes from that a stage learns from: an assistant, or what ``teacher_source`` says."""
    return parents["assistant"]["source"] if "assistant" in parents else teacher_source(cfg)


def load_teacher(cfg: DictConfig, parents: dict[str, Any]) -> CrossEncoder:
    """Load the network that a stage learns from, or the one that gives shape and tokens to a stage without a teacher."""
    source = learnt_source(cfg, parents)
    return load_ranker(source) if knows_ranker(cfg) else load_language_model(source, seed=cfg.seed)


def student_start(cfg: DictConfig, parents: dict[str, Any]) -> Start:
    """Return what the student starts from; a parent's run is its export by then."""
    start = start_of(cfg)
    return Start("export", parents["student"]["source"]) if start.kind == "experiment" else start


def start_ranks(cfg: DictConfig, parents: dict[str, Any]) -> bool:
    """Whether what a student starts from ranks already: it comes from a ranker, head included."""
    if cfg.stage.learns != "student":
        return False
    start = student_start(cfg, parents)
    if start.kind in CUT:
        return knows_ranker(cfg)
    return start.kind == "export" and not is_language_model(read_config(start.path))


def build_losses(cfg: DictConfig, projection: Projection | None) -> WeightedSum:
    """Build the stage's losses."""
    nodes = kept_losses(cfg)
    losses = {name: _build_loss(node.loss, f"stage.losses.{name}.loss") for name, node in nodes.items()}
    for name, node in nodes.items():
        if isinstance(node.weight, bool) or not isinstance(node.weight, int | float):
            raise ValueError(f"stage.losses.{name}.weight is {node.weight!r}; expected a number of at least 0.")
    return WeightedSum(losses, {name: node.weight for name, node in nodes.items()}, projection)


def _build_loss(node: DictConfig, section: str) -> nn.Module:
    bind(node, section)
    with _placed(section):
        return build(node, section)


@contextmanager
def _placed(section: str) -> Iterator[None]:
    """Say where a loss stands, which knows the keys of its own settings alone."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{section}.{error}") from error


def check_losses(cfg: DictConfig) -> None:
    """Refuse losses that have nothing to read in their stage.

    Raises:
        ValueError: naming the loss, and what the stage lacks.
    """
    losses = build_losses(cfg, None)
    for name, loss in losses.losses.items():
        if loss.needs and reads_scores(cfg):
            raise ValueError(
                f"stage.losses.{name} compares layers, which teacher.scores don't hold: it needs the teacher itself. Drop the "
                f"loss: '~stage.losses.{name}', or set teacher.scores=null."
            )
        if loss.asks_teacher and cfg.stage.teacher == "none":
            raise ValueError(
                f"stage.losses.{name} learns from a teacher, and stage {cfg.stage.name} has none (stage.teacher=none). "
                f"Drop the loss: '~stage.losses.{name}', or choose another stage."
            )
        if not loss.needs and (cfg.stage.reads == "passages" or cfg.stage.teacher == "language_model"):
            raise ValueError(
                f"stage.losses.{name} reads relevance scores, but stage {cfg.stage.name} learns from a language model's text, "
                f"which has none. Drop the loss: '~stage.losses.{name}', or choose another stage."
            )
        passages = 1 + cfg.data.negatives
        if passages < (least := getattr(loss, "least_passages", 1)):
            raise ValueError(
                f"stage.losses.{name} is a loss over lists, and data.negatives={cfg.data.negatives} makes groups of {passages} "
                f"passages: it needs {least} at least. Set stage.negatives={LIST} (with data.train_on=sampled, or auto), or "
                "choose a loss over pairs: loss=ranknet, loss=margin_mse."
            )


def check_student(cfg: DictConfig, assistant: DictConfig | None = None) -> None:
    """Refuse a student that can't start or can't match its teacher, before anything is trained.

    Args:
        cfg: its run's config.
        assistant: that of the run of the assistant that teaches it, if one does.

    Raises:
        ValueError: naming both sides and the fix.
    """
    size, start = student_size(cfg.student), start_of(cfg)
    shape = (require_ranker if takes_export(cfg) else read_config)(named_source(cfg))
    if assistant is not None:
        shape = student_size(assistant.student).config(shape)
    check_language_models(cfg)
    _layer_map(cfg, start, shape)
    check_start(start, size, shape, read_config(start.path) if start.kind in ("export", "pretrained") else None)
    _check_start_tokens(cfg, start)
    if cfg.stage.teacher != "none":
        _projection(cfg, size, shape)
        _check_match(size, shape, build_losses(cfg, None))


def check_language_models(cfg: DictConfig) -> None:
    """Refuse a ranker where a stage starts from, is cut out of or learns from a pretrained language model.

    Raises:
        ValueError: naming the key, and what to name instead.
    """
    start = start_of(cfg) if cfg.stage.learns == "student" else None
    cut = start is not None and start.kind in CUT and not knows_ranker(cfg)
    if cfg.stage.learns == "teacher" or cfg.stage.teacher == "language_model" or cut:
        refuse_ranker(named_source(cfg), "teacher.path=")
    loses_head = ("pretrained", "export") if cfg.stage.teacher == "language_model" else ("pretrained",)
    if start is not None and start.kind in loses_head:
        refuse_ranker(start.path, f"student.init_from={start.kind}:")


def check_kind(cfg: DictConfig) -> None:
    """Refuse a teacher that can only give scores where a stage needs its network, and say how students learn from it.

    Raises:
        ValueError: naming the teacher and the commands.
    """
    kind, named = cfg.teacher.kind, named_source(cfg)
    if asks_scorer(cfg):
        if cfg.teacher.export is not None:
            raise ValueError(
                f"teacher.export={cfg.teacher.export} names one of our rankers, which are of kind {RANKER}. Name the "
                f"checkpoint that scores as teacher.kind={kind} by teacher.path, or leave teacher.kind out."
            )
        if isinstance(locate(named), Path):  # else it is looked at once it has been fetched
            check_scorer(scorer_settings(cfg))
        return
    key = "teacher.export" if takes_export(cfg) else "teacher.path"
    if kind != RANKER:
        raise ValueError(
            f"teacher.kind={kind} gives scores, no layers, and stage {cfg.stage.name} {_way_out(kind, cfg.teacher.path)}"
        )
    if cfg.stage.learns == "teacher" or not isinstance(locate(named), Path):
        return
    found = foreign_kind(named, takes_export(cfg))
    if found is not None and cfg.stage.learns == "nothing":
        raise ValueError(
            f"{key}={named} is no ranker of ours; it looks like a {found}. Name it so: teacher.kind={found} "
            f"teacher.path={named}."
        )
    if found is not None:
        raise ValueError(
            f"{key}={named} is no ranker whose layers and tokens a student can share; it looks like a {found}, and stage "
            f"{cfg.stage.name} {_way_out(found, named)}"
        )


def _way_out(kind: str, path: str) -> str:
    return (
        f"needs the network itself. Let it score, then learn from its scores: {called('train')} +experiment=score_teacher "
        f"teacher.kind={kind} teacher.path={path}, and here teacher.scores=<the folder that this names> in place of it."
    )


def check_scores(cfg: DictConfig) -> None:
    """Refuse scores that another ranker gave than the one named beside them; of several, one must be that ranker's.

    Imported scores don't say whose they are, what has yet to be fetched from the hub isn't known by content, and scores of
    another kind of teacher need a ranker beside them for its tokens and shape alone: those aren't compared.

    Raises:
        ValueError: naming both teachers.
    """
    folders = score_folders(cfg)
    if not folders or not takes_export(cfg):
        return
    source = teacher_source(cfg)
    made_of = [read_header(folder)["made_of"] for folder in folders]
    own, given = identity(source), [str(one.get("teacher")) for one in made_of if one.get("kind", RANKER) == RANKER]
    if not given or any(is_content(teacher) != is_content(own) for teacher in given) or own in given:
        return
    who = f"{'another teacher' if len(given) == 1 else 'other teachers'} ({', '.join(given)})"
    raise ValueError(
        f"teacher.scores={' '.join(map(str, folders))} were given by {who} than the one that is named beside them, {source} "
        f"({own}). Name the teacher that scored (teacher.export), or score with this one: {called('train')} "
        f"+experiment=score_teacher teacher.export={source} run_name=<name>."
    )


def build_module(
    cfg: DictConfig, teacher: CrossEncoder, data: StreamDataModule, parents: dict[str, Any], asked: bool = True
) -> StageModule:
    """Build the stage's module around its network.

    Args:
        cfg: the run's config.
        teacher: see ``load_teacher``.
        data: open; its first batches are what a start and a projection are fitted on.
        parents: the run's parents, by role.
        asked: see ``DistillModule``.

    Raises:
        ValueError: if the student can't match its teacher, naming both sides and the fix.
    """
    optim = optim_settings(cfg.stage)
    if cfg.stage.learns == "teacher":
        return FinetuneModule(_with_dropout(teacher, cfg), build_losses(cfg, None), optim)
    size, shape, start = student_size(cfg.student), teacher.config, student_start(cfg, parents)
    layer_map = _layer_map(cfg, start, shape)
    check_start(start, size, shape, read_config(start.path) if start.path else None)
    if start.path:
        check_tokens(start.path, data.encoder.tokenizer)
    read = cfg.stage.steps * cfg.data.batch_size * (1 + cfg.data.negatives)  # no more than training itself
    batches = data.first_batches(min(FITTED_ON, read)) if start.kind == "subclone" else ()
    student = _with_dropout(build_student(size, start, teacher, layer_map.teacher.attention, cfg.seed, batches), cfg)
    if cfg.stage.teacher == "none":
        return FinetuneModule(student, build_losses(cfg, None), optim)
    losses = build_losses(cfg, _projection(cfg, size, shape))
    _check_match(size, shape, losses)  # again: a run may start from its folder's config
    module = DistillModule(student, losses, optim, None if reads_scores(cfg) else FrozenTeacher(teacher), layer_map, asked)
    module.fit_projection(data.first_batches(PROJECTED_ON))
    return module


def _check_match(size: StudentSize, shape: PretrainedConfig, losses: WeightedSum) -> None:
    """Refuse a student that can't match its teacher."""
    check_match(size, shape, losses.needs)
    for name, loss in losses.losses.items():
        if isinstance(loss, RelationLoss):
            with _placed(f"stage.losses.{name}.loss"):
                loss.require_fitting((size.hidden_size, size.heads), (shape.hidden_size, shape.num_attention_heads))


def _with_dropout(network: CrossEncoder, cfg: DictConfig) -> CrossEncoder:
    if cfg.stage.dropout is not None:
        set_dropout(network, cfg.stage.dropout)
    return network


def check_tokens(path: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a start whose tokens mean something else.

    Raises:
        ValueError: naming the start.
    """
    own, other = tokenizer.get_vocab(), load_tokenizer(path).get_vocab()
    if own != other:
        differ = len(own.items() ^ other.items())
        raise ValueError(
            f"{path}: its vocabulary isn't that of the network that the student learns from ({differ} entries differ). "
            "Start from a checkpoint with the same tokenizer; or learn from the other's scores (+experiment=score_teacher "
            "teacher.kind=cross_encoder, then teacher.scores), which need no common tokens."
        )
    layouts = PairLayout.of(tokenizer), PairLayout.of(load_tokenizer(path))
    if layouts[0][:3] != layouts[1][:3]:
        raise ValueError(
            f"{path}: its tokenizer puts {layouts[1].told(tokenizer)}, that of the network that the student learns from "
            f"{layouts[0].told(tokenizer)}. Start from a checkpoint with the same tokenizer."
        )


def _check_start_tokens(cfg: DictConfig, start: Start) -> None:
    """Compare the tokens of a start with those of the network learnt from, before any parent is trained."""
    if start.kind in ("export", "pretrained"):
        check_tokens(start.path, load_tokenizer(named_source(cfg)))
    elif start.kind == "experiment" and takes_export(cfg):  # that run's tokens will be those of teacher.path
        check_tokens(str(cfg.teacher.path), load_tokenizer(named_source(cfg)))


def _projection(cfg: DictConfig, size: StudentSize, shape: PretrainedConfig) -> Projection | None:
    """Bridge the widths where states are compared; an unused map would stop data-parallel training."""
    needs = build_losses(cfg, None).needs
    if not needs & {"hidden", "embedding"}:
        return None
    states, first = size.layers + 1 if "hidden" in needs else 1, 0 if "embedding" in needs else 1
    return Projection(cfg.stage.projection, size.hidden_size, shape.hidden_size, states, first)


def _layer_map(cfg: DictConfig, start: Start, shape: PretrainedConfig) -> LayerMap:
    """Pair the student's layers with those of the network that it is cut from, or whose layers its losses compare."""
    losses = build_losses(cfg, None)
    own = above = Layers()
    if start.kind in CUT or losses.needs & {"embedding", "hidden", "attention"}:
        named = plain(cfg.stage.layer_map)
        if asks_assistant(cfg):
            named = at_depth(named, read_config(named_source(cfg)).num_hidden_layers, shape.num_hidden_layers)
        own, above = map_layers(named, cfg.student.layers, shape.num_hidden_layers)
    for name, loss in losses.losses.items():
        if isinstance(loss, RelationLoss):
            layer = loss.teacher_layer or shape.num_hidden_layers
            if layer > shape.num_hidden_layers:
                raise ValueError(
                    f"stage.losses.{name}.loss.teacher_layer is {layer}; the teacher has {shape.num_hidden_layers} layers. "
                    "Name one of them, or null for the last."
                )
            own, above = own._replace(vectors=(cfg.student.layers - 1,)), above._replace(vectors=(layer - 1,))
    return LayerMap(own, above)
