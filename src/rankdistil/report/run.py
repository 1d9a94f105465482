"""What a run tells: of its data (what was left out, what ``plan=check`` found), and at its end tables, verdict, model card."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from rankdistil.config.choices import teacher_name
from rankdistil.config.schema import plain
from rankdistil.data.batches.groups import told_left_out
from rankdistil.data.check.whole import Check
from rankdistil.data.collections.splits import told_sides
from rankdistil.data.windows import Windows
from rankdistil.files import write_text
from rankdistil.models.locate import locate, published
from rankdistil.report.results import (
    TIME,
    Result,
    Timing,
    read_first_stage,
    read_result,
    results_columns,
    speed,
    speed_columns,
    timing_notes,
)
from rankdistil.report.tables import Column, print_plain, to_markdown, to_table
from rankdistil.report.verdict import Verdict, depth_note, likely_cures, verdict


def data_notes(account: dict[str, Any]) -> list[str]:
    """Say what a run doesn't train on or can't rank; nothing where nothing is missing.

    Args:
        account: what a DataModule tells.
    """
    lines = [
        f"{file}: {told['bad']} of {told['lines'] or 'the'} lines are bad and left out (data.on_bad=skip). The first: "
        f"{told['first']}"
        for file, told in account["bad_lines"].items()
    ]
    if "holdout" in account:
        lines += told_sides(account["holdout"]["sides"], account["holdout"]["level"])
    lines += _training(account)
    if larger := account.get("max_tokens"):
        lines.append(
            f"training: {larger['larger']} of the first {larger['of']} {larger['what']} take more tokens than data.max_tokens="
            f"{larger['limit']}, the largest {larger['largest']}. Each is a batch by itself."
        )
    for split in ("valid", "test"):
        told, read = account.get(f"{split}_queries"), account.get(f"{split}_windows")
        lines += [f"{split}: {read['pairs']} documents are read in {read['windows']} windows."] if read else []
        if told and told["with_candidates"] < told["judged"]:
            lines.append(
                f"{split}: {told['with_candidates']} of {told['judged']} judged queries have candidates; the others count as 0."
            )
    return lines


def _training(account: dict[str, Any]) -> list[str]:
    training, margin = account.get("training_queries"), account.get("negatives_margin")
    if not training:
        return []
    queries, by_margin, lines = training["left_out"] + training["groups"], margin["queries"] if margin else 0, []
    if left_out := training["left_out"] - by_margin:
        lines.append(told_left_out(left_out, queries))
    if "same_text" in account:
        left_out = account["same_text"]
        lines.append(f"training: {left_out} negatives are left out: they have the text of a passage that answers their query.")
    if margin and margin["left_out"]:
        too_few = f", and {by_margin} of {queries} queries that are left with too few" if by_margin else ""
        told = f"{margin['left_out']} of {margin['of']} {margin['what']}"
        lines.append(f"training: data.negatives_margin leaves out {told}{too_few}.")
    return lines


def print_check(check: Check, on_bad: str, console: Console) -> None:
    """Print what was found.

    Args:
        check: splits that were looked through.
        on_bad: of ``data``.
        console: where to print.

    Raises:
        ValueError: if a run would stop at one of the problems.
    """
    numbers = [["" if number is None else str(number) for number in (row.lines, row.bytes)] for row in check.rows]
    columns = [
        Column("split", [", ".join(row.splits) for row in check.rows], text=True, folds=True, most=12),
        Column("file", [row.file for row in check.rows], text=True, folds=True, most=24),
        Column("lines", [lines for lines, _ in numbers]),
        Column("bytes", [size for _, size in numbers]),
        Column("sha256", [row.sha256 for row in check.rows], text=True),
        Column("holds", [row.told for row in check.rows], text=True, folds=True),
    ]
    console.print(to_table(columns, "data"))
    listings = check.listings.all()
    print_plain(console, check.facts)
    print_plain(console, [f"note: {note}" for note in check.notes])
    print_plain(console, [f"leak: {leak}" for leak in check.leaks])
    print_plain(console, [line for listing in listings for line in listing.shown()])
    print_plain(console, check.problems)
    stopping = [listing for listing in listings if listing.stops(on_bad)]
    count = len(check.problems) + sum(listing.found + listing.fatal for listing in stopping)
    if count:
        raise ValueError(f"check: a run would stop: {count} problems, listed above. Nothing was written.")
    left_out = sum(listing.found for listing in listings)
    found = f"{left_out} bad lines would be left out (data.on_bad=skip), no other problem" if left_out else "no problem"
    ending = f" that stops a run, but {len(check.leaks)} leaks between splits, listed above." if check.leaks else "."
    print_plain(console, [f"check: {found} found{ending}"])


TEMPLATE = """---
{language}{terms}library_name: sentence-transformers
pipeline_tag: text-ranking
tags: [sentence-transformers, cross-encoder, reranker, rankdistil]
model-index:
- name: {name}
  results:
  - task: {{type: text-ranking, name: Reranking}}
    dataset: {{name: {test_name}, type: {test_name}}}
    metrics: {metrics}
---

# {title}

A cross-encoder of the {family} family that scores query-passage pairs; a higher logit means more relevant. Made with
rankdistil {version} (commit {commit}), stage `{stage}`, seed {seed}.

| | |
|---|---|
| shape | {layers} layers, width {width}, {heads} heads, {parameters:,} parameters |
| learnt from | {learnt_from} |
| training data | {train} |
| losses | {losses} |
| steps | {steps} |
| precision | trained in {precision}, measured in float32 |
| input | {layout}, at most {max_length} tokens; the longer text is cut first (`longest_first`) |{windows}
| scores | logits, in any range; {scores} |

Texts are text: `{separator}` in a passage doesn't end it, here and in tools that read `split_special_tokens`.
The terms of the training data and of the starting checkpoint{base} apply to these weights.

## Measured

Test: {test}, {queries} queries, the first stage's candidates re-ranked.

{verdict}

{table}
{times}{notes}

## Use

```python
from sentence_transformers import CrossEncoder

ranker = CrossEncoder("path/to/this/folder")
ranker.rank("how long does a worker bee live", ["passage one", "passage two"])
```
"""

PLAIN = """---
{language}{terms}library_name: transformers
tags: [rankdistil]
---

# {title}

A small encoder of the {family} family without a ranking head, made with rankdistil {version} (commit {commit}), stage
`{stage}`, seed {seed}: the start of a student ranker (`student.init_from=export:<this folder>`).

| | |
|---|---|
| shape | {layers} layers, width {width}, {heads} heads |
| learnt from | {learnt_from} |
| text | {train} |
| losses | {losses} |
| steps | {steps} |
| precision | {precision} |
| {measure} | {best:.4f} |

The terms of the text and of the teacher's checkpoint{base} apply to these weights.
"""

BERT = {"family": "BERT", "layout": "[CLS] query [SEP] passage [SEP]"}  # in records of versions that knew no other


def write_plain_card(export: Path, cfg: DictConfig, run: dict[str, Any]) -> None:
    """Write ``README.md`` into the export folder of a student without a ranking head."""
    text = PLAIN.format(
        title=f"{cfg.method} {cfg.student.name}", version=run["origin"]["versions"]["rankdistil"],
        commit=run["origin"]["commit"], stage=cfg.stage.name, seed=cfg.seed, **BERT | run["shape"],
        learnt_from=run["learnt_from"], train=run["train"], losses=", ".join(run["losses"]), steps=cfg.stage.steps,
        precision=run["precision"], **run["validation"], language=_language(cfg), **_base(cfg, run),
    )  # fmt: skip
    write_text(export / "README.md", text)


def write_card(
    export: Path, cfg: DictConfig, results: Sequence[Result], timed: Mapping[str, str], run: dict[str, Any],
    timing: Timing | None, verdict: Sequence[str], scores: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write ``README.md`` into an export folder.

    Args:
        export: the folder.
        cfg: the run's config.
        results: rows of the table; the last one is the export itself.
        timed: the rankers that were timed: as timed -> as the table calls them.
        run: the run's record.
        timing: content of ``latency.json``; None if nothing was timed.
        verdict: lines that say whether it was worth it.
        scores: of the test's pairs, (N,).
    """
    own, shape = results[-1], BERT | run["shape"]
    slowest = "teacher" if "teacher" in timed else None
    times = to_markdown(speed_columns(timing, timed, slowest))
    text = TEMPLATE.format(
        title=f"{cfg.method} {own.name}", version=run["origin"]["versions"]["rankdistil"], commit=run["origin"]["commit"],
        stage=cfg.stage.name, seed=cfg.seed, **shape, separator=shape["layout"].split()[-1], language=_language(cfg),
        learnt_from=run["learnt_from"], train=run["train"], losses=", ".join(run["losses"]), steps=cfg.stage.steps,
        precision=run["precision"], max_length=cfg.data.max_length, windows=_windows(cfg),
        test=run["test"], queries=len(own.per_query), verdict="\n\n".join(verdict), times=times and f"{times}\n",
        table=to_markdown(results_columns(results, timed.get("teacher"))),
        notes="\n".join(f"- {note}" for note in timing_notes(timing)),
        name=json.dumps(f"{cfg.method} {own.name}"), test_name=json.dumps(run["test"]), scores=_told_range(scores),
        metrics=json.dumps([{"type": INDEXED[name], "name": name, "value": round(value, 4)}
                            for name, value in own.measures.items() if name in INDEXED]), **_base(cfg, run),
    )  # fmt: skip
    write_text(export / "README.md", text)


INDEXED = {"nDCG@10": "ndcg@10", "RR@10": "mrr@10", "AP": "map"}  # a measure -> its name in the hub's model-index


def _told_range(scores: NDArray[np.float64]) -> str:
    """Say between which numbers scores lie, all of them and the middle half."""
    low, first, third, high = (f"{value:.4g}" for value in np.quantile(scores, (0, 0.25, 0.75, 1)))
    return f"the test's are {low} to {high}, half of them {first} to {third}. Thresholds don't carry over to another ranker"


def _base(cfg: DictConfig, run: Mapping[str, Any]) -> dict[str, str]:
    """Tell the hub which checkpoint an export comes of, where that is known, and that the terms aren't ours to choose."""
    kind, _, pretrained = str(cfg.student.init_from).partition(":")
    path = pretrained if kind == "pretrained" and cfg.stage.learns == "student" else run.get("checkpoint", "")
    terms = "license: other\nlicense_name: terms-of-training-data-and-base-model\n"
    if (name := published(path)) is None:
        return {"terms": terms, "base": ""}
    folder = locate(path)
    card = folder / "README.md" if isinstance(folder, Path) else Path()
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    licence = re.match(r"---\n(?:(?!---).*\n)*?license: *(\S+)\n", text)  # in its front matter
    says = f", {licence[1]} by its card" if licence else ""
    return {"terms": f"{terms}base_model: {name}\n", "base": f" ({name}{says})"}


def _windows(cfg: DictConfig) -> str:
    """Say how documents are read, as a row of the card; nothing where they are cut."""
    windows = Windows.of(plain(cfg.data.get("windows")))
    told = "by rankdistil (Reranker, serve, rank); other tools cut them, and score otherwise"
    return f"\n| longer documents | read in {windows.told()} {told} |" if windows else ""


def _language(cfg: DictConfig) -> str:
    return f"language: {cfg.data.language}\n" if cfg.data.language else ""


FILES = "export/  metrics.json  per_query.jsonl  test.run  latency.json  run.json  checkpoints/"


class Tested(NamedTuple):
    """A run's test on one split.

    Attributes:
        split: name.
        folder: with the test's files.
        teacher: folder with those of the teacher; None for a stage without one.
        start: folder with those of the ranker before its training; None where that can't rank.
    """

    split: str
    folder: Path
    teacher: Path | None
    start: Path | None = None


class Ranked(NamedTuple):
    """The rows of a run's table. Attributes: first: the first stage; own: the run's; teacher, start: None without one."""

    first: Result
    own: Result
    teacher: Result | None
    start: Result | None

    @property
    def rows(self) -> list[Result]:
        """The rows in their order."""
        return [row for row in (self.first, self.teacher, self.start, self.own) if row is not None]

    @property
    def timed(self) -> dict[str, str]:
        """The rankers that are timed: as timed -> as tables call them."""
        return ({"teacher": self.teacher.name} if self.teacher else {}) | {"ranker": self.own.name}


def conclude(
    cfg: DictConfig, folder: Path, record: dict[str, Any], tested: Sequence[Tested], console: Console
) -> dict[str, float]:
    """Print the tables and the verdicts, and write the model card.

    Args:
        cfg: the run's config.
        folder: its folder.
        record: its record.
        tested: its test on each split; rankers are timed on the first.
        console: where to print.

    Returns:
        What a logger is told: ``test/nDCG@10`` and so on of the ranker, ``test/first_stage_...`` and ``test/teacher_...``, and
        its time, ``test/latency_ms_p50`` and ``test/passages_per_second``; of a further split ``test/<split>/...``.
    """
    timed = cfg.callbacks.inference_time is not None
    timing = json.loads((folder / "latency.json").read_text(encoding="utf-8")) if timed else None
    ranked = [_ranked(cfg, test, record, timing if number == 0 else None) for number, test in enumerate(tested)]
    cures = likely_cures(cfg.stage.learns, record["started_from"])
    verdicts = [verdict(*one, cures) for one in ranked]
    for test, rows in zip(tested, ranked, strict=True):
        _print(rows, test.split, timing if test is tested[0] else None, console)
    if timing is None:
        print_plain(console, timing_notes(None))
    print_plain(console, [f"trained in {record['precision']}, tested in float32"])
    further = ["tests/"] if len(tested) > 1 else []
    notes = depth_note(cfg.data.depth)
    files = FILES if timed else FILES.replace("latency.json  ", "")
    print_plain(console, [*notes, f"files: {folder}/  {'  '.join([files, *further])}", *_verdict_lines(tested, verdicts)])
    with (tested[0].folder / "test.run").open(encoding="utf-8") as file:
        scores = np.fromiter((float(line.split()[4]) for line in file), float)
    write_card(folder / "export", cfg, ranked[0].rows, ranked[0].timed, record, timing, [*verdicts[0].lines, *notes], scores)
    return _logged(tested, ranked)


def _logged(tested: Sequence[Tested], ranked: Sequence[Ranked]) -> dict[str, float]:
    values = {}
    for test, rows in zip(tested, ranked, strict=True):
        where = "test" if test is tested[0] else f"test/{test.split}"
        for role, row in (("", rows.own), ("first_stage_", rows.first), ("teacher_", rows.teacher)):
            values |= {f"{where}/{role}{name}": value for name, value in (row.measures if row else {}).items()}
    speed = {key: value for key, value in ranked[0].own.speed.items() if key in (TIME, "passages_per_second")}
    return values | {f"test/{key}": value for key, value in speed.items()}


def _verdict_lines(tested: Sequence[Tested], verdicts: Sequence[Verdict]) -> list[str]:
    """Give all verdicts, each with its split where there are several."""
    splits = [f" on {test.split}" if len(tested) > 1 else "" for test in tested]
    return [f"verdict{split}: {line}" for split, one in zip(splits, verdicts, strict=True) for line in one.lines]


def _ranked(cfg: DictConfig, test: Tested, record: dict[str, Any], timing: dict[str, Any] | None) -> Ranked:
    """Read first stage, teacher and start if there are any, and the ranker itself."""
    teacher = start = None
    if test.teacher is not None:
        teacher = read_result(test.teacher, f"teacher {teacher_name(cfg)}", timed=False)
        teacher = teacher if timing is None else teacher._replace(speed=speed(timing, "teacher"))
    if test.start is not None:
        start = read_result(test.start, f"start: {record['started_from']}", timed=False)
    name = f"teacher {cfg.teacher.name}" if cfg.stage.learns == "teacher" else f"student {cfg.student.name}"
    return Ranked(read_first_stage(test.folder), read_result(test.folder, name, timed=timing is not None), teacher, start)


def conclude_language_model(cfg: DictConfig, folder: Path, record: dict[str, Any], console: Console) -> None:
    """Print how a student without a ranking head did, say what starts from it, and write its card."""
    validation = record["validation"]
    print_plain(
        console,
        [
            f"student {cfg.student.name}: best {validation['measure']} {validation['best']:.4f}. It is a language model and "
            "ranks nothing yet: finetune and ranker_distill start from its export.",
            f"files: {folder}/  export/  run.json  metrics.csv  checkpoints/",
        ],
    )
    write_plain_card(folder / "export", cfg, record)


def _print(ranked: Ranked, split: str, timing: dict[str, Any] | None, console: Console) -> None:
    slowest = ranked.teacher.name if ranked.teacher and timing else None
    console.print(to_table(results_columns(ranked.rows, slowest), f"{split}, {len(ranked.first.per_query)} queries"))
    if timing is None:
        return
    if columns := speed_columns(timing, ranked.timed, "teacher" if slowest else None):
        console.print(to_table(columns, "inference time", framed=False))
    print_plain(console, timing_notes(timing))
