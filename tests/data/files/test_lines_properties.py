"""Whatever ids and texts hold, every format gives them back; whatever a file holds, it is read or named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rankdistil.data.files.bad_lines import LIST, BadLines
from rankdistil.data.files.folder import FileDocPairs, FileQrels
from rankdistil.data.files.layout import KNOWN, is_id
from rankdistil.data.files.lines import texts

NAMES = {name for names in KNOWN.values() for name in names}
LETTERS = st.characters(codec="utf-8", exclude_characters="\0\r\n\t")
KEYS = st.text(LETTERS, min_size=1, max_size=8).filter(lambda key: is_id(key) and key not in NAMES)
TEXTS = st.text(LETTERS, max_size=30)
ROWS = st.dictionaries(KEYS, TEXTS, min_size=1, max_size=8).map(lambda rows: list(rows.items()))


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write texts in the format of a file's name."""
    if path.suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"_id": [key for key, _ in rows], "text": [text for _, text in rows]}), path)
        return path
    if ".jsonl" in path.name:
        lines = [json.dumps({"_id": key, "text": text}, ensure_ascii="é" in path.name) for key, text in rows]
    else:
        lines = [f"{key}\t{text}" for key, text in rows]
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@given(ROWS)
@example([("a", "\ufeffa mark inside of a text"), ("b", " "), ("c", "\u2028\x85\x0c\x1c")])
def test_every_format_gives_back_what_was_written(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    for name in ("corpus.tsv", "corpus.tsv.gz", "corpus.jsonl", "é.jsonl", "corpus.jsonl.gz", "corpus.parquet"):
        assert list(texts(write(tmp_path / name, rows))) == rows, name


@given(ROWS, st.data())
def test_a_bad_line_is_named_by_its_place_and_costs_no_other_line(tmp_path: Path, rows: list, data: Any) -> None:
    place = data.draw(st.integers(1, len(rows)), "line behind which the bad one stands")
    lines = [f"{key}\t{text}\n" for key, text in rows]
    lines.insert(place, "three\tcolumns\there\n")
    path, bad = tmp_path / "corpus.tsv", BadLines("skip")
    path.write_bytes("".join(lines).encode())
    assert list(texts(path, bad=bad)) == rows
    assert (bad.of(path).lines, bad.of(path).told()["bad"]) == (len(rows) + 1, 1)
    with pytest.raises(ValueError) as caught:
        list(texts(path))
    assert str(caught.value).startswith(f"{path}:{place + 1}: 3 columns, expected 2 (id<TAB>text)")


@given(st.binary(max_size=60) | st.text(st.sampled_from('ab\t \r\n\0\ufeff\u3000\x85{}[]":,0'), max_size=40).map(str.encode))
def test_any_bytes_are_read_or_named_by_file_and_a_check_finds_fault_where_a_run_stops(tmp_path: Path, content: bytes) -> None:
    for name in ("corpus.tsv", "corpus.jsonl", "corpus.tsv.gz"):
        path, listed = tmp_path / name, BadLines(LIST)
        path.write_bytes(content)
        stops = complaint(path, BadLines())
        assert stops is None or stops.startswith(str(path))
        heard = complaint(path, listed) is not None or listed.of(path).stops("stop")
        assert heard == (stops is not None)


def complaint(path: Path, bad: BadLines) -> str | None:
    try:
        rows = list(texts(path, bad=bad))
    except ValueError as error:
        return str(error)
    assert all(is_id(key) and text.encode() is not None for key, text in rows)
    return None


GRADES = st.dictionaries(st.tuples(KEYS, KEYS), st.integers(-3, 1000), min_size=1, max_size=8)


@given(GRADES, st.sampled_from([" ", "\t", " \t "]))
def test_judgments_come_back_whatever_blanks_are_between_them(tmp_path: Path, grades: dict, blank: str) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("".join(blank.join((query, "0", passage, str(grade))) + "\n" for (query, passage), grade in grades.items()))
    assert {(row.query_id, row.doc_id): row.relevance for row in FileQrels(path).qrels_iter()} == grades


@given(st.lists(st.tuples(KEYS, KEYS, KEYS), min_size=1, max_size=8))
def test_triples_come_back_in_order_repeated_ones_too(tmp_path: Path, triples: list[tuple[str, str, str]]) -> None:
    path = tmp_path / "triples.tsv"
    path.write_text("".join("\t".join(triple) + "\n" for triple in triples))
    assert [tuple(row) for row in FileDocPairs(path).docpairs_iter()] == triples
    records = [dict(zip(("query_id", "positive_id", "negative_id"), triple, strict=True)) for triple in triples]
    path = tmp_path / "triples.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [tuple(row) for row in FileDocPairs(path).docpairs_iter()] == triples
