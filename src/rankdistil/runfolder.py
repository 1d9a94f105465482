"""A run's folder: what state it is in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rankdistil.files import changed_settings, is_unfinished
from rankdistil.lineage import read_record
from rankdistil.locks import LOCK, holder

BEGUN = (LOCK, ".hydra")  # what a run writes before its run.json
PRODUCTS = ("export/config.json", "scores/scores.json")  # what a finished run leaves for others


class State(NamedTuple):
    """What has to be done for a run.

    Attributes:
        name: ``finished``, ``to test``, ``running`` (another process), ``to resume`` or ``to run``.
        reason: why, in words.
    """

    name: str
    reason: str


def state(folder: Path, settings: dict[str, Any], tests: Sequence[dict[str, Any]] | None = None) -> State:
    """Say what has to be done for a run.

    Args:
        folder: the run's folder.
        settings: what the run is asked to be made with.
        tests: what it is asked to be tested on and how, for each split; None for a parent, of which its weights are used.

    Raises:
        ValueError: if the folder holds a run made with other settings, naming each difference, or files that are no run.
    """
    record = read_record(folder)
    if record is None:
        refuse_occupied(folder)
        return State("to run", "no run yet")
    changed = changed_settings(record["settings"], settings)
    if changed:
        shown = "\n  ".join(changed[:12]) + (f"\n  and {len(changed) - 12} more" if len(changed) > 12 else "")
        fix = (
            "Ways out: take back the override, or put back a file that has changed; name another folder for the new run "
            "(run_name=..., for a teacher teacher.run=teacher/<name>/<name>, for the run that it follows follows_run=<name>; "
            "paths.runs=runs/<name> keeps all runs on other data apart); or use this one as it is: "
            f"teacher.export={folder / 'export'}, or student.init_from=export:{folder / 'export'}."
        )
        raise ValueError(f"{folder} holds a run made with other settings (there -> asked for):\n  {shown}\n{fix}")
    if record["status"] == "finished":
        if not any((folder / product).is_file() for product in PRODUCTS):
            raise ValueError(f"{folder} is a finished run without its export. Remove the folder to run it again.")
        if tests is not None and (untested := _untested(record, tests)):
            return State("to test", f"finished {record['finished']}; {untested}: tested again")
        return State("finished", f"finished {record['finished']}, same settings")
    for left in ("checkpoints/last.ckpt", "scores"):
        if (folder / left).exists():
            return State("to resume", f"stopped before its end; {folder / left} is there")
    return State("to run", "stopped before its first checkpoint")


def _untested(record: dict[str, Any], tests: Sequence[dict[str, Any]]) -> str:
    """Say why a finished run's test isn't the one that is asked for; nothing if it is."""
    if record.get("test_pending"):
        return "its last test didn't end"
    made = record.get("tests", [])
    if len(made) != len(tests):
        return f"other test settings ({len(made)} test splits -> {len(tests)})"
    changed = [row for old, new in zip(made, tests, strict=True) for row in changed_settings(old, new)]
    shown = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return f"other test settings ({shown})" if changed else ""


def refuse_occupied(folder: Path) -> None:
    """Refuse to run where something else is: a run writes into an empty folder, or one where a run was killed as it began.

    Raises:
        ValueError: naming what is there.
    """
    there = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path.name for path in there if path.name not in BEGUN and not is_unfinished(path))
    if found and holder(folder) is None:  # a run that is just starting holds its lock
        raise ValueError(
            f"{folder} holds {', '.join(found[:4])}{' and more' if len(found) > 4 else ''}, but no run (no run.json). "
            "Name another folder (run_name=..., teacher.run=teacher/<name>/<name>, follows_run=...), or move these away."
        )


def run_label(folder: Path) -> str:
    """Name a run (method, student, run name) or any other folder by the last parts of its path, as its test files do."""
    return "_".join(part for part in folder.parts[-3:] if part != folder.anchor)
