"""Fetches the files of ir_datasets ids that this machine lacks, each once for all processes, on a machine with a network.

::

    python -m rankdistil.data.fetch msmarco-passage/train/triples-small msmarco-passage/trec-dl-2019/judged

id
    One or more ids of https://ir-datasets.com. Everything that such a dataset has is fetched. Files go to IR_DATASETS_HOME
    (by default ``~/.ir_datasets``); copy that folder to a machine without a network.

ir_datasets downloads at first use, in whichever process comes first, and tries a silent network for a minute per file. Here
it is known before a run starts what is missing, and a network that doesn't answer is found out in seconds.
"""

import sys
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import ir_datasets
from ir_datasets import util
from ir_datasets.util.download import Download, LocalDownload
from ir_datasets.util.fileio import Cache, TarExtractAll, ZipExtractCache

from rankdistil.cli import run_command
from rankdistil.files import locked

KINDS = ("docs", "queries", "qrels", "docpairs", "scoreddocs")
ANSWERS_WITHIN_S = 5.0
if hasattr(tarfile, "data_filter"):  # ir_datasets unpacks whole archives: from here on as Python 3.14 does, nothing beside them
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
else:

    def _too_old(*_: Any, **__: Any) -> None:
        raise tarfile.TarError("this Python can't keep an archive's members inside its folder; 3.11.4 and later can")

    tarfile.TarFile.extract = tarfile.TarFile.extractall = _too_old


Wanted = dict[str, tuple[ir_datasets.Dataset, Collection[str]]]
"""By id, the dataset and what of it is read, among ``KINDS``."""


class Missing(NamedTuple):
    """A file to fetch.

    Attributes:
        urls: where it is published; any of them will do.
        size: bytes, if known.
        local: whether it lies on this machine already, to be unpacked.
    """

    urls: tuple[str, ...]
    size: int | None
    local: bool

    def __str__(self) -> str:
        size = (
            "" if self.size is None else f" ({self.size / 1e9:.2f} GB)" if self.size >= 1e7 else f" ({self.size / 1e6:.2f} MB)"
        )
        return f"{self.urls[0] if self.urls else 'no address'}{size}"


def missing(dataset: ir_datasets.Dataset, kinds: Iterable[str]) -> list[Missing]:
    """List the files that a dataset still has to fetch, once each.

    Args:
        dataset: a registered dataset.
        kinds: what of it is read, among ``KINDS``; what it hasn't got is skipped.
    """
    downloads = {id(file): file for place in _places(dataset, kinds) for file in _downloads(place)}
    return list(dict.fromkeys(_describe(file) for file in downloads.values()))


def fetch(wanted: Wanted) -> None:
    """Fetch what is missing, and unpack it; a second process waits for the first.

    Args:
        wanted: what is read.

    Raises:
        ConnectionError: if the network doesn't answer, with everything that is missing and how to get it.
        ValueError: if a file isn't what it should be.
    """
    if not any(_places(dataset, kinds) for dataset, kinds in wanted.values()):
        return
    _require_network(wanted, all_missing(wanted))
    with locked(home(), wait=True, choice="IR_DATASETS_HOME"):
        for name, (dataset, kinds) in wanted.items():
            for place in _places(dataset, kinds):
                try:
                    place.verify() if isinstance(place, Cache) else place.path()
                except util.HashVerificationError as error:
                    raise ValueError(
                        f"{name}: a file isn't the one that was published ({error}). Nothing of it was kept: try again."
                    ) from None
                except tarfile.TarError as error:
                    raise ValueError(f"{name}: an archive isn't unpacked: {error}. Nothing of it was kept.") from None
                except (OSError, EOFError) as error:
                    raise ConnectionError(f"{_told(wanted, all_missing(wanted), f'fetching stopped ({error})')}") from None


def home() -> Path:
    """Return where ir_datasets keeps its files."""
    return Path(util.home_path())


def all_missing(wanted: Wanted) -> list[Missing]:
    """List the files that several datasets still have to fetch, once each."""
    return list(dict.fromkeys(file for dataset, kinds in wanted.values() for file in missing(dataset, kinds)))


def _require_network(wanted: Wanted, files: list[Missing]) -> None:
    import requests

    answered: dict[str, str | None] = {}  # by host: None, or why it doesn't answer
    for file in files:
        if file.local:
            continue
        for url in file.urls:
            host = urlsplit(url).netloc
            if host not in answered:
                try:
                    requests.head(url, timeout=ANSWERS_WITHIN_S)
                    answered[host] = None
                except requests.exceptions.RequestException as error:
                    answered[host] = type(error).__name__
        hosts = [urlsplit(url).netloc for url in file.urls]
        if all(answered[host] for host in hosts):
            why = ", ".join(f"{host}: {answered[host]}" for host in hosts) or "they have no address"
            raise ConnectionError(_told(wanted, files, f"can't be fetched ({why})"))


def _told(wanted: Iterable[str], files: list[Missing], what: str) -> str:
    rows = "\n  ".join(map(str, files))
    return (
        f"{', '.join(wanted)}: {len(files)} files are not on this machine, and {what}:\n  {rows}\n"
        f"They go to {home()} (IR_DATASETS_HOME names another folder). Where there is a network, run\n"
        f"  python -m rankdistil.data.fetch {' '.join(wanted)}\nand copy that folder here; or read files you have (data=files)."
    )


def _places(dataset: ir_datasets.Dataset, kinds: Iterable[str]) -> list[Any]:
    """Find the outermost files that are to be made, in a dataset's handlers."""
    handlers = [getattr(dataset, f"{kind}_handler")() for kind in kinds if getattr(dataset, f"has_{kind}")()]
    found: dict[int, Any] = {}
    seen: set[int] = set()
    for handler in handlers:
        found |= {id(place): place for place in _walk(handler, seen)}
    return list(found.values())


def _walk(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple):
        for child in value:
            yield from _walk(child, seen)
    elif isinstance(value, Cache):
        if not Path(value._path).exists():
            yield value
    elif isinstance(value, TarExtractAll | ZipExtractCache):
        if not Path(value._extract_path).exists():
            yield value
    elif isinstance(value, Download):
        if value._cache_path is not None and not Path(value._cache_path).exists():
            yield value
    elif type(value).__module__.startswith("ir_datasets") and hasattr(value, "__dict__"):
        for child in vars(value).values():
            yield from _walk(child, seen)


def _downloads(place: Any) -> Iterator[Download]:
    """Find what a file is made of that has to be fetched."""
    if isinstance(place, Download):
        if place._cache_path is None or not Path(place._cache_path).exists():
            yield place
    elif type(place).__module__.startswith("ir_datasets") and hasattr(place, "__dict__"):
        if isinstance(place, Cache) and Path(place._path).exists():
            return
        for child in vars(place).values():
            yield from _downloads(child)


def _describe(file: Download) -> Missing:
    urls = tuple(mirror.url for mirror in file.mirrors if hasattr(mirror, "url"))
    local = any(isinstance(mirror, LocalDownload) and Path(mirror._path).exists() for mirror in file.mirrors)
    return Missing(urls, file._size_hint, local)


def main(words: Sequence[str]) -> int:
    """Fetch all of the ids on the command line.

    Returns:
        The exit status, see ``run_command``.
    """

    def task() -> None:
        from rankdistil.data.collections.reader import Reader

        fetch({name: (Reader(name).dataset, KINDS) for name in words})
        print(f"{', '.join(words)}: everything is in {home()}")

    return run_command(words, __doc__, task)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
