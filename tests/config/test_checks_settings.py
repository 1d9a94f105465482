"""Wrong settings are answered by one message before anything is read."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support import CONF, MINILM, composed

from rankdistil.config.checks import bind, build, check, check_evaluation, check_start
from rankdistil.inference import machine
from rankdistil.stages import data as run_data
from rankdistil.stages import networks

SMOKE = "+experiment=smoke"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.max_epochz=3", "there is no setting 'trainer.max_epochz'. Did you mean 'trainer.max_epochs'?"),
        ("+trainer.max_epochs=3", "trainer.max_epochs has no effect here. Set stage.steps."),
        ("+trainer.gradient_clip_val=0.1", "trainer.gradient_clip_val has no effect here. Set stage.gradient_clip."),
        ("+trainer.limit_val_batches=1", "there is no setting 'trainer.limit_val_batches'."),
        ("+trainer.strategy=fsdp", "trainer.strategy is 'fsdp'; expected one of auto, ddp. FSDP and the like shard"),
        ("callbacks.gradient_shares=null", "callbacks.gradient_shares is null; expected the section with its keys: every. "),
        ("+callbacks.gradient_shares.evry=1", "Did you mean 'callbacks.gradient_shares.every'?"),
        ("+callbacks.checkpoint={monitor: val/nDCG@10x}", "there is no setting 'callbacks.checkpoint'. callbacks has: "),
        ("+callbacks.foo=1", "there is no setting 'callbacks.foo'. callbacks has: inference_time, gradient_shares."),
        ("+steps.rankr_distill=7", "there is no setting 'steps.rankr_distill'. Did you mean 'steps.ranker_distill'?"),
        ("+lr.teachr=7", "there is no setting 'lr.teachr'. Did you mean 'lr.teacher'?"),
        (
            "student.drop_losses=[atention]",
            "student.drop_losses names 'atention'; the losses are embedding, hidden, attention, ",
        ),
        ("stage.validations=0", "stage.validations is 0; expected a whole number of at least 1."),
        ("stage.validations=many", "stage.validations is 'many'; expected a whole number of at least 1."),
        ("+stage.lrr=1", "there is no setting 'stage.lrr'. Did you mean 'stage.lr'?"),
        ("+data.dept=1", "there is no setting 'data.dept'. Did you mean 'data.depth'?"),
        ("+stage.losses.logits.loss.temprature=2", "Did you mean 'stage.losses.logits.loss.temperature'?"),
        ("+logger.api_key=x", "logger.api_key looks like a secret, and settings are written to files. Use the environment."),
        ("data.windows={stride: 0, most: 2}", "data.windows.stride is 0; expected a whole number of at least 1."),
        ("data.windows=3", "data.windows is 3; expected null, or a mapping with stride and most (size, aggregate, top)."),
        ("run_name=..", "run_name is '..'; expected a name of 1 to 64 letters"),
        ("run_name=a/b", "run_name is 'a/b'; expected a name"),
        ("run_name=../../x", "run_name is '../../x'; expected a name"),
        ("run_name=/tmp/x", "run_name is '/tmp/x'; expected a name"),
        ("plan=maybe", "plan is 'maybe'; expected one of run, show, check."),
        ("seed=-1", "seed is -1; expected a whole number of at least 0 and at most 4294967295."),
        ("resume=perhaps", "resume is 'perhaps'; expected true or false."),
        ("teacher.seed=1.5", "teacher.seed is 1.5; expected a whole number of at least 0 and at most 4294967295."),
        ("follows_run=../other", "follows_run is '../other'; expected a name of 1 to 64 letters"),
        ("teacher.assistant=a/b", "teacher.assistant is 'a/b'; expected a name of 1 to 64 letters"),
        ("teacher.assistant_size=''", "teacher.assistant_size is ''; expected a name of 1 to 64 letters"),
        ("teacher.assistant_run=null", "teacher.assistant_run is None; expected a name of 1 to 64 letters"),
        ("teacher.kind=llm", "teacher.kind is 'llm'; expected one of ranker, cross_encoder, bi_encoder, sparse, causal_lm."),
        ("teacher.dtype=float16", "teacher.dtype is 'float16'; expected one of auto, float32, bfloat16."),
        ("teacher.max_length=0", "teacher.max_length is 0; expected a whole number of at least 1."),
        ("teacher.answers=[yes]", "teacher.answers is ['yes']; expected two words, for relevant and not relevant."),
        ("teacher.template='Is it?'", "teacher.template is 'Is it?'; expected a text with {query} and {document}, once each, "),
        ("teacher.query_prompt=3", "teacher.query_prompt is 3; expected a text or null."),
        ("teacher.score_test=2", "teacher.score_test is 2; expected true or false."),
        ("teacher.scores=[]", "teacher.scores is []; expected a folder of scores, a list of at least one, or null."),
        ("teacher.scores=[a,3]", "teacher.scores is ['a', 3]; expected a folder of scores, a list of at least one, or null."),
        ("+stage.depth=0", "stage.depth is 0; expected a whole number of at least 1."),
        ("data.negatives_runs=[a.run,3]", "data.negatives_runs[1] is 3; expected the name of a file or folder, or null."),
        ("stage.reads=books", "stage.reads is 'books'; expected one of triples, passages."),
        ("stage.teacher=none_at_all", "stage.teacher is 'none_at_all'; expected one of none, ranker, language_model."),
        ("+student.init_form=random", "there is no setting 'student.init_form'. Did you mean 'student.init_from'?"),
        ("+data.passage=x", "there is no setting 'data.passage'. Did you mean 'data.passages'?"),
        ("+paths.run=x", "there is no setting 'paths.run'. Did you mean 'paths.runs'?"),
        ("+recipe.relativ=x", "there is no setting 'recipe.relativ'. Did you mean 'recipe.relative'?"),
        ("+recipe.weights.logit=1", "there is no setting 'recipe.weights.logit'. Did you mean 'recipe.weights.logits'?"),
        ("+sizes={6l: {step: 5}}", "there is no setting 'sizes.6l.step'. Did you mean 'sizes.6l.steps'?"),
        ("+sizes={7l: {steps: 5}}", "there is no setting 'sizes.7l'. Did you mean 'sizes.6l'?"),
        ("+resum=true", "there is no setting 'resum'. Did you mean 'resume'?"),
        ("lr=1e-4", "lr is 0.0001; expected the section with its keys: teacher, lm_distill, "),
        ("steps=5", "steps is 5; expected the section with its keys: teacher, lm_distill, "),
        ("recipe=x", "recipe is 'x'; expected the section with its keys: relative, attention, logits, weights. "),
        ("stage.losses=null", "stage.losses is null; expected the section with its keys: "),
        ("stage.losses.logits=null", "stage.losses.logits is null; expected the section with its keys: weight, loss. "),
        ("stage.losses.logits.loss=null", "stage.losses.logits.loss is None; expected the section with its _target_ and keys."),
        ("student.drop_losses=5", "student.drop_losses is 5; expected a list of losses: "),
        ("run_name=null", "run_name is None; expected a name of 1 to 64 letters"),
        (f"run_name={'x' * 300}", "expected a name of 1 to 64 letters"),
        (
            "teacher.run=../../x",
            "teacher.run is '../../x'; expected a folder below the one of paths: each part of it a name of 1 ",
        ),
    ],
)
@pytest.mark.fault("A1", "A2", "A11", "G7")
def test_a_wrong_setting_gets_one_message(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(composed(SMOKE, override))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "a\n", "ä", " a", ".hidden"])
@pytest.mark.fault("G7")
def test_a_name_that_no_command_line_can_hold_is_refused_too(name: str) -> None:
    cfg = composed(SMOKE)
    cfg.run_name = name  # as another program hands it over
    with pytest.raises(ValueError) as caught:
        check(cfg)
    assert str(caught.value).startswith(f"run_name is {name!r}; expected a name of 1 to 64 letters, digits or any of . _ + - ")


@pytest.mark.parametrize("word", ["data.negatives_margin=1", "data.negatives_scores=runs/scores"])
def test_a_margin_needs_scores_and_scores_a_margin_but_a_miner_has_its_own(word: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(composed(SMOKE, word))
    message = "data.negatives_margin and data.negatives_scores belong together: set both, or neither."
    assert str(caught.value) == message
    check(composed("+experiment=mine_negatives", "data.negatives_margin=1"))


@pytest.mark.parametrize("key", ["scores", "export"])
def test_what_stands_for_the_teacher_s_own_run_is_refused_beside_an_assistant(key: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(composed("+experiment=assistant_2l", f"teacher.{key}=a/b"))
    assert str(caught.value) == (
        f"teacher.{key}=a/b stands beside teacher.assistant=ranker_distill_6l, which the teacher's own run teaches, and which "
        "alone teaches the student. Leave one of them out; or train the assistant from it first (python train.py +experiment="
        f"ranker_distill_6l student=4l teacher.{key}=<the same>), and name its run: teacher.assistant=null "
        "teacher.export=<run>/export."
    )


def test_a_teacher_that_only_gives_scores_has_no_assistant() -> None:
    cfg = composed("+experiment=assistant_2l", "teacher.kind=bi_encoder", "teacher.path=a/b")
    check(cfg)
    with pytest.raises(ValueError, match=r"^teacher\.kind=bi_encoder gives scores, no layers, and stage ranker_distill needs "):
        networks.check_kind(cfg)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+data.train.querys=x", "there is no setting 'data.train.querys'. Did you mean 'data.train.queries'?"),
        ("+data.more_tests=[{qrel: x}]", "there is no setting 'data.more_tests[0].qrel'. Did you mean "),
        ("data.train.qrels=5", "data.train.qrels is 5; expected the name of a file or folder, or null."),
        ("data.corpus=5", "data.corpus is 5; expected the name of a file or folder, or null."),
        ("++data.columns={corpuss: {id: 1}}", "data.columns.corpuss is no kind of file; expected one of corpus, queries, "),
        ("data.columns.corpus.id=0", "data.columns.corpus.id is 0; expected a column's number, from 1, or name."),
        ("+data.train.shares_queries=true", "there is no setting 'data.train.shares_queries'."),
    ],
)
def test_a_wrong_file_of_a_split_gets_one_message(override: str, message: str) -> None:
    override = override if "more_tests" not in override else override.lstrip("+")
    with pytest.raises(ValueError) as caught:
        check(composed(SMOKE, "data=files", "data.root=x", override))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("trainer.devices=auto", "auto"), ("trainer.devices=-1", -1), ("trainer.devices=[0,1]", [0, 1]),
        ("+trainer.deterministic=warn", "warn"), ("trainer.precision=32", 32),
    ],
)  # fmt: skip
def test_what_lightning_takes_is_taken(override: str, value: object) -> None:
    cfg = composed(SMOKE, override)
    check(cfg)
    assert OmegaConf.select(cfg, override.lstrip("+").partition("=")[0]) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+rescor=true", "there is no setting 'rescor'. Did you mean 'rescore'?"),
        ("+against.teachr=x", "there is no setting 'against.teachr'. Did you mean 'against.teacher'?"),
        ("+paths.runs=x", "there is no setting 'paths.runs'. Did you mean 'paths.evaluations'?"),
        ("+trainer.device=2", "there is no setting 'trainer.device'. Did you mean 'trainer.devices'?"),
        ("models=null", "models is None; expected a run, export, hub id, TREC run file or glob, or a list."),
        ("models=[a,3]", "models is ['a', 3]; expected a run, "),
        ("models=[]", "models is []; expected a run, "),
        ("rescore=maybe", "rescore is 'maybe'; expected true or false."),
        ("seed=-1", "seed is -1; expected a whole number of at least 0 and at most 4294967295."),
        ("folder=../x", "folder is '../x'; expected a folder below"),
        ("+logger={settings: {api_key: x}}", "logger.settings.api_key looks like a secret"),
    ],
)
def test_a_wrong_setting_of_an_evaluation_gets_one_message(override: str, message: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", overrides=["models=x", "folder=now", override])
    with pytest.raises(ValueError) as caught:
        check_evaluation(cfg)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage.lr=true", "stage.lr is True; expected a number greater than 0."),
        ("stage.lr=nan", "stage.lr is nan; expected a number greater than 0."),
        ("stage.gradient_clip=abc", "stage.gradient_clip is 'abc'; expected a number greater than 0."),
        ("stage.steps=true", "stage.steps is True; expected a whole number of at least 1."),
        (
            "stage.dropout=[1]",
            "stage.dropout is [1]; expected a number in [0, 1), or null for that of the network's config.",
        ),
        ("stage.warmup_share=abc", "stage.warmup_share is 'abc'; expected a number in [0, 1)."),
        ("stage.lr=-1", "stage.lr is -1; expected a number greater than 0."),
        ("stage.lr=abc", "stage.lr is 'abc'; expected a number greater than 0."),
        ("stage.lr=", "stage.lr is ''; expected a number greater than 0."),
        ("stage.steps=0", "stage.steps is 0; expected a whole number of at least 1."),
        ("stage.weight_decay=1.5", "stage.weight_decay is 1.5; expected a number in [0, 1)."),
        ("stage.warmup_share=2", "stage.warmup_share is 2; expected a number in [0, 1)."),
    ],
)
@pytest.mark.fault("A4")
def test_an_optimiser_setting_out_of_range_names_key_and_range(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        networks.optim_settings(composed(SMOKE, override).stage)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage.losses.logits.weight=-1", "stage.losses.logits.weight is -1; expected a number of at least 0."),
        (
            "stage.losses.logits.loss.temperature=0",
            "stage.losses.logits.loss.temperature is 0; expected a number greater than 0.",
        ),
        ("stage.losses.logits.weight=much", "stage.losses.logits.weight is 'much'; expected a number of at least 0."),
    ],
)
@pytest.mark.fault("A4")
def test_a_loss_setting_out_of_range_names_key_and_range(override: str, message: str) -> None:
    with pytest.raises(Exception) as caught:
        networks.build_losses(composed(SMOKE, override), None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.heads=6", "student 2l has student.heads=6, its teacher 12. Set student.heads=12"),
        (
            "student.hidden_size=100",
            "student.hidden_size=100 is not a multiple of student.heads=12. Set student.hidden_size to 96 or 108.",
        ),
        ("student.layers=7", "the student has 7 layers and its teacher 6"),
        ("student.init_from=wiki", "student.init_from is 'wiki'; expected one of random, teacher_layers, subclone, export:"),
        ("student.init_from=teacher_layers", "of width 384 with 12 heads and feed-forward width 1536; student 2l has"),
        (f"student.init_from=pretrained:{MINILM}", "is a network of width 384 with 12 heads"),
        ("stage.projection=none", "student.hidden_size=96, teacher 384. Set stage.projection=auto."),
    ],
)
@pytest.mark.fault("A7")
def test_a_student_that_cannot_match_its_teacher_says_which_and_what_to_do(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        networks.check_student(composed(SMOKE, "recipe.weights.attention=1", override))
    assert message in str(caught.value)


@pytest.mark.fault("A8")
def test_a_start_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at 'no/such/folder'"):
        networks.check_student(composed(SMOKE, "student.init_from=export:no/such/folder"))


def test_a_subclone_wider_than_its_source_is_refused_before_anything_is_trained() -> None:
    cfg = composed(SMOKE, "student.init_from=subclone", "student.hidden_size=396")
    with pytest.raises(ValueError, match=r"student\.hidden_size is 396, the network has 384\. Set it to 384 or less"):
        networks.check_student(cfg)


@pytest.mark.fault("A6")
def test_uniform_layers_that_do_not_divide_list_the_possible_depths() -> None:
    cfg = composed(SMOKE, "student=4l", "student.layer_map=uniform")
    with pytest.raises(ValueError, match=r"Set student\.layers to one of 1, 2, 3, 6, or student\.layer_map=spread\."):
        networks.check_student(cfg)


RUN_CODE = (  # or write a file: importable, and not on Hydra's own list of what it refuses
    "torch.utils.collect_env.run", "setuptools._distutils.spawn.spawn", "distutils.spawn.spawn", "sympy.sympify",
    "sympy.parsing.sympy_parser.parse_expr", "torch._inductor.codecache.PyCodeCache.load", "torch.load", "joblib.load",
    "numpy.load", "torch.hub.load", "builtins.open", "shutil.copyfile", "os.mknod", "os.makedirs", "pathlib.Path.touch",
    "torch.save", "setuptools._distutils.file_util.write_file", "lightning.fabric.utilities.cloud_io._atomic_save",
)  # fmt: skip


@pytest.mark.parametrize("target", [*RUN_CODE, "os.system", "rankdistil.losses.os.system", "lightning.pytorch.Trainer"])
@pytest.mark.fault("G5")
def test_a_target_outside_of_the_allowed_ones_is_never_followed(target: str) -> None:
    node = OmegaConf.create({"_target_": target, "command": "true"})
    with pytest.raises(ValueError, match=r"expected rankdistil\.losses\.<Loss>"):
        build(node, "stage.losses.x.loss")


@pytest.mark.parametrize(
    "inner", [{"_target_": "os.mkdir", "path": "PATH"}, [{"deep": {"_target_": "os.mkdir", "path": "PATH"}}]]
)
@pytest.mark.fault("G5")
def test_a_target_inside_of_another_is_refused_and_never_followed(tmp_path: Path, inner: object) -> None:
    text = json.dumps(inner).replace("PATH", str(tmp_path / "made"))
    node = OmegaConf.create({"_target_": "rankdistil.losses.LogitLoss", "temperature": json.loads(text)})
    with pytest.raises(ValueError) as caught:
        build(node, "stage.losses.logits.loss")
    message = "stage.losses.logits.loss.temperature holds a _target_; only stage.losses.logits.loss itself may name one."
    assert str(caught.value) == message
    assert not (tmp_path / "made").exists()


def test_a_loss_that_does_not_exist_is_named() -> None:
    node = OmegaConf.create({"_target_": "rankdistil.losses.NoLoss"})
    with pytest.raises(ValueError, match=r"'rankdistil\.losses\.NoLoss', which doesn't exist"):
        bind(node, "stage.losses.x.loss")


def test_a_logger_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_data, "build", lambda *_, **__: (_ for _ in ()).throw(ModuleNotFoundError("No module named 'x'")))
    with pytest.raises(ValueError, match=r"logger=tensorboard needs .* pip install -e '\.\[tensorboard\]'"):
        run_data.build_logger(composed(SMOKE, "logger=tensorboard"), tmp_path)


def test_half_precision_without_a_scaler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^trainer\.precision=16 needs a loss scaler; use bf16-mixed"):
        run_data.trainer_arguments(composed(SMOKE, "trainer.precision=16-mixed"))


def test_automatic_precision_is_decided_before_lightning_sees_it() -> None:
    assert run_data.trainer_arguments(composed(SMOKE))["precision"] in {"bf16-mixed", "32-true"}


def test_mixed_precision_on_a_processor_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed(SMOKE, "trainer.precision=bf16-mixed")
    monkeypatch.setattr(machine, "computes_bfloat16", lambda *_: True)
    assert run_data.trainer_arguments(cfg)["precision"] == "bf16-mixed"
    monkeypatch.setattr(machine, "computes_bfloat16", lambda *_: False)
    with pytest.raises(ValueError) as caught:
        run_data.trainer_arguments(cfg)
    assert str(caught.value) == (
        "trainer.precision=bf16-mixed needs a processor with bfloat16 (AVX512_BF16, AMX or ARM's BF16), and this one has none "
        "or is held back: emulated, it takes 6.7 times as long as float32. Use trainer.precision=auto."
    )


@pytest.mark.parametrize("wrong", ["0", "-1", "soon", "true", "1e9", ".nan"])
def test_a_timeout_that_bounds_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^trainer\.timeout is .+; expected seconds, more than 0 and at most 604800: so long"):
        check_start(composed(SMOKE, f"+trainer.timeout={wrong}"))


def test_processes_wait_for_half_an_hour_unless_told_otherwise() -> None:
    assert run_data.trainer_arguments(composed(SMOKE))["timeout"] == 1800
    assert run_data.trainer_arguments(composed(SMOKE, "+trainer.timeout=60"))["timeout"] == 60


def test_windows_beside_scores_of_whole_documents_are_refused() -> None:
    windows = "data.windows={stride: 64, most: 4}"
    with pytest.raises(ValueError) as refused:
        check(composed(SMOKE, windows, "teacher.scores=some/scores"))
    assert str(refused.value).startswith(
        "data.windows stands beside teacher.scores=some/scores, which holds one score of a whole document, and training "
        "compares a window of it. Learn from the teacher itself (teacher.scores=null); or train with data.windows=null, and "
    )
    with pytest.raises(ValueError) as refused:
        check(composed("+experiment=score_teacher", "scale=smoke", windows))
    assert str(refused.value) == (
        "data.windows has no effect in stage score_teacher, which writes down one score or rank of a whole document. Set "
        "data.windows=null."
    )
    check(composed("+experiment=lm_ranker_distill_6l", "scale=smoke", windows))
