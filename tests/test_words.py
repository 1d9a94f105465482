"""Words of a command line that Hydra alone can't read."""

import pytest
from support import CONF

from rankdistil.words import first_choice, keys_of, readable, several, unreadable


def read(*words: str, config: str = "train") -> list[str]:
    return readable(words, config, CONF)


def test_words_that_hydra_reads_stay_as_they_are() -> None:
    words = [
        "-m",
        "+experiment=smoke",
        "stage.lr=1e-4",
        "student=6l",
        "seed=0,1",
        "~stage.losses.logits",
        "hydra.sweeper.n_trials=20",
    ]
    words += ["+teacher.seed=1", "stage.lr=interval(1e-5,1e-3)", "hydra/launcher=ray", "data.root='a,b'", "--cfg", "job"]
    assert read(*words) == words


def test_a_key_that_begins_with_a_digit_becomes_a_dict_and_so_does_each_of_its_choices() -> None:
    assert read("sizes.6l.steps=5") == ["++sizes={6l: {steps: 5}}"]
    assert read("sizes.2l.layer_map=[2,6]") == ["++sizes={2l: {layer_map: [2,6]}}"]
    assert read("sizes.6l.steps=5,7") == ["++sizes={6l: {steps: 5}},{6l: {steps: 7}}"]


def test_sections_that_are_empty_take_keys() -> None:
    assert read("data.depth=100", "+data.test=x", "data=files", config="evaluate") == [
        "++data.depth=100",
        "++data.test=x",
        "data=files",
    ]
    assert read("data.columns={corpus: {id: docno}}") == ["++data.columns={corpus: {id: docno}}"]


@pytest.mark.parametrize("group", ["+experiment=a,b", "+experiment=glob(*_6l)", "scale=laptop,smoke"])
def test_beside_a_group_that_is_swept_a_key_waits_for_the_group_that_has_it(group: str) -> None:
    assert read("-m", group, "stage.lr=1e-4", "seed=0,1") == ["-m", group, "++stage.lr=1e-4", "seed=0,1"]
    assert read("-m", group, "stage.lr=1e-4,2e-4") == ["-m", group, "stage.lr=1e-4,2e-4"]  # set for each job alone


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("data.root=/data/東京", """'data.root="/data/東京"'"""),
        ("data.root=a b#c", """'data.root="a b#c"'"""),
        ("models=out/br[1]/seed0", """'models="out/br[1]/seed0"'"""),
        ("data.root=it's", """'data.root="it'"'"'s"'"""),
        ('data.root=a"b', """'data.root="a\\"b"'"""),
    ],
)
def test_a_value_that_needs_quotes_is_told_as_it_is_to_be_typed(word: str, typed: str) -> None:
    message = unreadable(word)
    assert message.startswith(f"{word} can't be read: a value with ")
    assert message.endswith(f" in it needs quotes, inside of those of the shell. Type: {typed}")


def test_other_words_that_cannot_be_read_say_what_they_lack() -> None:
    assert unreadable("smoke") == "'smoke' is no setting. Expected <key>=<value>."
    assert unreadable("a b=1") == "'a b=1' is no setting: 'a b' is no key. Expected <key>=<value>."
    assert unreadable("models=[a,b").startswith("models=[a,b can't be read: a bracket is not closed, or an item has signs that")


def test_a_comma_outside_of_a_sweep_has_three_meanings() -> None:
    assert several("data.root=/a,b") == (
        "data.root=/a,b names several values, and this is no sweep. For one text type 'data.root=\"/a,b\"', for a list "
        "'data.root=[/a,b]'; for a sweep add -m."
    )


def test_the_keys_of_a_word_are_those_inside_of_its_braces_too() -> None:
    assert keys_of("++data.columns={corpus:{id:docno,text: 'a b'}}") == ["data.columns.corpus.id", "data.columns.corpus.text"]
    assert (keys_of("stage.lr=${lr.teacher}"), keys_of("~stage.losses.logits")) == (["stage.lr"], [])


def test_the_first_of_several_choices_stands_for_them() -> None:
    assert (first_choice("+experiment=a,b"), first_choice("student=6l")) == ("+experiment=a", "student=6l")
