"""The page ``report.html``: a comparison to look at, query by query, in one file that opens from disk.

It holds what ``report.json`` holds, the tables of ``report.md``, each query's measures and, of a bounded number of queries, the
passages as each ranker orders them. Nothing is loaded: Apache ECharts, which draws, is written into it, and a Content Security
Policy refuses all else. What is data stands in one element of JSON, and becomes text, never markup.

ECharts lies in ``assets/`` as its release 6.1.0 has it. plotly.js was rejected: it is six times as large, in every report, and
draws ten thousand points only where the policy lets it make code out of strings.
"""

import json
import random
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

from rankdistil.data.records import Pair, Ranking
from rankdistil.files import write_text
from rankdistil.metrics.fitted import LEAST, Split
from rankdistil.metrics.ranking import MAIN
from rankdistil.report.comparison import Member, Row
from rankdistil.report.frontier import pareto, procedure_and_size
from rankdistil.report.results import TIME, Result, average
from rankdistil.report.tables import Column, Section

ASSETS = Path(__file__).parent / "assets"
TOP = 10  # passages of each ranking that are shown; relevant ones below follow
QUERIES = 200  # whose passages are in the page
LISTED = 200  # queries that got worse, and suspects, in the page; report.json has all
CHARACTERS = 1_000  # of a passage
TEXT = 4_000_000  # characters of all passages: with more a page opens slowly
IN_MARKUP = re.compile("[<>&\u2028\u2029\ud800-\udfff]")  # of JSON: what a parser of HTML or of UTF-8 could trip over


def by_query(
    rows: Sequence[Row], members: Sequence[Member], test: Split, teacher: str | None, ranker: str | None,
    pairs: Callable[[Ranking], list[Pair]],
) -> dict[str, Any]:  # fmt: skip
    """Gather each query's measures and, of some queries, passages with each ranker's places and scores.

    Queries with passages are in turn those that ``ranker`` answers worst and best against the first stage, worst against the
    teacher, and any others. Of a row of several seeds measures are means, places and scores the first one's.

    Args:
        rows: of the comparison, the first stage before all others.
        members: as they were compared.
        test: its candidates and judgments.
        teacher: name of its row; None if there is none.
        ranker: name of the row whose queries are chosen; None for the best one.
        pairs: gives the texts of candidates.

    Returns:
        ``ids`` and ``texts`` of all queries; ``values``: by row and measure, in their order; ``level`` of relevance;
        ``opened``: by query id its ``passages`` and, of each, ``grades`` and by row ``places`` from 1 and ``scores``, null
        where there is none; ``passages``: text by id.
    """
    own = {row.name: [one for one in members if one.row == row.name] for row in rows}
    results = {name: average([one.result for one in of], name) for name, of in own.items()}
    first = results[rows[0].name]
    ids = list(first.per_query)
    opened = {
        query: _opened(query, {name: of[0] for name, of in own.items()}, test)
        for query in _chosen(first, results[ranker or best_row(rows).name], results[teacher or rows[0].name])
    }
    shown: Ranking = {query: row[:1] for query, row in test.first.items() if row}
    for query, one in opened.items():
        wanted = {*one["passages"]}
        shown[query] = [hit for hit in test.first.get(query, []) if hit.passage_id in wanted]
    found = pairs(shown)
    asked, passages = {pair.query_id: pair.query for pair in found}, {pair.passage_id: pair.passage for pair in found}
    texts: dict[str, str] = {}
    kept, size = {}, 0
    for query, one in opened.items():
        new = {key: _cut(passages[key]) for key in one["passages"] if key in passages and key not in texts}
        size += sum(map(len, new.values()))
        if size > TEXT:
            break
        texts.update(new)
        kept[query] = one
    values = {
        name: {key: [round(one.per_query[query][key], 6) for query in ids] for key in one.measures}
        for name, one in results.items()
    }
    return {
        "ids": ids, "texts": [asked.get(query, "") for query in ids], "values": values, "level": test.level,
        "opened": kept, "passages": texts,
    }  # fmt: skip


def best_row(rows: Sequence[Row]) -> Row:
    """Return the row that is looked into where no row re-ranks the first stage: the best one behind it."""
    return max(rows[1:] or rows, key=lambda row: row.measures[MAIN])


def _chosen(first: Result, own: Result, teacher: Result) -> list[str]:
    """Choose queries to look into: the worst, the best, those lost to the teacher and any, in turn."""
    was, now, above = (one.values() for one in (first, own, teacher))
    worst = sorted(now, key=lambda query: now[query] - was[query])
    lost = sorted(now, key=lambda query: now[query] - above[query])
    anyone = random.Random(0).sample(worst, len(worst))
    return list(dict.fromkeys(chain.from_iterable(zip(worst, reversed(worst), lost, anyone, strict=True))))[:QUERIES]


def _opened(query: str, own: Mapping[str, Member], test: Split) -> dict[str, Any]:
    """Return a query's passages as ``by_query`` has them: the first of each ranking, and all candidates that are relevant."""
    before, judged = test.first.get(query, []), test.qrels[query]
    orders = {name: one.ranking.get(query, []) for name, one in own.items()}
    relevant = [hit.passage_id for hit in before if judged.get(hit.passage_id, 0) >= test.level]
    passages = list(dict.fromkeys(chain(*(order[:TOP] for order in orders.values()), relevant)))
    rows = {}
    for number, (name, one) in enumerate(own.items()):
        places = {key: place for place, key in enumerate(orders[name], 1)}
        hits = before if number == 0 else (one.scores or {}).get(query, [])
        scores = {hit.passage_id: round(float(hit.score), 4) for hit in hits}
        rows[name] = {"places": [places.get(key) for key in passages], "scores": [scores.get(key) for key in passages]}
    return {"passages": passages, "grades": [judged.get(key) for key in passages], "rows": rows}


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}..."


def write_page(
    folder: Path, report: Mapping[str, Any], rows: Sequence[Row], table: Sequence[Column], sections: Sequence[Section],
    queries: Mapping[str, Any], passages: float | None = None,
) -> Path:  # fmt: skip
    """Write ``report.html`` in one step.

    Args:
        folder: where it goes.
        report: content of ``report.json``.
        rows: of the comparison, the first stage before all others.
        table: columns of the table of all rows.
        sections: the tables that follow it.
        queries: see ``by_query``.
        passages: per query, as timed; None if nothing was timed.

    Returns:
        The file.

    Raises:
        ValueError: for a number that is NaN.
    """
    harm = report["harm"]
    listed = {} if harm is None else {key: len(harm[key] or ()) for key in ("queries", "suspects")}
    if harm is not None:
        harm = harm | {key: harm[key] and harm[key][:LISTED] for key in listed}
    timed = [row for row in rows[1:] if TIME in row.speed]
    best = pareto([(row.speed[TIME], row.measures[MAIN]) for row in timed])
    procedures, sizes = zip(*map(procedure_and_size, rows), strict=True)
    data = {
        "report": {**report, "harm": harm}, "listed": listed, "main": MAIN, "time": TIME, "least": LEAST, "top": TOP,
        "best": best_row(rows).name, "passages": passages, "shown": [row.shown for row in rows],
        "procedure": procedures, "size": sizes,
        "frontier": [timed[at].name for at in best], "table": _columns(table),
        "sections": {one.title: {"columns": _columns(one.columns), "notes": list(one.notes)} for one in sections},
        "queries": queries,
    }  # fmt: skip
    path = folder / "report.html"
    write_text(path, _page(data))
    return path


def _columns(columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [{"header": one.header.replace("\n", " "), "text": one.text, "cells": list(one.cells)} for one in columns]


def _page(data: Mapping[str, Any]) -> str:
    """Put styles, scripts and data into the page, and into its policy the hashes of all that may take effect."""
    parts = {name: (ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "echarts.common.min.js", "page.js")}
    hashes = {name: f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for name, text in parts.items()}
    style, *scripts = hashes.values()
    policy = f"default-src 'none'; script-src {' '.join(scripts)}; style-src {style}; img-src data:; base-uri 'none'"
    written = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts["data"] = IN_MARKUP.sub(lambda sign: f"\\u{ord(sign[0]):04x}", written)
    parts |= {"policy": f"{policy}; form-action 'none'", "title": escape(data["report"]["title"])}
    page = (ASSETS / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(.+?)\}\}", lambda name: parts[name[1]], page)
