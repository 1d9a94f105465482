"""What may be an id, wherever it is read from."""

import re

import pytest

from rankdistil.data.files.layout import id_fault, id_of, is_id

ODD = " \t\n\r\x00\x0b\x0c\x1c\x7f\x85\xa0\u1680\u2003\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
RULE = "in it: an id has neither white space nor control characters."


@pytest.mark.parametrize("letter", ODD, ids=ascii)
def test_nothing_invisible_can_stand_in_an_id(letter: str) -> None:
    assert not any(is_id(text) for text in (f"{letter}d1", f"d{letter}1", f"d1{letter}", letter))


LETTERS = ["d1", "-7", "<dbpedia:Zürich_(city)>", "東京", "\u0645\u06cc\u200c\u062e\u0648", "a\u0301", "_", "\U0001f41d", '"q"']


@pytest.mark.parametrize("text", LETTERS, ids=ascii)
def test_letters_of_any_script_can(text: str) -> None:
    assert is_id(text)
    assert text.split() == [text]


def test_whatever_a_run_file_is_cut_at_is_no_id() -> None:
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    assert not any(is_id(f"d{letter}1") for letter in spaces)


def test_the_letter_is_named_as_it_cannot_be_seen() -> None:
    assert id_fault("d\xa01", "passage_id") == f"passage_id is 'd\\xa01', with U+00A0 (no-break space) {RULE}"
    assert id_fault("d\x851", "id") == f"id is 'd\\x851', with U+0085 (control character) {RULE}"
    assert id_fault("", "id") == id_fault(" \u3000", "id") == "empty id"


def test_a_value_of_json_is_held_to_the_same() -> None:
    assert (id_of("d1", "_id"), id_of(7, "_id")) == ("d1", "7")
    message = re.escape(f"_id is 'd\\n1', with U+000A (control character) {RULE}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        id_of("d\n1", "_id")
