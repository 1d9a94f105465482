"""What was left out of the data, in words."""

from typing import Any

from rankdistil.data.holdout import told_sides


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
        told = account.get(f"{split}_queries")
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
        lines.append(
            f"training: {left_out} of {queries} queries are left out: they have no relevant passage, or too few candidates "
            "that aren't relevant."
        )
    if "same_text" in account:
        left_out = account["same_text"]
        lines.append(f"training: {left_out} negatives are left out: they have the text of a passage that answers their query.")
    if margin and margin["left_out"]:
        too_few = f", and {by_margin} of {queries} queries that are left with too few" if by_margin else ""
        told = f"{margin['left_out']} of {margin['of']} {margin['what']}"
        lines.append(f"training: data.negatives_margin leaves out {told}{too_few}.")
    return lines
