"""A run's validation, read back: the scores that it left beside the candidates that they are of."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import composed, uneven_ranker

from rankdistil.data.records import Candidate
from rankdistil.inference.export_files import write_export
from rankdistil.metrics.ranking import read_run, write_run
from rankdistil.stages import test as stage_test
from rankdistil.stages.test import read_test, read_validation

SMOKE = "+experiment=smoke"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write a run on the embedded collection whose validation ranks all candidates the other way round."""
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(composed(SMOKE), tmp_path / ".hydra" / "config.yaml")
    write_export(tmp_path / "export", *uneven_ranker(1), 64)
    write_run(tmp_path / "valid.run", {}, "tag")
    opened: dict = {}
    with pytest.raises(ValueError, match=r"valid\.run has other candidates than rankdistil/almanac/valid has now\. Train"):
        read_validation(tmp_path, opened)
    (data,) = opened.values()
    for split in ("valid", "test"):
        turned = {
            query: [Candidate(hit.passage_id, -hit.score) for hit in row] for query, row in data.task(split).candidates.items()
        }
        write_run(tmp_path / f"{split}.run", turned, "tag")
    return tmp_path


def test_scores_stand_beside_the_first_stage_s_and_runs_with_the_same_data_share_it(run: Path) -> None:
    opened: dict = {}
    found, data = read_validation(run, opened)
    cfg = composed(SMOKE, "data.negatives=3", "data.batch_size=16")
    OmegaConf.save(cfg, run / ".hydra" / "config.yaml")
    again, same = read_validation(run, opened)
    assert again == found
    assert same is data
    assert found.own == read_run(run / "valid.run")
    assert {query: {hit.passage_id: -hit.score for hit in row} for query, row in found.own.items()} == {
        query: {hit.passage_id: hit.score for hit in row} for query, row in found.first.items()
    }
    assert (found.level, set(found.topics)) == (cfg.data.relevance_level, set(found.qrels))


def test_other_candidates_are_other_data(run: Path) -> None:
    opened: dict = {}
    read_validation(run, opened)
    OmegaConf.save(composed(SMOKE, "data.valid_depth=3"), run / ".hydra" / "config.yaml")
    with pytest.raises(ValueError, match="has other candidates"):
        read_validation(run, opened)
    assert [json.loads(key)["valid_depth"] for key in opened][1:] == [3]


def test_a_test_is_read_if_it_is_of_the_candidates_of_today(run: Path) -> None:
    _, data = read_validation(run, {})
    assert read_test(run, data).first == data.task("test").candidates
    write_run(run / "test.run", {}, "tag")
    assert read_test(run, data) is None
    (run / "test.run").unlink()
    assert read_test(run, data) is None


def test_a_collection_that_is_not_here_is_named_and_not_fetched(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_test, "missing", lambda dataset, kinds: ["docs"])
    with pytest.raises(FileNotFoundError) as caught:
        read_validation(run, {})
    name = "rankdistil/almanac/valid"
    assert str(caught.value) == f"{name} is not on this machine. Fetch it: python -m rankdistil.data.fetch {name}"
