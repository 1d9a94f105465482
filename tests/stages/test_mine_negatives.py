"""Mined negatives: an encoder's against all products, a ranker's against its scores; stopped and resumed. In this process."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_teachers
from rich.console import Console
from support import MINILM, composed

from rankdistil.data.teacher_scores.folder import read_header
from rankdistil.inference.export_files import write_export
from rankdistil.metrics.ranking import read_run
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.planning.plan import outcome_settings
from rankdistil.runs.record import read_record, state
from rankdistil.stages import mine_negatives
from rankdistil.teachers import search
from rankdistil.teachers.scorers import ScorerSettings, TextScorer, open_scorer
from tests.data.conftest import FILES

CANDIDATES = {"1": "dae", "2": "bc", "3": "dc"}
RELEVANT = {"1": "a", "2": "b", "3": "c"}
TEXTS = {name: dict(line.split("\t") for line in FILES[f"{name}.tsv"].splitlines()) for name in ("queries", "corpus")}
SPLITS = "queries: queries.tsv, qrels: qrels.txt, candidates: run.txt"
Scores = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teachers.collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture
def mine(root: Path, tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Mine with a teacher into a folder; call it again to resume."""

    def mine(teacher: str, *more: str, name: str = "run") -> tuple[Path, str]:
        named = (
            [f"teacher.kind={teacher}", f"teacher.path={root}/tiny-{teacher}"] if teacher in tiny_teachers.MAKE else [teacher]
        )
        cfg = composed(
            "+experiment=mine_negatives", "scale=smoke", "data=files", f"data.root={root}", "data.corpus=corpus.tsv",
            *(f"data.{split}={{{SPLITS}}}" for split in ("train", "valid", "test")), *named, *more,
        )  # fmt: skip
        folder, said = tmp_path / name, io.StringIO()
        folder.mkdir(exist_ok=True)
        settings = outcome_settings(cfg, {})
        state(folder, settings)
        mine_negatives.run_mining(cfg, folder, settings, {}, Console(file=said, width=150))
        return folder, said.getvalue()

    return mine


@pytest.fixture
def scored(root: Path) -> Callable[[str], Scores]:
    """Score every pair of the collection with a teacher, as score_teacher does."""

    def scored(kind: str) -> Scores:
        scorer = open_scorer(ScorerSettings(kind, str(root / f"tiny-{kind}"), instruction=tiny_teachers.INSTRUCTION))
        pairs = [(query, passage) for query in TEXTS["queries"] for passage in TEXTS["corpus"]]
        texts = zip(*((TEXTS["queries"][query], TEXTS["corpus"][passage]) for query, passage in pairs), strict=True)
        found: Scores = {}
        for (query, passage), score in zip(pairs, scorer.score(*texts).tolist(), strict=True):
            found.setdefault(query, {})[passage] = score
        return found

    return scored


def among(scores: Scores, pools: dict[str, str] | None, margin: float | None = None) -> dict[str, list[str]]:
    """Order what may be a negative by hand."""
    found = {}
    for query, row in scores.items():
        lowest = min(row[key] for key in RELEVANT[query]) - (margin or 0)
        kept = [key for key in (pools[query] if pools else row) if key not in RELEVANT[query]]
        kept = [key for key in kept if margin is None or row[key] <= lowest]
        found[query] = sorted(kept, key=lambda key, row=row: (row[key], key), reverse=True)
    return {query: row for query, row in found.items() if row}


def ids(folder: Path) -> dict[str, list[str]]:
    return {query: [hit.passage_id for hit in row] for query, row in read_run(folder / "negatives.run").items()}


@pytest.mark.parametrize("kind", tiny_teachers.MAKE)
def test_encoders_search_the_collection_others_rank_candidates_again_and_the_order_is_that_of_their_scores(
    mine, scored, kind: str
) -> None:
    folder, said = mine(kind)
    scores, pools = scored(kind), None if kind in ("bi_encoder", "sparse") else CANDIDATES
    assert ids(folder) == among(scores, pools)
    for query, row in read_run(folder / "negatives.run").items():
        assert [hit.score for hit in row] == pytest.approx([scores[query][hit.passage_id] for hit in row], abs=1e-4)
    mined = read_record(folder)["mined"]
    assert (mined["queries"], mined["left_out_by_margin"]) == (3, 0)
    assert mined.get("passages" if pools is None else "candidates") == (5 if pools is None else 7)
    above = {q: sum(scores[q][key] > scores[q][RELEVANT[q]] for key in pools[q] if key != RELEVANT[q]) if pools else
             sum(score > scores[q][RELEVANT[q]] for score in scores[q].values()) for q in RELEVANT}  # fmt: skip
    assert mined["positive_in_top"] == {"1": sum(count < 1 for count in above.values()) / 3, "10": 1.0, "100": 1.0}
    assert f"+experiment=infonce_6l data.negatives_runs=[{folder}/negatives.run]" in said
    assert not (folder / "vectors").exists()


@pytest.mark.parametrize("kind", ["bi_encoder", "sparse", "cross_encoder"])
def test_a_margin_leaves_out_exactly_what_is_scored_above_the_positive_less_it(mine, scored, kind: str) -> None:
    """The margin lies in the middle between two gaps, so that rounding doesn't decide."""
    scores, pools = scored(kind), None if kind in ("bi_encoder", "sparse") else CANDIDATES
    gaps = sorted(
        scores[query][RELEVANT[query]] - scores[query][key] for query, row in among(scores, pools).items() for key in row
    )
    margin = float(np.mean(gaps[len(gaps) // 2 :][:2]))
    folder, said = mine(kind, f"data.negatives_margin={margin}")
    assert ids(folder) == among(scores, pools, margin)
    left_out = len(gaps) - sum(map(len, among(scores, pools, margin).values()))
    assert left_out == len(gaps) // 2 + 1
    assert read_record(folder)["mined"]["left_out_by_margin"] == left_out
    if len(ids(folder)) < 3:
        assert f"{3 - len(ids(folder))} of 3 queries have no negative that data.negatives_margin leaves" in said


def test_the_depth_is_that_of_what_the_margin_leaves(mine, scored) -> None:
    folder, _ = mine("bi_encoder", "stage.depth=1", "data.negatives_margin=0")
    assert ids(folder) == {query: row[:1] for query, row in among(scored("bi_encoder"), None, 0.0).items()}


def test_our_own_ranker_mines_among_the_candidates_and_leaves_its_scores(
    mine, tiny_ranker: CrossEncoder, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(MINILM)
    tiny_ranker.bert.resize_token_embeddings(len(tokenizer))
    write_export(tmp_path / "student", tiny_ranker, tokenizer, 38)
    folder, said = mine(f"teacher.export={tmp_path}/student", "data.max_length=27")
    assert {query: sorted(row) for query, row in ids(folder).items()} == {"1": ["d", "e"], "2": ["c"], "3": ["d"]}
    assert sum(read_header(folder / "scores")["shards"].values()) == 7
    assert f"teacher.scores={folder}/scores" in said


def test_a_positive_that_is_no_candidate_sets_the_line_and_stands_nowhere(mine, scored, tmp_path: Path) -> None:
    (tmp_path / "mined.run").write_text("1 Q0 e 1 2.0 x\n1 Q0 d 2 1.0 x\n2 Q0 a 1 1.0 x\n")
    folder, _ = mine("cross_encoder", f"data.negatives_runs=[{tmp_path}/mined.run]", "data.negatives_margin=0")
    assert ids(folder) == among(scored("cross_encoder"), {"1": "ed", "2": "a", "3": ""}, 0.0)
    assert read_record(folder)["mined"]["positive_in_top"] == {"1": 0.0, "10": 0.0, "100": 0.0}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mine_negatives, search):
        monkeypatch.setattr(module, "SHARD", 2)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("kind", ["bi_encoder", "sparse"])
def test_a_stopped_run_goes_on_with_the_shards_that_it_left(mine, monkeypatch, kind: str) -> None:
    whole, _ = mine(kind, name="whole")
    with monkeypatch.context() as patched:
        patched.setattr(mine_negatives, "pair_scores", _fail)
        with pytest.raises(RuntimeError, match="no memory left"):
            mine(kind)
    folder = whole.parent / "run"
    assert read_record(folder)["status"] == "failed"
    assert state(folder, read_record(folder)["settings"]).name == "to resume"
    assert [file.name for file in sorted((folder / "vectors/passages").iterdir())] == [f"part-0000{n}.npz" for n in range(3)]
    (folder / "vectors/passages/part-00001.npz").unlink()
    read: list[str] = []
    encode = TextScorer.encode
    monkeypatch.setattr(TextScorer, "encode", lambda self, side, texts: read.extend(texts) or encode(self, side, texts))
    mine(kind)
    assert read == [TEXTS["corpus"]["c"], TEXTS["corpus"]["d"]]
    assert (folder / "negatives.run").read_bytes() == (whole / "negatives.run").read_bytes()
    assert read_record(folder)["status"] == "finished"


def _fail(*_: object) -> None:
    raise RuntimeError("no memory left")


def test_shards_decide_nothing(mine, monkeypatch) -> None:
    one, _ = mine("sparse", name="one")
    for module in (mine_negatives, search):
        monkeypatch.setattr(module, "SHARD", 2)
    other, _ = mine("sparse", name="other")
    assert ids(one) == ids(other)


def test_a_vector_that_is_not_finite_names_its_passage(mine, monkeypatch) -> None:
    encode = TextScorer.encode

    def spoilt(self: TextScorer, side: str, texts: Any) -> Iterator[np.ndarray]:
        found = encode(self, side, texts)
        return [*found[:1], found[0] * np.nan, *found[2:]] if side == "passages" else found

    monkeypatch.setattr(TextScorer, "encode", spoilt)
    with pytest.raises(ValueError, match=r"^the teacher's vector of passage b isn't finite\. Take another checkpoint, or "):
        mine("bi_encoder")


def test_without_a_relevant_passage_there_is_nothing_to_mine_for(mine) -> None:
    with pytest.raises(ValueError) as caught:
        mine("bi_encoder", "data.relevance_level=3")
    assert str(caught.value) == (
        "no training query has a passage of grade 3 or more (data.relevance_level), so none can be trained on."
    )
    folder, said = mine("bi_encoder", "data.relevance_level=2")
    assert [*ids(folder)] == ["1"]
    assert "2 of 3 training queries have no relevant passage: none is mined for them." in said
