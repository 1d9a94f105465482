"""Damaged files end in what they hold or in the documented error: all that ever were a fault, and some fresh ones.

``python -m tests.fuzz`` reads a million.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import damage, inputs
from tests.fuzz.formats import CORPUS, FORMATS, FOUND
from tests.fuzz.inputs import ACCEPTED, FAULT, REFUSED, Bench, counts, in_memory, made

ONCE = [(form, valid, found) for form in FORMATS for valid, found in form.found()]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with in_memory() as folder:
        yield Bench(folder / "corpus")


@pytest.mark.parametrize(("form", "valid", "found"), ONCE, ids=[found.name for _, _, found in ONCE])
def test_what_was_a_fault_once_is_none(bench: Bench, form: inputs.Format, valid: Path, found: Path) -> None:
    outcome = bench.outcome(form, valid, found.read_bytes())
    assert outcome.kind != FAULT, outcome.told


@pytest.mark.parametrize("form", FORMATS, ids=[form.name for form in FORMATS])
def test_fresh_damage_is_no_fault_either(bench: Bench, form: inputs.Format) -> None:
    for number in range(10**9, 10**9 + max(20, form.share * 3)):
        each = made(form, 1, number)
        outcome = bench.outcome(form, each.valid, each.content)
        assert outcome.kind != FAULT, f"{each}: {outcome.told}"


def test_inputs_are_made_of_seed_and_number_alone_and_differ() -> None:
    for form in FORMATS:
        own = [made(form, 0, number).content for number in range(30)]
        assert own == [made(form, 0, number).content for number in range(30)]
        assert len({*own}) > 20
        assert own != [made(form, 1, number).content for number in range(30)]


def test_every_valid_file_is_in_one_format_and_all_that_was_found_has_its_valid_file() -> None:
    """Files that others need stand beside them."""
    valid = [path for form in FORMATS for path in form.valid()]
    assert len(valid) == len({*valid})
    found = {path for path in CORPUS.rglob("*") if path.is_file() and path.parent.name == FOUND}
    assert found == {path for _, _, path in ONCE}
    assert sum(counts(1_000_000).values()) == pytest.approx(1_000_000, rel=0.001)


def test_what_is_no_documented_error_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    told = inputs._of_error
    assert told(ValueError(f"{path}:1: 3 columns."), tmp_path).kind == REFUSED
    for error in (
        KeyError(str(path)), RuntimeError(str(path)), UnicodeDecodeError("utf-8", b"\xff", 0, 1, str(path)), MemoryError(),
        AssertionError(str(path)), ValueError("3 columns"), ValueError(f"{path}:" + 9999 * "x\n"),
        ValueError(f"{path}: DefaultCPUAllocator: can't allocate memory"),
    ):  # fmt: skip
        assert told(error, tmp_path).kind == FAULT, error


def test_a_reader_that_hangs_or_takes_memory_is_a_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    form = FORMATS[0]
    valid = form.valid()[0]
    monkeypatch.setattr(inputs, "SECONDS", 0.05)

    def hang(path: Path) -> None:
        while path:
            pass

    assert "not read in" in bench.outcome(form._replace(read=hang), valid, b"a\tone\n").told
    assert bench.outcome(form, valid, b"a\tone\n", memory=-1).told.startswith("took ")
    assert bench.outcome(form, valid, b"a\tone\n").kind == ACCEPTED


def test_structure_is_damaged_in_valid_json_and_headers() -> None:
    value, header = json.dumps({"a": [1, {"b": "c"}], "d": 2.5}).encode(), json.dumps({"w": {"shape": [2]}}).encode()
    changed = [damage.of_values(Random(number), value, value) for number in range(200)]
    assert sum(json.loads(each) != json.loads(value) for each in changed if len(each) < 1000) > 150
    whole = struct.pack("<Q", len(header)) + header + bytes(8)
    made_anew = [damage.of_safetensors(Random(number), whole, whole) for number in range(200)]
    fitting = [each for each in made_anew if len(each) > 8 and struct.unpack("<Q", each[:8])[0] == len(each) - 16]
    assert len(fitting) > 80
