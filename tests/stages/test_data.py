"""Parts: which splits, files and texts a config's keys open."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from commands import command
from omegaconf import DictConfig
from support import composed

from rankdistil.data.check.whole import Check
from rankdistil.data.collections.splits import Holdout
from rankdistil.stages import data as run_data
from tests.flow.test_check import FILES as FILES_OF_CATS

FILES = ["+experiment=ranker_distill_6l", "data=files", "data.root=/anywhere", "data.holdout=7"]


def holdouts(data: DictConfig) -> list[Holdout | None]:
    return [run_data.open_reader(data, split).holdout for split in ("train", "valid", "test")]


def test_text_is_that_of_the_training_collection_unless_another_is_named() -> None:
    cfg = composed("stage=lm_distill")
    assert run_data.open_passages(cfg.data).name == "rankdistil/almanac/train"
    cfg.data.passages = "beir/nfcorpus"
    assert run_data.open_passages(cfg.data).name == "beir/nfcorpus"


def test_what_has_no_split_of_its_own_is_held_out_of_the_training_queries() -> None:
    assert holdouts(composed(*FILES).data) == [Holdout(7, False), Holdout(7, True), None]
    assert holdouts(composed(*FILES, "data.test=null").data) == [Holdout(14, False), Holdout(7, True), Holdout(7, True, 7)]
    named = "data.valid=${data.train}"
    assert holdouts(composed(*FILES, named, "data.test=null").data) == [Holdout(7, False), None, Holdout(7, True)]
    assert holdouts(composed(*FILES, named).data) == [None, None, None]


@pytest.mark.parametrize(("missing", "what"), [("valid", "validate"), ("test", "test")])
def test_a_missing_split_and_nothing_held_out_names_both_keys(missing: str, what: str) -> None:
    others = ["data.valid=${data.train}"] if missing == "test" else []
    data = composed(*FILES, "data.holdout=0", f"data.{missing}=null", *others).data
    with pytest.raises(ValueError) as caught:
        run_data.open_reader(data, "train")
    assert str(caught.value) == f"data.{missing} is null and data.holdout is 0: set one of them, to {what} on."


def test_a_run_reads_of_each_id_only_what_it_uses() -> None:
    paper = composed("+experiment=ranker_distill_6l", "data=msmarco_passage")
    ranking = ["docs", "queries", "qrels", "scoreddocs"]
    tests = [f"msmarco-passage/trec-dl-{year}/judged" for year in (2019, 2020)]
    read = {name: kinds for name, (_, kinds) in run_data.wanted(paper, train=True).items()}
    assert read == {
        **dict.fromkeys(tests, ranking),
        "msmarco-passage/train/triples-small": ["docs", "queries", "docpairs"],
        "msmarco-passage/dev/small": ranking,
    }
    assert list(run_data.wanted(paper, train=False)) == tests
    text = composed("+experiment=lm_distill_6l", "data=msmarco_passage")
    assert {name: kinds for name, (_, kinds) in run_data.wanted(text, train=True).items()} == {
        "msmarco-passage/train/triples-small": ["docs"]
    }
    paper.data.candidates = "run.txt"
    assert run_data.wanted(paper, train=False)[tests[0]][1] == ranking[:3]


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Check]:
    for name, text in FILES_OF_CATS.items():
        (tmp_path / name).write_text(text)

    def checked(*words: str) -> Check:
        data = ["data=files", f"data.root={tmp_path}", "data.holdout=1", "data.train.triples=triples.train.tsv"]
        return run_data.check_data(composed("+experiment=smoke", *data, *words))

    return checked


def test_a_check_tells_what_re_ranking_can_gain_and_how_many_texts_are_cut(checked, tmp_path: Path) -> None:
    assert checked("data.max_length=11", "data.depth=11").facts == [
        "data.holdout: train has 1 queries, 1 of them with a passage of grade 1 or more.",
        "data.holdout: valid has 1 queries, 1 of them with a passage of grade 1 or more.",
        f"valid ({tmp_path.name}/queries.train.tsv (only 1 held-out queries)): the first 4 candidates (BM25) hold 100.0% of "
        "the relevant passages, at least one for 100.0% of the queries: best possible nDCG@10 1.0000 (1 queries).",
        f"test ({tmp_path.name}/queries.test.tsv): the first 11 candidates (BM25) hold 100.0% of the relevant passages, at "
        "least one for 100.0% of the queries: best possible nDCG@10 1.0000 (1 queries).",
        "corpus.tsv: 33.3% of 3 passages are cut beside a query of 4 tokens (the median) at data.max_length=11.",
        "queries.train.tsv: 0.0% of 2 queries are cut by a long passage at data.max_length=11.",
        "queries.test.tsv: 100.0% of 1 queries are cut by a long passage at data.max_length=11.",
    ]


def test_a_depth_that_the_measure_sees_all_of_is_told(checked) -> None:
    told = "{}={} is no more than the 10 passages that nDCG@10 looks at: none comes into view from further down. Set it higher."
    both = [f"valid: {told.format('data.valid_depth', 4)}", f"test: {told.format('data.depth', 10)}"]
    assert checked("data.depth=10").notes == both
    assert checked("data.depth=11", "data.valid_depth=11").notes == []


def test_a_check_that_found_problems_tells_no_gain(checked, tmp_path: Path) -> None:
    (tmp_path / "qrels.test.txt").write_text("3 0 nowhere 1\n")
    assert checked().facts == []


def test_texts_whose_tokenizer_is_elsewhere_are_not_tokenised(checked) -> None:
    assert checked("teacher.path=nobody/anywhere").facts[-1] == (
        "how many texts are cut is not told: the tokenizer of nobody/anywhere is not on this machine."
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("callbacks.inference_time=5", "callbacks.inference_time is 5; expected the section with its keys: queries, candid"),
        (
            "callbacks.inference_time={queries: 1}",  # in place of the section
            "callbacks.inference_time lacks candidates, throughput_pairs, ",
        ),
        ("+callbacks.inference_time.round=1", "Did you mean 'callbacks.inference_time.rounds'?"),
        ("callbacks.inference_time.rounds=0", "callbacks.inference_time.rounds is 0; expected a whole number of at least 1."),
    ],
)
def test_wrong_settings_of_the_timing_are_told(override: str, message: str) -> None:
    cfg = composed(
        "+experiment=smoke", *(["callbacks.inference_time=null"] if "{" in override else []), f"++{override.lstrip('+')}"
    )
    with pytest.raises(ValueError) as error:
        run_data.timing_settings(cfg)
    assert message in str(error.value)


def test_a_timing_that_is_null_is_none() -> None:
    assert run_data.timing_settings(composed("+experiment=smoke", "callbacks.inference_time=null")) is None


ONLINE = """
import json, pathlib, sys, time
import wandb
from support import composed
from rankdistil.stages.data import build_logger
from rankdistil.stages.train import finish_wandb
cfg = composed("+experiment=smoke", "logger=wandb")
began = time.monotonic()
logger = build_logger(cfg, pathlib.Path(sys.argv[1]))
waited = time.monotonic() - began
logger.log_metrics({"train/loss": 0.5}, 1)
logger.finalize("success")
finish_wandb()
pathlib.Path(sys.argv[1], "told.json").write_text(json.dumps([waited, logger.experiment.settings.sync_dir]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("key", ["0" * 40, ""])
@pytest.mark.fault("C14")
def test_without_a_network_or_a_key_w_and_b_is_written_offline(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("MODE", "online"),
        ("BASE_URL", "http://127.0.0.1:9"),
        ("API_KEY", key),
        ("CONFIG_DIR", str(tmp_path)),
    ):
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a user's own key would be
    done = command("-c", ONLINE, str(tmp_path))
    assert done.returncode == 0, done.stderr
    waited, place = json.loads((tmp_path / "told.json").read_text())
    assert waited < (16 if key else 0) + 30  # W&B's own wait, and the start of its process on a busy machine
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("wandb: offline, ")]
    assert told.startswith(f"wandb: offline, as its server can't be used ({'' if key else 'No API key configured. '}")
    assert told.endswith(f"). Later: wandb sync {place}")
    assert place.startswith(f"{tmp_path}/wandb/offline-run-")
    (log,) = Path(place).glob("*.wandb")
    assert b"train/loss" in log.read_bytes()
    assert not key or not [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


@pytest.mark.parametrize("given", [None, "60"])
@pytest.mark.fault("C14")
def test_w_and_b_is_asked_for_seconds_unless_the_user_gives_it_longer_and_then_goes_offline(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    @functools.wraps(wandb.init)
    def init(mode: str, **_: object) -> SimpleNamespace:
        asked.append((mode, os.environ["WANDB_INIT_TIMEOUT"]))
        if mode == "online":
            raise wandb.errors.CommError("no route to host\nConsider increasing the init_timeout setting")
        return SimpleNamespace(settings=SimpleNamespace(sync_dir="runs/x/wandb/offline-run-1"))

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", given or "")
    if given is None:
        monkeypatch.delenv("WANDB_INIT_TIMEOUT")
    run_data.build_logger(composed("+experiment=smoke", "logger=wandb"), tmp_path)
    seconds = given or str(run_data.WANDB_INIT_S)
    assert asked == [("online", seconds), ("offline", seconds)]
    assert capsys.readouterr().err == (
        "wandb: offline, as its server can't be used (no route to host). Later: wandb sync runs/x/wandb/offline-run-1\n"
    )
