"""Ids by text: exact, and honest about texts that several ids share."""

from pathlib import Path

import pytest

from rankdistil.data.teacher_scores.formats import TextIds


def ids(folder: Path, content: str, name: str = "corpus.tsv") -> TextIds:
    (folder / name).write_text(content, encoding="utf-8")
    return TextIds(folder / name, "corpus")


def test_a_text_is_found_exactly_as_it_stands_in_the_file(tmp_path):
    found = ids(tmp_path, "a\tZürich is old.\nb\tBees make honey.\n")
    assert [found.of(text) for text in ("Bees make honey.", "Zürich is old.")] == ["b", "a"]
    for near in ("bees make honey.", "Bees make honey. ", "Bees  make honey."):
        with pytest.raises(ValueError, match="no text of corpus="):
            found.of(near)


def test_a_title_stands_in_front_of_its_text(tmp_path):
    found = ids(tmp_path, '{"_id": "a", "title": "Wings", "text": "They lift."}\n', "corpus.jsonl")
    assert found.of("Wings They lift.") == "a"


def test_an_unknown_text_is_named_with_its_first_80_characters(tmp_path):
    found = ids(tmp_path, "a\tone\n")
    with pytest.raises(ValueError) as caught:
        found.of("x" * 500)
    assert str(caught.value) == (f"no text of corpus={tmp_path}/corpus.tsv is '{'x' * 80}'. Do the files belong together?")


def test_without_a_file_the_key_that_names_one_is_said():
    with pytest.raises(ValueError) as caught:
        TextIds(None, "queries").of("what do bees make")
    assert str(caught.value) == (
        "'what do bees make' is a text, not an id. Name the file that gives texts their ids: queries=<file>."
    )


def test_the_first_of_several_ids_counts_once_and_only_if_asked_for(tmp_path):
    found = ids(tmp_path, "a\tone\nb\ttwo\nc\tone\nd\tthree\ne\tthree\nb\ttwo\n")
    assert [found.of(text) for text in ("one", "two", "one")] == ["a", "b", "a"]
    assert found.doubtful == 1
