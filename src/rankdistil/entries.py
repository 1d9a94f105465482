"""What ``models=...`` names: runs, exports, hub ids and TREC run files, each with the row of the table that it belongs to."""

import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from rankdistil.lineage import changed_settings, read_record
from rankdistil.runfolder import run_label

SEED_NAME = re.compile(r"seed\d+")


class Entry(NamedTuple):
    """One thing to compare.

    Attributes:
        path: as named, or as a glob found it.
        kind: ``run``, ``export`` (a folder or a hub id) or ``ranking`` (a TREC run file).
        row: its row of the table; runs that differ by seed only share one.
        label: name of its files.
        run: the run's folder, for a run or an export inside of one.
        record: the run's ``run.json``.
    """

    path: str
    kind: str
    row: str
    label: str
    run: Path | None = None
    record: dict[str, Any] | None = None

    @property
    def export(self) -> str:
        """Folder or hub id of the ranker."""
        return str(self.run / "export") if self.run else self.path


def find_entries(models: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Expand globs.

    Args:
        models: paths, hub ids and globs; what exists under a name is that name, whatever signs it holds.

    Returns:
        The entries, teachers first, and a line for everything that a glob found and that is left out or set apart.

    Raises:
        FileNotFoundError: for a glob that matches nothing.
        ValueError: for something named outright that can't be compared, or two things whose files would share a name.
    """
    found: dict[str, Entry] = {}
    notes: list[str] = []
    for model in models:
        globbed = any(sign in model for sign in "*?[") and not Path(model).exists()  # a name may hold them
        matches = sorted(glob(model)) if globbed else [model]
        if not matches:
            raise FileNotFoundError(f"models={model} matches nothing. Name run folders or export folders.")
        for match in matches:
            entry = _entry(match)
            problem = _problem(entry)
            if problem and not globbed:
                raise ValueError(problem)
            if problem:
                notes.append(f"left out: {problem}")
            elif entry.label in found:
                other = found[entry.label].path
                raise ValueError(
                    f"models names {entry.label} twice: {other} and {match}. Their results would share a folder. "
                    "Name one of them."
                )
            else:
                found[entry.label] = entry
    if not found:
        raise ValueError("models names nothing that ranks:\n  " + "\n  ".join(notes))
    ordered = sorted(found.values(), key=lambda entry: entry.record is None or entry.record["stage"] != "teacher")
    return _apart(ordered, notes), notes


def _entry(path: str) -> Entry:
    place = Path(path)
    run = next((folder for folder in (place, place.parent) if (folder / "run.json").is_file()), None)
    if run is not None and (place == run or place.name == "export"):
        record = read_record(run)
        return Entry(path, "run", _row(run, record), run_label(run), run, record)
    if place.is_file():
        return Entry(path, "ranking", place.name, place.name)
    return Entry(path, "export", run_label(place), run_label(place))


def _row(run: Path, record: dict[str, Any]) -> str:
    """Name a run's row by method and size; by its run name too, where that isn't its seed's."""
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    size = cfg.teacher.name if record["stage"] == "teacher" else cfg.student.name
    name = f"{cfg.method} {size}"
    return name if SEED_NAME.fullmatch(cfg.run_name) else f"{name} {cfg.run_name}"


def _problem(entry: Entry) -> str | None:
    if entry.kind == "export" and Path(entry.path).is_dir() and not (Path(entry.path) / "config.json").is_file():
        return f"{entry.path} is neither a run (run.json) nor an export (config.json)."
    if entry.record is None:
        return None
    if entry.record["status"] != "finished":
        return f"{entry.run} is not finished. Run its command again with resume=true first."
    if entry.record["settings"].get("stage.learns") == "nothing":
        what = f"a teacher's scores (stage {entry.record['stage']}), not a ranker"
        return f"{entry.run} holds {what}. Name the students that learnt from them."
    if not entry.record.get("ranks", True):
        return (
            f"{entry.run} is a language model (stage {entry.record['stage']}) and can't rank yet. Name a run that starts from "
            "it: finetune or ranker_distill."
        )
    return None


def _apart(entries: list[Entry], notes: list[str]) -> list[Entry]:
    """Give a run that shares its row's name but not its settings a row of its own."""
    first: dict[str, Entry] = {}
    kept = []
    for entry in entries:
        other = first.setdefault(entry.row, entry)
        if entry.record and other.record:
            changed = changed_settings(*(_comparable(one.record) for one in (other, entry)))
            if changed:
                notes.append(f"{entry.run}: a row of its own, with other settings than {other.run}: {'; '.join(changed[:3])}")
                entry = entry._replace(row=f"{entry.row} {entry.run.name}")
        kept.append(entry)
    return kept


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    """What makes a run's row: its settings without the seed, and those of the runs that its student starts from.

    Students of all seeds share one teacher, so that counts as it is. A start that is no longer there counts by its fingerprint.
    """
    settings = {key: value for key, value in record["settings"].items() if key not in ("seed", "parents.student")}
    start = record["parents"].get("student")
    if start is None:
        return settings
    parent = read_record(Path(start["source"]).parent)
    if parent is None:
        return settings | {"parents.student": start["fingerprint"]}
    return settings | {f"start.{key}": value for key, value in _comparable(parent).items()}
