"""Plain and compressed text files: what is accepted, and that every complaint names file and line."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rankdistil.data.files import bad_lines
from rankdistil.data.files import lines as file_lines
from rankdistil.data.files.lines import kind_of, raw_lines

TRIPLES = partial(file_lines.fields, separator="\t", names=("query_id", "positive_id", "negative_id"))
QRELS = partial(file_lines.fields, separator=None, names=("query_id", "0", "passage_id", "grade"))
ROWS = [("a", "one"), ("b", "two")]
NO_ENDS = "one\u2028two\x0cthree\x85four"  # str.splitlines would cut at each of these


def file(folder: Path, content: str | bytes, name: str = "some.tsv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def complaint(path: Path, read: Callable[[Path], Iterator] = file_lines.texts) -> str:
    """What the reader says about a file, behind the file's name."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        list(read(path))
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("b\tsecond letter\na\tfirst letter\n", [("b", "second letter"), ("a", "first letter")]),
        (b"\xef\xbb\xbfa\tone\nb\ttwo\n", ROWS),
        (b"\xef\xbb\xbfa\tone\n\xef\xbb\xbfb\ttwo\n\xef\xbb\xbf\nc\tthree", [*ROWS, ("c", "three")]),
        (b"a\tone\r\nb\ttwo\r\n", ROWS),
        ("a\tone\nb\ttwo", ROWS),
        ("a\tone\nb\ttwo\na\tone\n", ROWS),
        (f"a\t{NO_ENDS}\n", [("a", NO_ENDS)]),
        ("ä\tZürich, 東京\n", [("ä", "Zürich, 東京")]),
    ],
    ids=[
        "in file order", "a byte order mark belongs to no id", "nor that of each of several files that were joined",
        "line ends of Windows belong to no text", "the last line needs no end", "a repeated line counts once",
        "only line feeds end a line", "letters beyond ASCII survive",
    ],
)  # fmt: skip
def test_ids_and_texts_are_read(tmp_path, content, rows):
    assert list(file_lines.texts(file(tmp_path, content))) == rows


def test_empty_lines_are_skipped_but_counted(tmp_path):
    assert list(file_lines.lines(file(tmp_path, "one\n\n  \ntwo\n"))) == [(1, "one"), (4, "two")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tone\nb\ttwo\tthree\n", ":2: 3 columns, expected 2 (id<TAB>text): 'b\\ttwo\\tthree'"),
        ("a one\n", ":1: 1 columns, expected 2 (id<TAB>text): 'a one'"),
        ("x" * 500 + "\n", f":1: 1 columns, expected 2 (id<TAB>text): '{'x' * 80}'"),
        (" \tone\n", ":1: empty id: ' \\tone'"),
        (b"a\tone\nb\tt\xffo\n", ":2: byte 4 is not UTF-8. Convert the file to UTF-8."),
        ("a\tone\nb\ttwo\na\tthree\n", ":3: id 'a' has another text than in line 1. Keep one of them."),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_first_80_characters(tmp_path, content, message):
    assert complaint(file(tmp_path, content)) == message


def test_columns_between_any_white_space_are_counted_too(tmp_path):
    path = file(tmp_path, "1 0 a 1\n1 \t 0   b\n")
    assert complaint(path, QRELS) == ":2: 3 columns, expected 4 (query_id 0 passage_id grade): '1 \\t 0   b'"


@pytest.mark.parametrize("line", ["\ta\tb", "1\t\tb", "1\ta\t"])
def test_triple_with_any_empty_id_is_refused(tmp_path, line):
    assert re.match(r":2: empty \w+_id: ", complaint(file(tmp_path, f"1\ta\tb\n{line}\n"), TRIPLES))


SPACED = "in it: an id has neither white space nor control characters."


@pytest.mark.parametrize(
    ("key", "shown", "letter"),
    [
        (" a", "' a'", "U+0020 (space)"),
        ("a ", "'a '", "U+0020 (space)"),
        ("a\xa01", "'a\\xa01'", "U+00A0 (no-break space)"),
        ("a\u30001", "'a\\u30001'", "U+3000 (ideographic space)"),
        ("a\u2028", "'a\\u2028'", "U+2028 (line separator)"),
        ("a\x851", "'a\\x851'", "U+0085 (control character)"),
        ("a\ufeff", "'a\\ufeff'", "U+FEFF (zero width no-break space)"),
    ],
)
def test_an_id_that_no_run_file_could_hold_is_refused_in_every_format(tmp_path, key, shown, letter):
    rows = f"z\tone\n{key}\ttwo\n"
    records = "".join(json.dumps({"_id": each, "text": "one"}) + "\n" for each in ("z", key))
    triples = f"1\ta\tb\n1\t{key}\tb\n"
    assert complaint(file(tmp_path, rows)) == f":2: id is {shown}, with {letter} {SPACED}"
    assert complaint(file(tmp_path, records, "c.jsonl")) == f":2: _id is {shown}, with {letter} {SPACED}"
    assert complaint(file(tmp_path, triples), TRIPLES) == f":2: positive_id is {shown}, with {letter} {SPACED}"


@pytest.mark.parametrize(("letter", "name"), [("\xa0", "U+00A0 (no-break space)"), ("\x0c", "U+000C (control character)")])
def test_columns_between_white_space_are_cut_at_blanks_and_tabs_only(tmp_path, letter, name):
    path = file(tmp_path, f"1 0 a 1\n1 0{letter}b 1\n")
    message = f":2: {name} in the line. Separate columns with blanks or tabs only: {f'1 0{letter}b 1'!r}"
    assert complaint(path, QRELS) == message


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("content", "place"), [(b"a\tone\rb\ttwo\r", ":1: byte 6"), (b"a\tone\nb\tt\ro\r\n", ":2: byte 4")])
def test_a_carriage_return_that_other_tools_end_a_line_at_is_refused(tmp_path, content, place, skip):
    bad = bad_lines.BadLines("skip" if skip else "stop")
    message = complaint(file(tmp_path, content), partial(file_lines.texts, bad=bad))
    assert message == f"{place} is a carriage return (CR) without a line feed. End lines with LF or CR LF."


def test_missing_file_says_where_its_name_is_set(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        list(file_lines.lines(tmp_path / "none.tsv"))
    assert str(caught.value) == f"{tmp_path}/none.tsv is not there. Set its name under data.*, or put the file in place."


def test_beir_title_is_put_in_front_of_the_text(tmp_path):
    lines = '{"_id": "a", "title": "Wings", "text": "They lift."}\n{"_id": "b", "title": "", "text": "No title."}\n'
    path = file(tmp_path, lines + '{"_id": 7, "text": "A number as id.", "metadata": {}}\n', "corpus.jsonl")
    assert list(file_lines.texts(path)) == [("a", "Wings They lift."), ("b", "No title."), ("7", "A number as id.")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"_id": "a", "text": "two"}', "id 'a' has another text than in line 1. Keep one of them."),
        ("no json", "no JSON object (Expecting value: line 1 column 1 (char 0)): 'no json'"),
        ("[1, 2]", "no JSON object: '[1, 2]'"),
        ("5", "no JSON object: '5'"),
    ],
)
def test_json_that_is_no_object_or_repeats_an_id_is_named_by_its_line(tmp_path, line, told):
    assert complaint(file(tmp_path, f'{{"_id": "a", "text": "one"}}\n\n{line}\n', "corpus.jsonl")) == f":3: {told}"


ID = "expected an id: a text or a whole number."
RULE = "(control character) in it: an id has neither white space nor control characters."
VALUES = [
    ('{"text": "one"}', "no '_id' among 'text'."),
    ('{"_id": "b"}', "no 'text' among '_id'."),
    ('{"_id": "b", "text": null}', "no 'text' among '_id', 'text'."),
    ('{"_id": "b", "text": 5}', "text is 5, expected a text."),
    ('{"_id": "b", "text": ["one"]}', 'text is ["one"], expected a text.'),
    ('{"_id": "b", "text": "one", "title": ["x"]}', 'title is ["x"], expected a text.'),
    ('{"_id": "b", "text": "one", "title": {}}', "title is {}, expected a text."),
    ('{"_id": "", "text": "one"}', f'_id is "", {ID}'),
    ('{"_id": {"a": 1}, "text": "one"}', f'_id is {{"a": 1}}, {ID}'),
    ('{"_id": ["b"], "text": "one"}', f'_id is ["b"], {ID}'),
    ('{"_id": true, "text": "one"}', f"_id is true, {ID}"),
    ('{"_id": 1.5, "text": "one"}', f"_id is 1.5, {ID}"),
    ('{"_id": "b\\u0000", "text": "one"}', f"_id is 'b\\x00', with U+0000 {RULE}"),
    ('{"_id": "b", "text": "half \\ud800"}', "half a character (\\ud800 to \\udfff) in 'half \\ud800'."),
]


@pytest.mark.parametrize(("line", "fault"), VALUES)
def test_a_value_of_json_that_is_no_id_or_no_text_is_named(tmp_path, line, fault):
    assert complaint(file(tmp_path, f'{{"_id": "a", "text": "one"}}\n{line}\n', "corpus.jsonl")) == f":2: {fault}"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ('["a"]', f'positive_id is ["a"], {ID}'),
        ("false", f"positive_id is false, {ID}"),
        ('"a\\u0000"', f"positive_id is 'a\\x00', with U+0000 {RULE}"),
        ('" "', f'positive_id is " ", {ID}'),
        ('"\\ud800"', "half a character (\\ud800 to \\udfff) in '\\ud800'."),
    ],
)
def test_ids_of_triples_in_json_are_held_to_the_same(tmp_path, value, fault):
    line = f'{{"query_id": 1, "positive_id": {value}, "negative_id": "b"}}\n'
    assert complaint(file(tmp_path, line, "t.jsonl"), TRIPLES) == f":1: {fault}"


def test_a_grade_of_json_is_a_number_and_nothing_else(tmp_path):
    path = file(tmp_path, '{"query_id": 1, "grade": 2}\n{"query_id": 1, "grade": [2]}\n', "qrels.jsonl")
    rows = file_lines.fields(path, None, ("query_id", "grade"))
    assert next(rows) == (1, ["1", "2"])
    with pytest.raises(ValueError, match=r"qrels.jsonl:2: grade is \[2\], expected a text or a number.$"):
        next(rows)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (int, "1_0"), (float, "1_0"), (float, "1e400"), (float, "nan"), (int, "9" * 400), (int, "9" * 5000), (int, "high"),
        (float, "high"), (int, "1.5"),
    ],
)  # fmt: skip
def test_what_is_no_number_or_only_for_python_or_not_to_be_computed_with_is_refused(kind, number):
    what = "a whole number" if kind is int else "a finite number"
    with pytest.raises(ValueError, match=f"^qrels.txt:2: grade is '{number[:80]}', expected {what}.$"):
        file_lines.number_in(Path("qrels.txt"), 2, number, kind, "grade")


@pytest.mark.parametrize(("text", "value"), [("1.0", 1), ("2.000", 2), ("-1.0", -1), ("0", 0)])
def test_a_grade_may_be_written_with_noughts_behind_the_point(text, value):
    found = file_lines.number_in(Path("qrels.txt"), 1, text, int, "grade")
    assert (found, type(found)) == (value, int)


def test_a_title_in_a_column_of_text_is_put_in_front_as_in_json(tmp_path):
    path, columns = file(tmp_path, "d1\tBees\tlive\nd2\t\tsleep\n"), {"id": 1, "title": 2, "text": 3}
    assert list(file_lines.texts(path, columns)) == [("d1", "Bees live"), ("d2", "sleep")]
    message = ":1: 3 columns, expected at least 4: 'd1\\tBees\\tlive'"
    assert complaint(path, partial(file_lines.texts, columns=columns | {"title": 4})) == message


@pytest.mark.parametrize("line", ["id\ttext", "_id\ttext", "query_id\tquery", "pid\tpassage", "docno\ttext"])
def test_a_line_of_names_is_no_passage(tmp_path, line):
    path, bad = file(tmp_path, f"{line}\na\tone\n"), bad_lines.BadLines()
    assert list(file_lines.texts(path, bad=bad)) == [("a", "one")]
    assert (bad.of(path).names_columns, bad.of(path).lines) == (True, 2)


def test_a_line_of_names_that_are_not_all_known_is_refused(tmp_path):
    assert complaint(file(tmp_path, "docno\tabstract\na\tone\n")) == (
        ":1: 'docno' is the name of a column, no id. Remove the line, or say in data.columns which of its names are those of "
        "id and text: 'docno', 'abstract'."
    )


def test_judgments_of_json_need_no_column_that_nothing_reads(tmp_path):
    rows = '{"query_id": "q1", "passage_id": "d1", "grade": 1.0}\n{"query-id": "q2", "corpus-id": "d2", "score": 2}\n'
    path, names = file(tmp_path, rows, "qrels.jsonl"), ("query_id", "0", "passage_id", "grade")
    assert list(file_lines.fields(path, None, names)) == [(1, ["q1", "", "d1", "1.0"]), (2, ["q2", "", "d2", "2"])]


def test_a_number_for_a_column_that_has_a_name_is_refused(tmp_path):
    path = file(tmp_path, '{"_id": "a", "text": "one"}\n', "corpus.jsonl")
    message = ": its columns have names, but data.columns says that text is number 2."
    assert complaint(path, partial(file_lines.texts, columns={"text": 2})) == message


@pytest.mark.parametrize("name", ["x.ndjson", "x.JSONL", "x.json", "x.jsonl.GZ"])
def test_json_lines_are_known_by_any_of_their_endings(tmp_path, name):
    line = b'{"_id":"d1",\t"text":"x"}\n'
    path = file(tmp_path, gzip.compress(line) if name.endswith("GZ") else line, name)
    assert list(file_lines.texts(path)) == [("d1", "x")]


def test_a_number_of_thousands_of_digits_is_no_json(tmp_path):
    message = complaint(file(tmp_path, f'{{"_id": {"1" * 5000}, "text": "one"}}\n', "corpus.jsonl"))
    assert message.startswith(":1: no JSON object (Exceeds the limit (4300 digits)")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("corpus.jsonl", '{"_id": "a", "text": "one"}\nno json\n{"_id": "b", "text": "two"}\n', [("a", "one"), ("b", "two")]),
        ("corpus.jsonl", '[1]\n{"_id": "b", "text": "two"}\n', [("b", "two")]),
        ("corpus.jsonl", '{"_id": "a"}\n{"_id": "b", "text": "two"}\n', [("b", "two")]),
        ("corpus.tsv", "a\tone\nb\n\ttwo\n", [("a", "one")]),
    ],
)
def test_lines_behind_a_bad_one_are_read(tmp_path, monkeypatch, name, content, expected):
    monkeypatch.setattr(bad_lines, "ONE_IN", 1)
    bad = bad_lines.BadLines("skip")
    assert list(file_lines.texts(file(tmp_path, content, name), bad=bad)) == expected
    assert bad.account()


def test_bad_rows_of_parquet_are_counted_by_row(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "triples.parquet"
    names = ("query_id", "positive_id", "negative_id")
    pq.write_table(pa.table(dict(zip(names, (["1", "2", "3"], ["a", None, "c"], ["b", "c", "d"]), strict=True))), path)
    bad = bad_lines.BadLines("skip")
    assert list(file_lines.fields(path, "\t", names, bad=bad)) == [(1, ["1", "a", "b"]), (3, ["3", "c", "d"])]
    first = f"{path}:2: no 'positive_id' among 'query_id', 'positive_id', 'negative_id'."
    assert bad.account() == {str(path): {"lines": 3, "bad": 1, "first": first}}


LINES = [
    b"one\n",
    b"\n",
    b"t" * 200_000 + b"\r\n",
    *(b"line %d of many\n" % (n * n) for n in range(20_000)),
    b"last, without an end",
]


def pack(kind: str, content: bytes) -> bytes:
    if kind == ".zst":
        return pytest.importorskip("zstandard").compress(content)
    return gzip.compress(content) if kind == ".gz" else content


@pytest.fixture(params=["", ".gz", ".zst"])
def kind(request) -> str:
    return request.param


def test_lines_come_with_their_ends_however_the_file_is_packed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"some.tsv{kind}"
    path.write_bytes(pack(kind, b"".join(LINES)))
    assert list(raw_lines(path)) == LINES
    assert kind_of(path) == ".tsv"


def test_files_packed_one_behind_the_other_are_one_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"some.tsv{kind}"
    path.write_bytes(pack(kind, b"one\ntwo, ") + pack(kind, b"in two parts\n"))
    assert list(raw_lines(path)) == [b"one\n", b"two, in two parts\n"]


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9999])
@pytest.mark.fault("B14")
def test_a_file_that_was_cut_off_is_named_with_what_to_do(tmp_path: Path, packed: str, share: float) -> None:
    path, whole = tmp_path / f"some.tsv{packed}", pack(packed, b"".join(LINES))
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError) as caught:
        list(raw_lines(path))
    assert str(caught.value).startswith(f"{path} is cut off or damaged (")
    assert str(caught.value).endswith("). Delete it and fetch it again.")


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_file_that_is_not_packed_as_it_is_called_is_named(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"some.tsv{packed}"
    path.write_bytes(b"plain text\n")
    pack(packed, b"")
    with pytest.raises(ValueError, match=r"some\.tsv\.(gz|zst) is cut off or damaged \("):
        list(raw_lines(path))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.TSV", ".tsv"), ("a.JSONL.Gz", ".jsonl"), ("a.ndjson.zst", ".jsonl"), ("a.PARQUET", ".parquet"), ("run.bm25", ".bm25")],
)
def test_the_kind_of_a_file_does_not_depend_on_capitals(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "some.tsv").touch()
    assert list(raw_lines(tmp_path / "some.tsv")) == []


def test_text_of_parquet_that_is_none_is_named(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "corpus.parquet"
    texts = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"t\xff"))
    pq.write_table(pa.table({"_id": ["a"], "text": texts}), path)
    assert complaint(path) == (
        " can't be read as Parquet ('utf-8' codec can't decode byte 0xff in position 1: invalid start byte). Fetch it again."
    )
