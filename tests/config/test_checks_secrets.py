"""No file and no logger gets a secret: keys that name one are refused, and the environment stays a reference."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import composed

from rankdistil.config.checks import check, recorded, refuse_secrets
from rankdistil.config.schema import plain
from rankdistil.planning.plan import outcome_settings
from rankdistil.runs.record import prepare

SMOKE = "+experiment=smoke"
HIDDEN = "hunter2"


@pytest.mark.parametrize(
    "override",
    [
        "+logger.settings.api_key=x", "+logger.settings={a: [{WANDB_API_KEY: x}]}", "+logger.password=x", "+stage.token=x",
        "+logger.x.secret_key=x",
    ],
)  # fmt: skip
@pytest.mark.fault("G9")
def test_a_secret_is_refused_at_any_depth_without_being_repeated(override: str) -> None:
    cfg = composed(SMOKE, override.replace("=x", "=topsecret").replace(": x", ": topsecret"))
    with pytest.raises(
        ValueError, match=r"looks like a secret, and settings are written to files\. Use the environment"
    ) as caught:
        check(cfg)
    assert "topsecret" not in str(caught.value)


@pytest.mark.fault("G9")
def test_a_url_with_a_password_is_refused_without_being_repeated_and_the_environment_may_hold_one(monkeypatch) -> None:
    monkeypatch.setenv("STORE", "https://me:topsecret@host/collection")
    with pytest.raises(ValueError) as caught:
        check(composed(SMOKE, "data.store='https://me:topsecret@host/collection'"))
    assert str(caught.value) == (
        "data.store holds a URL with a password, and settings are written to files. Use the environment: "
        "data.store='${oc.env:NAME}'."
    )
    cfg = composed(SMOKE, "data.store='${oc.env:STORE}'")
    check(cfg)
    assert "topsecret" not in str(recorded(cfg))
    check(composed(SMOKE, "data.store='https://host:80/a@b'"))


def test_what_is_written_down_names_the_environment_and_tells_another_value_by_its_digest(monkeypatch) -> None:
    cfg = OmegaConf.create(
        {"a": "${oc.env:HIDDEN}", "b": ["x/${a}"], "n": "${oc.decode:${oc.env:STEPS}}", "c": "${n}", "d": "e"}
    )
    monkeypatch.setenv("HIDDEN", HIDDEN), monkeypatch.setenv("STEPS", "72")
    first = recorded(cfg)
    assert HIDDEN not in str(first)
    assert first["a"].startswith("${oc.env:HIDDEN} (")
    assert first["b"][0].startswith("x/${oc.env:HIDDEN} (")
    assert (first["n"], first["c"], first["d"]) == (72, 72, "e")  # numbers count as they are
    monkeypatch.setenv("HIDDEN", "hunter3")
    assert recorded(cfg)["a"] != first["a"]
    assert plain(cfg)["a"] == "hunter3"


@pytest.mark.fault("G9")
def test_no_file_that_a_run_begins_with_holds_a_value_of_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HIDDEN", HIDDEN)
    word = "data.name=${oc.env:HIDDEN}"
    cfg = composed("+experiment=finetune_6l", word)
    hydra = OmegaConf.create({"overrides": {"task": [word]}, "job": {"name": "${oc.env:HIDDEN}"}})
    prepare(tmp_path, cfg, outcome_settings(cfg, {}), {}, hydra)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"run.json", "config.yaml", "overrides.yaml", "hydra.yaml"}
    assert not [path for path in files if HIDDEN in path.read_text()]
    assert all("${oc.env:HIDDEN}" in path.read_text() for path in files)
    assert plain(OmegaConf.load(tmp_path / ".hydra/config.yaml").data.name) == HIDDEN  # a job's process resolves it again


def test_a_secret_among_the_variables_of_a_job_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^hydra\.job\.env_set\.WANDB_API_KEY looks like a secret"):
        refuse_secrets(OmegaConf.create({"WANDB_API_KEY": "x"}), "hydra.job.env_set")
