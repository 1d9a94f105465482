"""Names of the files in a folder where nobody says them: this project's own, or those of BEIR's folders.

BEIR (Thakur et al. 2021, arXiv:2104.08663) has one corpus, one file of queries for all splits, and judgments by split.
"""

from pathlib import Path

OWN = {"corpus": "corpus.tsv", "queries": "queries.{split}.tsv", "qrels": "qrels.{split}.txt"}
BEIR = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/{split}.tsv"}
PACKED = ("", ".gz", ".zst")
VALIDATION = "dev"  # how BEIR calls it


def file_name(root: str | None, kind: str, split: str = "") -> str:
    """Name a file of a folder.

    Args:
        root: the folder; None if it isn't known.
        kind: ``corpus``, ``queries`` or ``qrels``.
        split: ``train`` and so on.

    Returns:
        Its name, be it there or not.
    """
    if root is None or not is_beir(Path(root).expanduser()):
        return OWN[kind].format(split=split)
    name = BEIR[kind].format(split=split)
    there = (name + packed for packed in PACKED if (Path(root).expanduser() / (name + packed)).is_file())
    return next(there, name)


def validation_files(root: str | None) -> dict[str, str] | None:
    """Name the files of a BEIR folder's validation split; None if there is none."""
    if root is None or not is_beir(folder := Path(root).expanduser()):
        return None
    found = {kind: file_name(root, kind, VALIDATION) for kind in ("queries", "qrels")}
    return found if (folder / found["qrels"]).is_file() else None


def is_beir(folder: Path) -> bool:
    """Whether a folder is laid out as BEIR's are."""
    return (folder / "qrels").is_dir() and not (folder / OWN["corpus"]).exists()
