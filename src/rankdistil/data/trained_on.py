"""What a ranker was trained on: marks of its queries, kept in its run folder, so that a test can tell what it has seen before.

A run's file holds those of its parents too: a student learns from its teacher's memory. Asking the config was rejected: files
change, and each test would have to read forty million triples. The price here is 16 bytes a query.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.same_text import digest, mark, normal
from rankdistil.files import written

FILE = "trained_on.npy"
EXAMPLES = 3


class Leak(NamedTuple):
    """Test queries that a ranker, or what it learnt from, was trained on.

    Attributes:
        queries: how many have the text of a training query.
        of: how many there are.
        examples: ids of the first ones.
        other_text: how many have the id of a training query, but another text.
    """

    queries: int
    of: int
    examples: list[str]
    other_text: int

    def told(self) -> str:
        """Say how many, with examples."""
        return f"{self.queries} of {self.of} test queries, for example {', '.join(self.examples)}"


def write_trained_on(folder: Path, queries: Mapping[str, str], learnt_from: Iterable[Path]) -> None:
    """Write what a run is trained on into its folder.

    Args:
        folder: of the run.
        queries: its training queries, text by id.
        learnt_from: folders of the runs that it starts or learns from; of those without such a file nothing is known.
    """
    own = np.array([_marks(key, text) for key, text in queries.items()], np.int64).reshape(-1, 2)
    found = [marks for marks in map(_read, learnt_from) if marks is not None]
    with written(folder / FILE) as place, place.open("wb") as file:
        np.save(file, np.unique(np.concatenate([own, *found]), axis=0))


def find_leak(folder: Path, queries: Mapping[str, str]) -> Leak | None:
    """Compare test queries with those that the ranker of a run was trained on; None where that isn't known.

    Args:
        folder: of the run.
        queries: of the test, text by id.

    Raises:
        ValueError: if the run's file is damaged.
    """
    trained = _read(folder)
    if trained is None:
        return None
    ids, texts = (set(column) for column in trained.T.tolist())
    marks = {key: _marks(key, text) for key, text in queries.items()}
    leaked = sorted(key for key, (_, text) in marks.items() if text in texts and normal(queries[key]))
    other = sum(own in ids and text not in texts for own, text in marks.values())
    return Leak(len(leaked), len(queries), leaked[:EXAMPLES], other)


def _marks(key: str, text: str) -> tuple[int, int]:
    return digest(key), mark(text)


def _read(folder: Path) -> NDArray[np.int64] | None:
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it to test without knowing what was trained on.") from None
    if found.dtype != np.int64 or found.ndim != 2 or found.shape[1] != 2:
        raise ValueError(f"{path} is damaged. Remove it to test without knowing what was trained on.")
    return found
