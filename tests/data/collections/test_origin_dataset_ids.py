"""Ids of ir_datasets are held to the rule for files."""

from types import SimpleNamespace

import pytest
from ir_datasets.formats import GenericDoc, GenericDocPair, GenericQrel, GenericQuery, GenericScoredDoc

from rankdistil.data.collections.origin import with_ids
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import numbered
from rankdistil.data.files.bad_lines import BadLines

BAD = {
    "docs": GenericDoc("a b", "text"),
    "queries": GenericQuery("1\xa0", "text"),
    "qrels": GenericQrel("1", "\ufeffa", 1),
    "scoreddocs": GenericScoredDoc("1\u2028", "a", 1.0),
    "docpairs": GenericDocPair("1", "a", "b\u3000"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_record_is_refused_by_its_number_or_left_out(kind: str) -> None:
    good = type(BAD[kind])(*(value.split()[0].strip("\ufeff") if isinstance(value, str) else value for value in BAD[kind]))
    with pytest.raises(ValueError, match=rf"^beir/x {kind}:2: \w+_id\w* is .*, with U\+.* in it: an id has neither white"):
        list(with_ids([good, BAD[kind]], kind, BadLines().of(f"beir/x {kind}")))
    left = BadLines("skip").of("beir/x")
    assert list(with_ids([good, BAD[kind], good], kind, left)) == [(1, good), (3, good)]
    assert left.told()["bad"] == 1


def test_a_reader_looks_at_each_kind_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {f"{kind}_iter": lambda kind=kind: iter([BAD[kind]]) for kind in BAD}
    parts = {f"has_{kind}": lambda: True for kind in BAD} | {f"{kind}_handler": lambda: SimpleNamespace(**rows) for kind in BAD}
    reader = Reader("beir/x")
    monkeypatch.setitem(vars(reader), "dataset", SimpleNamespace(**rows, **parts))
    reads = {
        "docs": reader.passages,
        "queries": lambda: reader.all_queries,
        "docpairs": lambda: numbered(reader, "docpairs")[1],
    }
    for kind, read in reads.items():
        with pytest.raises(ValueError, match=f"^beir/x {kind}:1: "):
            list(read())
    monkeypatch.setitem(vars(reader), "queries", {"1": "text"})
    with pytest.raises(ValueError, match=r"^beir/x qrels:1: "):
        _ = reader.qrels
    with pytest.raises(ValueError, match=r"^beir/x scoreddocs:1: "):
        reader.candidates(10)
