"""A student of written scores: where its tokens come from, and whose scores they may be."""

import copy
import json
from pathlib import Path

import pytest
from support import MINILM, composed

from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.locate import identity
from rankdistil.stages import networks
from tests.stages.test_networks import TINY


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return load_tokenizer(MINILM)


@pytest.mark.parametrize("exported", [True, False])
def test_a_student_of_scores_takes_tokens_and_shape_from_the_export_where_one_is_named(
    tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path, exported: bool
) -> None:
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["anothertoken"])
    tiny_ranker.config.vocab_size = len(other)
    for name, tokens in (("path", tokenizer), ("export", other)):
        write_export(tmp_path / name, tiny_ranker, tokens, 38)
    named = [f"teacher.export={tmp_path}/export"] if exported else []
    cfg = composed("stage=logit_distill", *TINY, f"teacher.path={tmp_path}/path", "teacher.scores=scores", *named)
    source = networks.teacher_source(cfg)
    assert source == f"{tmp_path}/{'export' if exported else 'path'}"
    assert len(load_tokenizer(source)) == len(tokenizer) + exported


@pytest.fixture
def scored(tmp_path: Path):
    """Name folders of scores, each with what its header says of the teacher."""

    def scored(*teachers: str | None) -> str:
        folders = []
        for number, teacher in enumerate(teachers):
            folders.append(tmp_path / f"scores{number}")
            folders[-1].mkdir()
            made_of = {} if teacher is None else {"teacher": teacher}
            (folders[-1] / "scores.json").write_text(json.dumps({"made_of": made_of, "shards": {}}))
        return f"teacher.scores=[{','.join(map(str, folders))}]"

    return scored


def test_scores_of_another_teacher_than_the_one_named_beside_them_are_refused(
    tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path, scored
) -> None:
    folder = tmp_path / "runs/teacher/minilm/seed0/export"
    write_export(folder, tiny_ranker, tokenizer, 38)
    own, other = identity(str(folder)), "0" * 16

    def check(scores: str) -> None:
        networks.check_scores(composed("stage=logit_distill", *TINY, f"teacher.export={folder}", scores))

    refused = scored(other)
    with pytest.raises(ValueError) as caught:
        check(refused)
    assert str(caught.value) == (
        f"teacher.scores={tmp_path}/scores0 were given by another teacher ({other}) than the one that is named beside them, "
        f"{folder} ({own}). Name the teacher that scored (teacher.export), or score with this one: python train.py "
        f"+experiment=score_teacher teacher.export={folder} run_name=<name>."
    )


@pytest.mark.parametrize(
    "teachers", [["OWN"], ["OTHER", "OWN"], ["imported:trec:run.txt"], [None], ["some/hub"], ["OTHER", None]], ids=str
)
def test_scores_that_the_teacher_named_may_have_given_are_accepted(
    tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path, scored, teachers: list[str | None]
) -> None:
    write_export(tmp_path / "export", tiny_ranker, tokenizer, 38)
    names = {"OWN": identity(f"{tmp_path}/export"), "OTHER": "0" * 16}
    scores = scored(*(names.get(teacher, teacher) for teacher in teachers))
    networks.check_scores(composed("stage=logit_distill", *TINY, f"teacher.export={tmp_path}/export", scores))


def test_an_ensemble_without_the_teacher_named_beside_it_is_refused_with_all_members(
    tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path, scored
) -> None:
    write_export(tmp_path / "export", tiny_ranker, tokenizer, 38)
    cfg = composed("stage=logit_distill", *TINY, f"teacher.export={tmp_path}/export", scored("0" * 16, "1" * 16))
    message = (
        f"^teacher.scores={tmp_path}/scores0 {tmp_path}/scores1 were given by other teachers \\({'0' * 16}, {'1' * 16}\\) than"
    )
    with pytest.raises(ValueError, match=message):
        networks.check_scores(cfg)


def test_a_ranker_beside_scores_of_another_kind_of_teacher_gives_tokens_and_shape_alone(
    tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path, scored
) -> None:
    write_export(tmp_path / "export", tiny_ranker, tokenizer, 38)
    scores = scored("0" * 16)
    header = tmp_path / "scores0/scores.json"
    header.write_text(json.dumps({"made_of": {"teacher": "0" * 16, "kind": "causal_lm"}, "shards": {}}))
    networks.check_scores(composed("stage=logit_distill", *TINY, f"teacher.export={tmp_path}/export", scores))


def test_scores_with_no_teacher_named_beside_them_are_not_compared(scored) -> None:
    networks.check_scores(composed("stage=logit_distill", *TINY, scored("0" * 16)))


def test_a_language_model_named_as_export_is_refused_for_a_student_of_scores_too(
    tiny_ranker: CrossEncoder, tokenizer: object, tmp_path: Path
) -> None:
    tiny_ranker.config.vocab_size = len(tokenizer)
    write_export(tmp_path, tiny_ranker, tokenizer, 38, with_head=False)
    cfg = composed("stage=logit_distill", *TINY, "teacher.scores=scores", f"teacher.export={tmp_path}")
    with pytest.raises(ValueError, match="is a language model without a ranking head"):
        networks.load_teacher(cfg, {})
