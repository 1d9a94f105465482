"""report.html holds the numbers of report.json, texts as data alone, and nothing that could be loaded or run besides."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pages import EVIL, NAMES, comparison, pairs_of, text_of, write

from rankdistil.report import page
from rankdistil.report.document import all_columns
from rankdistil.report.page import ASSETS, by_query, write_page


class Elements(HTMLParser):
    """Reads a page as a browser does: what stands in a script or a style ends at its end tag alone."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.contents.append("")

    def handle_endtag(self, tag: str) -> None:
        self.handle_starttag(f"/{tag}", [])

    def handle_data(self, data: str) -> None:
        if self.contents:
            self.contents[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        found = zip(self.tags, self.contents, strict=True)
        return [(attributes, content) for (name, attributes), content in found if name == tag]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("report")
    report = write(folder, queries=30)
    return report, (folder / "report.html").read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, Any]:
    (content,) = (content for attributes, content in Elements(text).of("script") if attributes.get("id") == "data")
    return json.loads(content)


def test_the_page_holds_what_report_json_holds_and_the_tables_of_the_text(written, tmp_path: Path) -> None:
    report, text = written
    data = data_of(text)
    assert data["report"] == json.loads(json.dumps(report))
    table = [(one["header"], one["cells"]) for one in data["table"]]
    rows, *_ = comparison(30)
    assert table == [(one.header, [*one.cells]) for one in all_columns(rows, NAMES[1], NAMES[0])]
    assert list(data["sections"]) == ["Differences", "Depth", "Probability of relevance", "Reliability"]
    faster = [rows[number:] for number in range(1, len(rows))]  # each row is faster than those before
    assert sorted(data["frontier"]) == sorted(row.name for row, *others in faster if all(
        row.measures["nDCG@10"] > other.measures["nDCG@10"] for other in others
    ))  # fmt: skip
    assert (data["procedure"][2], data["size"][2]) == ("ranker_distill", "6l")


def test_texts_that_look_like_markup_stay_data_and_come_back_as_they_were(written) -> None:
    _, text = written
    elements = Elements(text)
    assert [tag for tag, _ in elements.tags if tag in ("img", "b")] == []
    assert [attributes for attributes, _ in elements.of("script")] == [{"type": "application/json", "id": "data"}, {}, {}]
    (element,) = (content for attributes, content in elements.of("script") if attributes)
    assert not re.search("[<>&\u2028\u2029]", element)
    data = json.loads(element)
    assert data["report"]["harm"]["queries"][0]["raised"] == EVIL
    assert data["queries"]["passages"]["p0-3"] == " ".join(text_of("p0-3").split())
    assert elements.of("title")[0][1] == "toy/test <b>&</b>, 30 queries"


def test_the_policy_lets_two_scripts_and_one_style_take_effect_and_nothing_be_loaded(written) -> None:
    elements = Elements(written[1])
    (policy,) = (one["content"] for one, _ in elements.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    scripts = [content for attributes, content in elements.of("script") if "type" not in attributes]
    (style,) = (content for _, content in elements.of("style"))
    hashes = [f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" for content in (*scripts, style)]
    assert policy == (
        f"default-src 'none'; script-src {hashes[0]} {hashes[1]}; style-src {hashes[2]}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    assert [tag for tag, attributes in elements.tags if {"src", "href", "onclick", "style"} & {*attributes}] == ["a"]
    assert "innerHTML" not in scripts[1]


def test_of_a_query_each_ranking_s_first_passages_are_shown_and_all_that_are_relevant() -> None:
    rows, members, test = comparison(3)
    found = by_query(rows, members, test, NAMES[1], NAMES[2], pairs_of)
    assert found["ids"] == ["q0", "q1", "q2"]
    assert found["texts"][0].startswith("question q0 ")
    for query, one in found["opened"].items():
        for member in members[:-1]:
            order = sorted((place, key) for place, key in zip(one["rows"][member.row]["places"], one["passages"], strict=True))
            assert [key for place, key in order if place <= 10] == member.ranking[query][:10]
        assert {key for key, grade in test.qrels[query].items() if grade} <= {*one["passages"]}
        assert dict(zip(one["passages"], one["grades"], strict=True)).items() >= test.qrels[query].items()
        given = {hit.passage_id: round(hit.score, 4) for hit in test.first[query]}
        assert one["rows"]["BM25"]["scores"] == [given[key] for key in one["passages"]]
        scored = {hit.passage_id: round(hit.score, 4) for hit in members[1].scores[query]}
        assert one["rows"][NAMES[1]]["scores"] == [scored[key] for key in one["passages"]]


def test_values_are_means_over_seeds_in_the_order_of_the_queries() -> None:
    rows, members, test = comparison(3)
    found = by_query(rows, members, test, NAMES[1], None, pairs_of)["values"][NAMES[-1]]["RR@10"]
    seeds = [[member.result.per_query[query]["RR@10"] for query in ("q0", "q1", "q2")] for member in members[-2:]]
    assert found == pytest.approx([sum(pair) / 2 for pair in zip(*seeds, strict=True)], abs=1e-6)


def test_passages_are_of_a_bounded_number_of_queries_the_worst_and_the_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, members, test = comparison(60)
    monkeypatch.setattr(page, "QUERIES", 5)
    found = by_query(rows, members, test, NAMES[1], NAMES[2], pairs_of)
    change = {query: members[2].result.values()[query] - members[0].result.values()[query] for query in found["ids"]}
    assert len(found["opened"]) == 5
    assert len(found["ids"]) == len(found["texts"]) == 60
    assert {min(change, key=change.get), max(change, key=change.get)} <= {*found["opened"]}
    assert {key for one in found["opened"].values() for key in one["passages"]} == {*found["passages"]}


def test_passages_are_cut_and_end_where_a_page_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, members, test = comparison(6)
    monkeypatch.setattr(page, "CHARACTERS", 20)
    monkeypatch.setattr(page, "TEXT", 12 * 23 * 2)
    found = by_query(rows, members, test, NAMES[1], NAMES[2], pairs_of)
    assert len(found["opened"]) == 2
    assert max(map(len, found["passages"].values())) == 23
    assert all(text.endswith("...") for text in found["passages"].values())


def test_a_supplied_ranking_shows_its_places_also_of_passages_whose_text_nobody_has() -> None:
    rows, members, test = comparison(2)
    other = members[3]._replace(ranking={"q0": ["p0-4", "elsewhere"]}, scores=None, own_candidates=True)
    found = by_query(rows, [*members[:3], other, *members[4:]], test, NAMES[1], NAMES[2], pairs_of)
    one = found["opened"]["q0"]
    assert one["rows"][NAMES[3]]["places"][one["passages"].index("elsewhere")] == 2
    assert {*one["rows"][NAMES[3]]["scores"]} == {None}
    assert "elsewhere" not in found["passages"]
    assert {*found["opened"]["q1"]["rows"][NAMES[3]]["places"]} == {None}


def test_of_many_queries_that_got_worse_some_are_listed_and_all_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LISTED", 4)
    report = write(tmp_path, queries=30)
    data = data_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert data["report"]["harm"]["queries"] == json.loads(json.dumps(report["harm"]["queries"][:4]))
    assert data["listed"] == {"queries": 10, "suspects": 1}
    assert len(json.loads((tmp_path / "report.json").read_text())["harm"]["queries"]) == 10


def test_without_times_harm_and_texts_the_page_is_written_and_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    rows, members, test = comparison(2)
    rows = [row._replace(speed={}, depth=None, calibration=None) for row in rows]
    report = {"title": "toy", "harm": None, "rows": []}
    queries = by_query(rows, members, test, None, None, pairs_of)
    data = data_of(write_page(tmp_path, report, rows, [], [], queries).read_text(encoding="utf-8"))
    assert (data["frontier"], data["listed"], data["passages"]) == ([], {}, None)
    (tmp_path / "report.html").unlink()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_page(tmp_path, report | {"rows": [float("nan")]}, rows, [], [], queries)
    assert list(tmp_path.iterdir()) == []


def test_what_draws_is_the_release_s_own_file() -> None:
    """Of echarts 6.1.0 on npm: ``dist/echarts.common.min.js``."""
    content = (ASSETS / "echarts.common.min.js").read_bytes()
    assert sha256(content).hexdigest() == "61f13280aba3161f77fc801bf5f9c786f55f10432153a0683fc5cc0700b013d5"
    assert b"Licensed to the Apache Software Foundation" in content[:200]
