"""What train.py does with its config before it plans."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from support import MINILM, composed

from rankdistil.commands.train import _pin, _require_begun
from rankdistil.models.locate import locate
from rankdistil.runs.record import State

COMMIT = "0" * 39 + "1"


@pytest.mark.parametrize("key", ["teacher.path", "teacher.export", "student.init_from"])
def test_a_checkpoint_of_the_hub_is_named_by_its_revision_before_anything_reads_it(hub, key: str) -> None:
    hub("some/model", COMMIT, locate(MINILM))
    kind = "pretrained:" if key == "student.init_from" else ""
    cfg = composed("+experiment=ranker_distill_6l", f"{key}={kind}some/model", "plan=show")
    _pin(cfg)
    section, name = key.split(".")
    assert cfg[section][name] == f"{kind}some/model@{COMMIT}"


def test_what_lies_in_folders_is_named_as_it_was() -> None:
    cfg = composed("+experiment=ranker_distill_6l", "plan=show")
    _pin(cfg)
    assert (cfg.teacher.path, cfg.teacher.export, cfg.student.init_from) == (MINILM, None, "subclone")


def test_a_plan_fetches_nothing_and_a_run_what_is_missing(hub) -> None:
    missing = ["+experiment=ranker_distill_6l", "teacher.export=no/such-model"]
    _pin(composed(*missing, "plan=show"))
    cfg = composed(*missing)
    with pytest.raises(ConnectionError, match=r"^the checkpoint no/such-model is not on this machine"):
        _pin(cfg)


def test_a_queued_again_job_begins_where_it_was_stopped_before_there_was_anything_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.RUN))
    cfg = SimpleNamespace(resume=True)
    step = SimpleNamespace(cfg=cfg, folder=tmp_path / "seed0", state=State("to run", "no run yet"))
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    with pytest.raises(ValueError, match="nothing to resume in"):
        _require_begun([step])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    _require_begun([step])
