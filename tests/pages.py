"""Pages of a comparison of four rankers on any number of queries, for tests of ``report.html``."""

import random
import re
from pathlib import Path
from typing import Any

from rankdistil.data.records import Candidate, Pair, Ranking
from rankdistil.metrics.fitted import Bin, Calibration, Platt, Split
from rankdistil.metrics.ranking import MAIN, means, passage_ids
from rankdistil.report.comparison import Member, Row
from rankdistil.report.document import all_columns, calibration_sections, depth_section, difference_section, write_report
from rankdistil.report.page import by_query, write_page
from rankdistil.report.results import Result
from rankdistil.report.verdict import Depth, Depths, Difference, Group, Harm, Harmed, Suspect

NAMES = ["BM25", "teacher toy", "ranker_distill 6l", "ranker_distill 2l", "finetune 2l"]
EVIL = "</script><script>window.stung = 1</script><!-- <script> & \u2028\u2029 \ud800 <img src=x onerror='window.stung = 1'>"
WORDS = re.findall(r"\w+", "how long does a worker bee live in winter and why do tides rise twice a day near the coast")
DEPTH = 12


def text_of(passage: str) -> str:
    """Return the text of a passage: the third one's would be markup if it weren't escaped."""
    return f"{EVIL} of {passage}" if passage.endswith("-3") else f"{passage} says: " + " ".join(WORDS * 3)


def pairs_of(ranking: Ranking) -> list[Pair]:
    """Give the texts of candidates, as a data module does."""
    return [
        Pair(query, hit.passage_id, f"question {query} {' '.join(WORDS[int(query[1:]) % 12 :][:6])}?", text_of(hit.passage_id))
        for query, row in ranking.items() for hit in row
    ]  # fmt: skip


def comparison(queries: int, seed: int = 0) -> tuple[list[Row], list[Member], Split]:
    """Make up rows, the rankers of them (two seeds of the last), and their test."""
    draw = random.Random(seed)
    first = {
        f"q{query}": [Candidate(f"p{query}-{place}", 20 - place - draw.random()) for place in range(DEPTH)]
        for query in range(queries)
    }
    qrels = {query: {row[0].passage_id: 0} | {row[draw.randrange(DEPTH)].passage_id: 1} for query, row in first.items()}
    members = []
    for number, name in enumerate([*NAMES, NAMES[-1]]):
        values = {
            query: {MAIN: min(1.0, max(0.0, round(draw.gauss(0.55 + 0.03 * number, 0.25), 6))), "RR@10": 1 / draw.randint(1, 5)}
            for query in first
        }
        scores = {
            query: sorted((Candidate(hit.passage_id, draw.gauss(0, 3)) for hit in row), key=lambda hit: -hit.score)
            for query, row in first.items()
        }
        ranking = first if number == 0 else scores
        members.append(
            Member(name, Result(name, means(values), values, {}), passage_ids(ranking), scores=None if number == 0 else scores)
        )
    points = [
        Depth(1, 0.5, Difference(0.1, 0.001, 0.002), 3.0),
        Depth(5, 0.57, Difference(0.01, 0.4, 0.4), 14.0),
        Depth(12, 0.58, None, 31.0),
    ]
    held = Calibration(
        Platt(2.0, -1.5), 0.0123, 0.3, [Bin(0.04, 0.05, 100), Bin(0.5, 0.4, 30), Bin(0.97, 0.9, 10)], None, None, 0.9
    )
    gain = Difference(0.02, 0.01, 0.03, (0.001, 0.04), 0.03)
    rows = []
    for number, name in enumerate(NAMES):
        measures = members[number].result.measures
        speed = {"latency_ms_p50": 120.0 / 3**number, "parameters": 22_000_000 // (1 + number)} if number else {}
        told = [f"{name}: {MAIN} {measures[MAIN]:.4f}, better than BM25 (+0.0200, p 0.010)"]
        told += [f"{name}: WORSE THAN BM25, THE ORDER IT WAS GIVEN. Likely cures: more steps."] if number == 4 else []
        rows.append(Row(
            name, 2 if number == 4 else 1, measures, dict.fromkeys(measures, 0.01) if number == 4 else {},
            None if number == 1 else gain, gain if number else None, None, None, speed, told if number else (),
            size=name.partition(" ")[2] if number > 1 else "", depth=Depths(points, 5, None) if number else None,
            calibration=held if number else None,
        ))  # fmt: skip
    return rows, members, Split({}, first, qrels)


def write(folder: Path, queries: int) -> dict[str, Any]:
    """Write the reports on so many queries, and return what ``report.json`` holds."""
    rows, members, test = comparison(queries)
    harmed = [Harmed(f"q{at}", f"question q{at}", 0.9, 0.4, EVIL, 4, "the answer", (1, 3)) for at in range(0, queries, 3)]
    groups = [Group("query of 5 to 8 words", queries, len(harmed), queries - len(harmed), 0.01)]
    harm = Harm(NAMES[2], groups, harmed, [Suspect("q1", "question q1", "p1-2", EVIL, False)])
    sections = [
        *difference_section(rows, NAMES[1], NAMES[0]), *depth_section(rows),
        *calibration_sections({row.name: row.calibration for row in rows if row.calibration is not None}),
    ]  # fmt: skip
    origin = {"commit": "abc", "device": "a laptop", "threads": 2}
    sources = {name: [f"runs/{name}"] for name in NAMES}
    report = write_report(
        folder,
        rows,
        NAMES[1],
        NAMES[0],
        f"toy/test <b>&</b>, {queries} queries",
        ["tau: agreement"],
        None,
        origin,
        sources,
        harm=harm,
    )
    found = by_query(rows, members, test, NAMES[1], NAMES[2], pairs_of)
    write_page(folder, report, rows, all_columns(rows, NAMES[1], NAMES[0]), sections, found, 12)
    return report
