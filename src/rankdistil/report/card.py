"""The model card of an export: what it is, what it was measured at, how to load it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rankdistil.files import write_text
from rankdistil.report.columns import to_markdown
from rankdistil.report.result import Result
from rankdistil.report.speed import Timing, speed_columns, timing_notes
from rankdistil.report.table import results_columns

TEMPLATE = """---
language: en
library_name: sentence-transformers
pipeline_tag: text-ranking
tags: [sentence-transformers, cross-encoder, reranker, rankdistil]
---

# {title}

A BERT cross-encoder that scores query-passage pairs; a higher logit means more relevant. Made with rankdistil {version}
(commit {commit}), stage `{stage}`, seed {seed}.

| | |
|---|---|
| shape | {layers} layers, width {width}, {heads} heads, {parameters:,} parameters |
| learnt from | {learnt_from} |
| training data | {train} |
| losses | {losses} |
| steps | {steps} |
| precision | trained in {precision}, measured in float32 |
| input | [CLS] query [SEP] passage [SEP], at most {max_length} tokens; the longer text is cut first (`longest_first`) |

Texts are text: `[SEP]` in a passage doesn't end it, here and in tools that read `split_special_tokens`.
The terms of the training data and of the starting checkpoint apply to these weights.

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
language: en
library_name: transformers
tags: [rankdistil]
---

# {title}

A small BERT without a ranking head, made with rankdistil {version} (commit {commit}), stage `{stage}`, seed {seed}: the start
of a student ranker (`student.init_from=export:<this folder>`).

| | |
|---|---|
| shape | {layers} layers, width {width}, {heads} heads |
| learnt from | {learnt_from} |
| text | {train} |
| losses | {losses} |
| steps | {steps} |
| precision | {precision} |
| {measure} | {best:.4f} |

The terms of the text and of the teacher's checkpoint apply to these weights.
"""


def write_plain_card(export: Path, cfg: DictConfig, run: dict[str, Any]) -> None:
    """Write ``README.md`` into the export folder of a student without a ranking head."""
    text = PLAIN.format(
        title=f"{cfg.method} {cfg.student.name}", version=run["origin"]["versions"]["rankdistil"],
        commit=run["origin"]["commit"], stage=cfg.stage.name, seed=cfg.seed, **run["shape"], learnt_from=run["learnt_from"],
        train=run["train"], losses=", ".join(run["losses"]), steps=cfg.stage.steps,
        precision=run["precision"], **run["validation"],
    )  # fmt: skip
    write_text(export / "README.md", text)


def write_card(
    export: Path, cfg: DictConfig, results: Sequence[Result], timed: Mapping[str, str], run: dict[str, Any],
    timing: Timing | None, verdict: Sequence[str],
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
    """
    own, shape = results[-1], run["shape"]
    slowest = "teacher" if "teacher" in timed else None
    times = to_markdown(speed_columns(timing, timed, slowest))
    text = TEMPLATE.format(
        title=f"{cfg.method} {own.name}", version=run["origin"]["versions"]["rankdistil"], commit=run["origin"]["commit"],
        stage=cfg.stage.name, seed=cfg.seed, **shape,
        learnt_from=run["learnt_from"], train=run["train"], losses=", ".join(run["losses"]), steps=cfg.stage.steps,
        precision=run["precision"], max_length=cfg.data.max_length,
        test=run["test"], queries=len(own.per_query), verdict="\n\n".join(verdict), times=times and f"{times}\n",
        table=to_markdown(results_columns(results, timed.get("teacher"))),
        notes="\n".join(f"- {note}" for note in timing_notes(timing)),
    )  # fmt: skip
    write_text(export / "README.md", text)
