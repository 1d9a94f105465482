"""Ids by text, for files that name queries and passages by what they say."""

from hashlib import blake2b
from pathlib import Path

from rankdistil.data.parse import texts

DIGEST = 16  # bytes kept of a text: among ten million, two share them with a chance below 1e-24


class TextIds:
    """Finds ids by their exact text. The file is read when the first is asked for.

    Args:
        file: ``id<TAB>text``, or BEIR's JSON lines or Parquet; None if none was named.
        key: of the command line, that names it.
    """

    def __init__(self, file: Path | None, key: str) -> None:
        self._file, self._key = file, key
        self._ids: dict[bytes, str] | None = None
        self._shared: set[bytes] = set()  # texts of several ids
        self._doubtful: set[bytes] = set()  # those of them that were asked for

    @property
    def doubtful(self) -> int:
        """Count the texts asked for that several ids have; the first in the file was returned."""
        return len(self._doubtful)

    def of(self, text: str, where: str) -> str:
        """Return the id of a text, the first in the file if several have it.

        Args:
            text: exactly as in the file, a title in front of it included.
            where: file and line that ask, for messages.

        Raises:
            ValueError: if no id has the text, or no file was named.
        """
        if self._file is None:
            raise ValueError(
                f"{where}: {text[:80]!r} is a text, not an id. Name the file that gives texts their ids: {self._key}=<file>."
            )
        if self._ids is None:
            self._ids = self._read(self._file)
        digest = _digest(text)
        found = self._ids.get(digest)
        if found is None:
            raise ValueError(f"{where}: no text of {self._key}={self._file} is {text[:80]!r}. Do the files belong together?")
        if digest in self._shared:
            self._doubtful.add(digest)
        return found

    def _read(self, file: Path) -> dict[bytes, str]:
        ids: dict[bytes, str] = {}
        for key, text in texts(file, repeated=True):  # an id with two texts is refused where it is trained on
            digest = _digest(text)
            if ids.setdefault(digest, key) != key:
                self._shared.add(digest)
        return ids


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()
