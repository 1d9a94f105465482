"""Runs train.py after registering a collection with ir_datasets, by that library's own readers of its own file layout.

``python registered.py <name> <folder> <arguments of train.py>``: the folder holds docs.tsv, and <split>.queries.tsv and
<split>.qrels.txt of the splits train and test; <split>.triples.tsv and <split>.run.txt where there are some.
"""

import runpy
import sys
from pathlib import Path

import ir_datasets
from ir_datasets.formats import TrecQrels, TrecScoredDocs, TsvDocPairs, TsvDocs, TsvQueries
from ir_datasets.util.download import LocalDownload


def register(name: str, folder: Path) -> None:
    """Make ``<name>/train`` and ``<name>/test`` known to ``ir_datasets.load``."""
    docs = TsvDocs(LocalDownload(folder / "docs.tsv"), namespace=name, lang="en")
    ir_datasets.registry.register(name, ir_datasets.Dataset(docs))
    for split in ("train", "test"):
        parts = [
            TsvQueries(LocalDownload(folder / f"{split}.queries.tsv"), namespace=name, lang="en"),
            TrecQrels(LocalDownload(folder / f"{split}.qrels.txt"), {}),
        ]
        for file, kind in ((f"{split}.triples.tsv", TsvDocPairs), (f"{split}.run.txt", TrecScoredDocs)):
            if (folder / file).is_file():
                parts.append(kind(LocalDownload(folder / file)))
        ir_datasets.registry.register(f"{name}/{split}", ir_datasets.Dataset(docs, *parts))


if __name__ == "__main__":
    register(sys.argv[1], Path(sys.argv[2]))
    script = Path(__file__).parents[2] / "train.py"
    sys.argv = [str(script), *sys.argv[3:]]
    runpy.run_path(str(script), run_name="__main__")
