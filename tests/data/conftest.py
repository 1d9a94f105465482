"""A collection that can be checked by hand: five passages, three questions, one tie among the candidates."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from rankdistil.data.files.folder import FolderSplit
from rankdistil.models.checkpoints import load_tokenizer
from tests.conftest import MINILM

FILES = {
    "corpus.tsv": (
        "a\tApples grow on trees.\n"
        "b\tBees make honey from nectar.\n"
        "c\tCats sleep most of the day.\n"
        "d\tDogs descend from wolves.\n"
        "e\tPears and apples are fruit.\n"
    ),
    "queries.tsv": "1\twhere do apples grow\n2\twhat do bees make\n3\thow long do cats sleep\n",
    "qrels.txt": "1 0 a 2\n1 0 d 0\n2 0 b 1\n3 0 c 1\n",
    "triples.tsv": "1\ta\te\n1\ta\tb\n2\tb\tc\n3\tc\td\n",
    "run.txt": (
        "1 Q0 d 1 1.5 tag\n1 Q0 a 2 3.0 tag\n1 Q0 e 3 1.5 tag\n2 Q0 b 1 2.0 tag\n2 Q0 c 2 1.0 tag\n"
        "3 Q0 d 1 4.0 tag\n3 Q0 c 2 3.5 tag\n"
    ),
}


@pytest.fixture
def collection(tmp_path: Path) -> Callable[..., FolderSplit]:
    """Write the collection into ``tmp_path``; ``collection(qrels=...)`` replaces the text of a file."""

    def write(**changed: str) -> FolderSplit:
        for name, text in FILES.items():
            (tmp_path / name).write_text(changed.get(name.split(".")[0], text), encoding="utf-8")
        return FolderSplit(str(tmp_path), *FILES)

    return write


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of a real BERT."""
    return load_tokenizer(MINILM)
