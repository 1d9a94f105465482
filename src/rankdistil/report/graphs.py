"""Table of ranking parity: an export's scores in other runtimes and precisions, for the terminal and its model card."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rankdistil.files import write_text
from rankdistil.report.tables import Column, to_markdown

HEADING = "## Other runtimes and precisions"
NAMES = (
    *("backend", "dtype", "largest difference", "Kendall's tau"),
    *("test nDCG@10", "change", "validation nDCG@10", "change", "bound"),
)


class Quality(NamedTuple):
    """Attributes: ndcg: mean nDCG@10 of a split; change: against the reference."""

    ndcg: float
    change: float


class Check(NamedTuple):
    """One way to compute a ranker's scores, against torch in float32.

    Attributes:
        backend: ``torch``, ``onnx`` or ``openvino``.
        precision: what it computes in.
        largest: largest difference of a test pair's score.
        tau: Kendall's tau of the orders, mean over test queries.
        test: what is reported.
        valid: what decides.
        bound: largest change allowed in validation; None for the reference.
        weight_bits: of int8's weights; None for other precisions.
    """

    backend: str
    precision: str
    largest: float
    tau: float
    test: Quality
    valid: Quality
    bound: float | None
    weight_bits: int | None = None

    @property
    def passes(self) -> bool:
        """Whether the validation's nDCG@10 changes by no more than the bound."""
        return self.bound is None or abs(self.valid.change) <= self.bound

    def cells(self) -> list[str]:
        """Return the row of a table."""
        bound = "reference" if self.bound is None else f"{self.bound:g}" if self.passes else f"{self.bound:g} (exceeded)"
        found = [text for split in (self.test, self.valid) for text in (f"{split.ndcg:.4f}", f"{split.change:+.5f}")]
        return [self.backend, self.name, f"{self.largest:.2g}", f"{self.tau:.5f}", *found, bound]

    @property
    def name(self) -> str:
        """Name the precision, with the bits of its weights where there are two kinds."""
        return self.precision if self.weight_bits is None else f"{self.precision}, {self.weight_bits}-bit weights"


def check_columns(checks: Sequence[Check]) -> list[Column]:
    """Make the columns of the table; precisions take two lines where there is no room, numbers are never cut."""
    cells = zip(*(check.cells() for check in checks), strict=True)
    texts = (name in NAMES[:2] for name in NAMES)
    return [
        Column(name if text else name.replace(" ", "\n"), column, text=text, folds=text)
        for name, column, text in zip(NAMES, cells, texts, strict=True)
    ]


def write_checks(export: Path, checks: Sequence[Check], title: str) -> None:
    """Put the table at the end of the model card, in place of an earlier one.

    Args:
        export: the export folder.
        checks: the rows.
        title: what was scored.
    """
    card = export / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {export.name}\n"
    text = re.sub(rf"\n*{re.escape(HEADING)}\n.*?(?=\n\n## |\Z)", "", text, flags=re.DOTALL).rstrip("\n")
    write_text(card, f"{text}\n\n{HEADING}\n\n{title}\n\n{to_markdown(check_columns(checks))}")
