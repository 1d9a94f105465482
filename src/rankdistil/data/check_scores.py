"""What a check says about teachers' scores: whether they belong to the texts."""

from pathlib import Path

from rankdistil.data.folder import FolderSplit
from rankdistil.data.readers import Reader
from rankdistil.data.scores import matching_header, texts_scored
from rankdistil.data.settings import DataSettings


def margin_note(settings: DataSettings, reader: Reader) -> str | None:
    """Compare ``data.negatives_scores`` with the training split; None where its files aren't there, or nothing is to be said.

    Raises:
        FileNotFoundError: if there are no scores.
        ValueError: if they are those of other texts.
    """
    files = reader.source.files.values() if isinstance(reader.source, FolderSplit) else ()
    if settings.negatives_margin is None or not all(path.is_file() for path in files):
        return None
    matching_header(Path(settings.negatives_scores).expanduser(), texts_scored(reader), "data.negatives_scores")
    return "training: how many negatives data.negatives_margin leaves out is told as a run starts."
