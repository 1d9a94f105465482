"""Entries of ``models=...``: runs, exports, hub ids and TREC run files, each with the row of the table that it belongs to."""

import re
from collections.abc import Mapping, Sequence
from glob import escape, glob
from pathlib import Path
from typing import Any, NamedTuple

from rankdistil.config.schema import plain
from rankdistil.data.windows import Windows
from rankdistil.files import changed_settings, holder
from rankdistil.inference.export_files import read_windows
from rankdistil.models.checkpoints import read_config
from rankdistil.models.locate import EXPORT, require_as_written
from rankdistil.runs.record import read_record, run_config, run_label

SEEDED = {"student": "start", "assistant": "assistant"}  # by role, as settings of theirs are called
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
        size: of its network, as its row has it; empty for what is no run.
        windows: name of those that its documents are read in; None for those of the test's data or, without, its own.
    """

    path: str
    kind: str
    row: str
    label: str
    run: Path | None = None
    record: dict[str, Any] | None = None
    size: str = ""
    windows: str | None = None

    def read_in(self, windows: str) -> "Entry":
        """Return the same ranker, in a row of its own, with documents read in the windows of that name."""
        return self._replace(row=f"{self.row} {windows}", label=f"{self.label}_{windows}", windows=windows)

    @property
    def export(self) -> str:
        """Folder or hub id of the ranker."""
        return str(self.run / EXPORT) if self.run else self.path

    def own_windows(self) -> dict[str, Any] | None:
        """Return the windows that the ranker was trained with; None for one that cuts documents, and for a ranking file."""
        if self.kind == "ranking":
            return None
        if self.run is not None:
            return plain(run_config(self.run).data.get("windows"))
        own = read_windows(self.path, read_config(self.path))
        return None if own is None else own.values()


def in_windows(entries: Sequence[Entry], named: Mapping[str, Any] | None) -> list[Entry]:
    """Give each ranker a row for each of the windows ``named``, if there are some; a ranking file is what it is."""
    return [row for one in entries for row in (map(one.read_in, named) if named and one.kind != "ranking" else [one])]


def windows_of(entry: Entry, named: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the windows that an entry is tested with: those of its row, else those that were asked for, else its own.

    Args:
        entry: a ranker; a ranking file has none.
        named: windows by name.
        data: settings of the test; without ``windows`` nobody asked for any.
    """
    if entry.windows is not None:
        return named[entry.windows]
    return data["windows"] if "windows" in data else entry.own_windows()


def told_windows(entries: Sequence[Entry], read: Mapping[str, Any]) -> list[str]:
    """Say of each row how documents are read, and where that isn't as in training; nothing where all are cut, as ever.

    Args:
        entries: what is tested.
        read: windows of each by label, see ``windows_of``.
    """
    found = {one.row: tuple(map(Windows.of, (read[one.label], one.own_windows()))) for one in entries if one.kind != "ranking"}
    if not any(any(each) for each in found.values()):
        return []
    told = []
    for row, ways in found.items():
        now, own = (f"read in {one.told()}" if one else "cut" for one in ways)
        told.append(f"{row}: a longer document is {now}{'' if now == own else f', not {own}, as in its training'}.")
    return told


def find_entries(models: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Expand globs.

    Args:
        models: paths, hub ids and globs; what exists under a name is that name, whatever signs it holds.

    Returns:
        The entries, teachers first, and a line for everything that a glob found and that is left out or set apart.

    Raises:
        FileNotFoundError: for a glob that matches nothing.
        ValueError: for something named outright that can't be compared, as a run that isn't finished, or two things whose
            files would share a name.
    """
    found: dict[str, Entry] = {}
    notes: list[str] = []
    for model in models:
        globbed = any(sign in model for sign in "*?[") and not Path(model).exists()  # a name may hold them
        matches = sorted(glob(_pattern(model))) if globbed else [model]
        if not matches:
            raise FileNotFoundError(f"models={model} matches nothing. Name run folders or export folders.")
        for match in matches:
            try:
                entry = _entry(match)
            except ValueError as error:
                if not globbed:
                    raise
                notes.append(f"left out: {error}")
                continue
            if entry.run is not None:
                require_as_written(entry.run / EXPORT)  # also of what a glob found: what is damaged isn't left out silently
            if entry.label in found:
                other = found[entry.label].path
                raise ValueError(
                    f"models names {entry.label} twice: {other} and {match}. Their results would share a folder. "
                    "Name one of them."
                )
            found[entry.label] = entry
    if not found:
        raise ValueError("models names nothing that ranks:\n  " + "\n  ".join(notes))
    ordered = sorted(found.values(), key=lambda entry: entry.record is None or entry.record["stage"] != "teacher")
    return _apart(ordered, notes), notes


def _pattern(model: str) -> str:
    """Make a glob of which the folders that exist are themselves, whatever signs they hold."""
    parts = Path(model).parts
    there = max((number for number in range(1, len(parts)) if Path(*parts[:number]).is_dir()), default=0)
    return str(Path(escape(str(Path(*parts[:there]))), *parts[there:])) if there else model


def _entry(path: str) -> Entry:
    """Describe what a path names.

    Raises:
        ValueError: for what can't be compared.
    """
    place = Path(path)
    run = next((folder for folder in (place, place.parent) if (folder / "run.json").is_file()), None)
    if run is not None and (place == run or place.name == EXPORT):
        record = read_record(run)
        if (ranking := run / "test.run").is_file() and record["settings"].get("scorer.kind"):
            return Entry(str(ranking), "ranking", _scorer_row(run), run_label(run), run)
        _require_ranking(run, record)
        row, size = _row(run, record)
        return Entry(path, "run", row, run_label(run), run, record, size)
    if place.is_file():
        return Entry(path, "ranking", place.name, place.name)
    if place.is_dir() and not (place / "config.json").is_file():
        raise ValueError(f"{path} is neither a run (run.json) nor an export (config.json).")
    return Entry(path, "export", run_label(place), run_label(place))


def _row(run: Path, record: dict[str, Any]) -> tuple[str, str]:
    """Name a run's row by method and size; by its run name too, where that isn't its seed's. Return the size beside it."""
    cfg = run_config(run)
    size = cfg.teacher.name if record["stage"] == "teacher" else cfg.student.name
    name = f"{cfg.method} {size}"
    return name if SEED_NAME.fullmatch(str(cfg.run_name)) else f"{name} {cfg.run_name}", size


def _scorer_row(run: Path) -> str:
    """Name the row of a teacher that only scored: its kind and name."""
    teacher = run_config(run).teacher
    return f"{teacher.kind} {teacher.name}"


def _require_ranking(run: Path, record: dict[str, Any]) -> None:
    """Refuse a run that isn't finished, or that ranks nothing."""
    status = record.get("status")
    if status != "finished":
        going = holder(run) is not None
        told = status if going or status == "failed" else "stopped"  # a killed one couldn't write that it was
        how = "It is under way." if going else "Run its command again, with resume=true if it left a checkpoint."
        raise ValueError(f"{run} is not finished ({told}). {how}")
    read_record(run, "stage", "parents")
    if record.get("test_pending"):
        raise ValueError(f"{run} was trained, but its last test didn't end. Run its command again first.")
    if record["settings"].get("stage.learns") == "nothing":
        what = "mined negatives" if "stage.depth" in record["settings"] else "a teacher's scores"
        told = f"{run} holds {what} (stage {record['stage']}), not a ranker"
        raise ValueError(f"{told}. Name the students that learnt from them.")
    if not record.get("ranks", True):
        raise ValueError(
            f"{run} is a language model (stage {record['stage']}) and can't rank yet. Name a run that starts from "
            "it: finetune or ranker_distill."
        )


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
    """What makes a run's row: its settings without the seed, and those of the runs that each seed has its own of.

    These are its start and its assistant; one that is no longer there counts by its fingerprint. Students of all seeds share
    one teacher, so that counts as it is.
    """
    settings = {key: value for key, value in record["settings"].items() if key != "seed"}
    for role, name in SEEDED.items():
        if parent := record["parents"].get(role):
            made = read_record(Path(parent["source"]).parent)
            settings[f"parents.{role}"] = parent["fingerprint"] if made is None else name
            settings |= {} if made is None else {f"{name}.{key}": value for key, value in _comparable(made).items()}
    return settings
