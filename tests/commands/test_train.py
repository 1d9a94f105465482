"""What train.py does with its config before it plans."""

import pytest
from support import MINILM, composed

from rankdistil.commands.train import _pin
from rankdistil.models.locate import locate

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
