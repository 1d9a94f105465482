"""A trimmed vocabulary cuts the texts that it was made for as the whole one does, for every kind of tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import NAMES, TEXT, tiny, tokenizer_of

from rankdistil import Reranker
from rankdistil.data.encode import PairEncoder
from rankdistil.inference.export_files import write_export
from rankdistil.models.checkpoints import load_ranker, load_tokenizer
from rankdistil.models.vocabulary import seen_tokens, trim

LENGTH = 40
KEPT = [*TEXT[:3], "[SEP] bees?", " ".join(TEXT[:3])]  # what the smaller vocabulary is for
PAIRS = [(one, other) for one in KEPT for other in [*KEPT, ""]]
UNSEEN = "apples over stone bridges"


@pytest.fixture(scope="module", params=NAMES)
def exports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write the export of a ranker of each family, and a trimmed one beside it."""
    whole = tmp_path_factory.mktemp(request.param) / "export"
    smaller = whole.with_name("smaller")
    tokenizer = tokenizer_of(request.param)
    write_export(whole, tiny(request.param), tokenizer, LENGTH)
    smaller.mkdir()
    before, after = trim(whole, smaller, seen_tokens(PairEncoder(tokenizer, LENGTH), KEPT))
    words = [load_ranker(str(folder)).bert.get_input_embeddings().num_embeddings for folder in (whole, smaller)]
    assert words == [before, after]
    assert after < len(tokenizer) <= before
    return whole, smaller


def tokens(folder: Path, text: str) -> list[str]:
    tokenizer = load_tokenizer(str(folder))
    return tokenizer.convert_ids_to_tokens(PairEncoder(tokenizer, LENGTH).token_ids([text], 99)[0])


def test_texts_that_it_was_made_for_have_the_same_tokens_and_pairs_the_same_scores(exports):
    for text in KEPT:
        assert tokens(exports[0], text) == tokens(exports[1], text)
    whole, smaller = (Reranker(folder, device="cpu").score(PAIRS) for folder in exports)
    assert smaller == pytest.approx(whole, abs=1e-6)
    assert len(set(whole)) > len(PAIRS) / 2


def test_other_texts_fall_into_pieces_that_are_left_and_have_scores(exports):
    left = load_tokenizer(str(exports[1])).get_vocab()
    assert set(tokens(exports[1], UNSEEN)) <= left.keys()
    assert tokens(exports[1], UNSEEN) != tokens(exports[0], UNSEEN)
    assert "".join(tokens(exports[1], UNSEEN)).replace("#", "").count("s") == UNSEEN.count("s"), "letters are all kept"
    assert torch.tensor(Reranker(exports[1], device="cpu").score([(UNSEEN, KEPT[0])])).isfinite().all()


def test_it_scores_alike_in_sentence_transformers(exports):
    peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(exports[1]), device="cpu")
    pairs = [*PAIRS, (UNSEEN, KEPT[1])]
    torch.testing.assert_close(
        torch.tensor(peer.predict(pairs)), torch.tensor(Reranker(exports[1], device="cpu").score(pairs)), rtol=1e-5, atol=1e-4
    )


def test_special_tokens_keep_their_names_under_new_ids(exports):
    whole, smaller = (load_tokenizer(str(folder)) for folder in exports)
    assert smaller.special_tokens_map == whole.special_tokens_map
    config = json.loads((exports[1] / "config.json").read_text())
    assert config["vocab_size"] == len(smaller)
    assert config["pad_token_id"] == smaller.pad_token_id


def test_a_second_time_nothing_is_left_to_trim(exports, tmp_path):
    _, smaller = exports
    again = tmp_path / "again"
    again.mkdir()
    encoder = PairEncoder(load_tokenizer(str(smaller)), LENGTH)
    before, after = trim(smaller, again, seen_tokens(encoder, KEPT))
    assert before == after
    assert (again / "model.safetensors").read_bytes() == (smaller / "model.safetensors").read_bytes()


def test_a_tokenizer_in_other_files_is_refused_and_nothing_is_written(exports, tmp_path):
    source, target = tmp_path / "export", tmp_path / "smaller"
    shutil.copytree(exports[0], source)
    (source / "tokenizer.json").unlink()
    target.mkdir()
    with pytest.raises(FileNotFoundError) as error:
        trim(source, target, {5})
    assert str(error.value) == f"{source}/tokenizer.json is not there. Copy the checkpoint again."
    assert [*target.iterdir()] == []
