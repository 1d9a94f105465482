"""The report of a comparison on disk: ``report.md`` to read, ``report.json`` to compute with."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rankdistil.files import write_json, write_text
from rankdistil.report.columns import Column, to_markdown
from rankdistil.report.comparison import Row
from rankdistil.report.comparison_table import markdown


def write_report(
    folder: Path,
    rows: Sequence[Row],
    teacher: str | None,
    baseline: str,
    title: str,
    notes: Sequence[str],
    setup: Mapping[str, Any] | None,
    origin: Mapping[str, Any],
    sources: Mapping[str, Sequence[str]],
    pictures: Sequence[Path] = (),
    times: Sequence[Column] = (),
) -> None:
    """Write ``report.md`` and ``report.json``, each in one step.

    Args:
        folder: where the files go.
        rows: of the comparison.
        teacher: name of its row, if there is one.
        baseline: name of its row.
        title: what was ranked.
        notes: the table's legend.
        setup: ``setup`` of ``latency.json``; None if nothing was timed.
        origin: commit, versions, device and threads, as ``rankdistil.lineage.origin`` gives them.
        sources: for each row's name the folders or commands that its rankers come from.
        pictures: files in the folder, shown in ``report.md`` if they are PNG.
        times: columns of a second table, of inference time; none if the first says it all.

    Raises:
        ValueError: for a row without a source, or a number that is NaN.
    """
    unknown = [row.name for row in rows if not sources.get(row.name)]
    if unknown:
        raise ValueError(f"no source is given for {', '.join(unknown)}. A report says where every row comes from.")
    written = datetime.now().isoformat(sep=" ", timespec="seconds")
    content = {
        "title": title,
        "written": written,
        "origin": dict(origin),
        "setup": None if setup is None else dict(setup),
        "teacher": teacher,
        "baseline": baseline,
        "rows": [_plain(row) | {"sources": list(sources[row.name])} for row in rows],
        "notes": list(notes),
    }
    text = f"# {title}\n\nWritten {written}, commit {origin['commit']}, on {origin['device']}, {origin['threads']} threads.\n\n"
    text += markdown(rows, teacher, baseline) + "\n" + "".join(f"- {note}\n" for note in notes)
    text += f"\n{to_markdown(times)}" if times else ""
    judged = "".join(f"- {line}\n" for row in rows for line in row.verdict)
    text += f"\n## Verdicts\n\n{judged}" if judged else ""
    text += "".join(f"\n![{file.stem}]({file.name})\n" for file in pictures if file.suffix == ".png")
    text += "\n## Where the rows come from\n\n"
    text += "".join(f"- {row.name}: {', '.join(f'`{source}`' for source in sources[row.name])}\n" for row in rows)
    write_json(folder / "report.json", content)
    write_text(folder / "report.md", text)


def _plain(row: Row) -> dict[str, Any]:
    tests = {"against_teacher": row.against_teacher, "against_baseline": row.against_baseline, "leak": row.leak}
    return row._asdict() | {key: test and test._asdict() for key, test in tests.items()}
