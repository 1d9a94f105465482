"""What was left out of the data, in words."""

from typing import Any


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
    training = account.get("training_queries")
    if training and training["left_out"]:
        lines.append(
            f"training: {training['left_out']} of {training['left_out'] + training['groups']} queries are left out: they have "
            "no relevant passage, or too few candidates that aren't relevant."
        )
    for split in ("valid", "test"):
        told = account.get(f"{split}_queries")
        if told and told["with_candidates"] < told["judged"]:
            lines.append(
                f"{split}: {told['with_candidates']} of {told['judged']} judged queries have candidates; the others count as 0."
            )
    return lines
