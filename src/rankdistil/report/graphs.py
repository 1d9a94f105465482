"""Matrix of agreement: an export's scores in other tools and precisions, for the terminal and its model card."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rankdistil.files import write_text
from rankdistil.report.tables import Column, to_markdown

HEADING = "## Other runtimes and precisions"
CLOSE = 1e-3  # bound of a score's difference in float32; it grows with the logit, and in 12 layers is some 1e-5
NAMES = ("backend", "dtype", "largest difference", "alone", "Kendall's tau", "test nDCG@10", "validation nDCG@10", "bound")
LEGEND = (
    "Largest difference: of a score, of these pairs and of three that are too long; of its sigmoid where that is named. Alone: "
    "of a pair's score alone and among others. nDCG@10: in the first row, and how it changes. Bound: of validation's change; "
    f"both differences of float32, and int8's alone, may be {CLOSE:g}."
)


class Quality(NamedTuple):
    """Attributes: ndcg: mean nDCG@10 of a split; change: against the reference."""

    ndcg: float
    change: float


class Check(NamedTuple):
    """One way to compute a ranker's scores, against torch in float32.

    Attributes:
        backend: ``torch``, ``onnx``, ``openvino``, or another's tool.
        precision: what it computes in.
        largest: largest difference of a score, of the test's pairs and of long ones.
        tau: Kendall's tau of the orders, mean over test queries.
        test: what is reported.
        valid: what decides.
        bound: largest change allowed in validation; None for the reference.
        weight_bits: of int8's weights; None for other precisions.
        graph: that gave the scores, its name in the export; None without one.
        alone: largest difference of a pair's score alone and among others.
        sigmoid: whether the scores are sigmoids of the logits, and are compared with those.
        equal: the score of all pairs, if they have but one.
    """

    backend: str
    precision: str
    largest: float
    tau: float
    test: Quality
    valid: Quality
    bound: float | None
    weight_bits: int | None = None
    graph: str | None = None
    alone: float = 0.0
    sigmoid: bool = False
    equal: float | None = None

    @property
    def passes(self) -> bool:
        """Whether the validation's nDCG@10 changes by no more than the bound, and scores are as close as they can be."""
        exact = self.precision != "float32" or self.largest <= CLOSE
        by_itself = self.precision == "bfloat16" or self.alone <= CLOSE  # whose products are rounded by shape
        return self.bound is None or (exact and by_itself and abs(self.valid.change) <= self.bound)

    @property
    def apart(self) -> str:
        """Say how far scores are from what they should be, where nDCG@10 is within its bound."""
        if self.precision == "float32" and self.largest >= self.alone:
            return f"a score is {self.largest:.2g} off {'the sigmoid of ' * self.sigmoid}torch's"
        return f"a pair alone scores {self.alone:.2g} off what it scores among others"

    def cells(self) -> list[str]:
        """Return the row of a table."""
        bound = "reference" if self.bound is None else f"{'over ' * (not self.passes)}{self.bound:g}"
        found = [f"{each.ndcg:.4f}" if self.bound is None else f"{each.change:+.5f}" for each in (self.test, self.valid)]
        return [self.backend, self.name, f"{self.largest:.2g}", f"{self.alone:.2g}", f"{self.tau:.5f}", *found, bound]

    @property
    def name(self) -> str:
        """Name the precision, with the bits of its weights where there are two kinds, and what is made of the logit."""
        bits = "" if self.weight_bits is None else f", {self.weight_bits}-bit weights"
        return f"{self.precision}{bits}{', sigmoid' * self.sigmoid}"


def check_columns(checks: Sequence[Check]) -> list[Column]:
    """Make the columns of the table; precisions take two lines where there is no room, numbers are never cut."""
    cells = zip(*(check.cells() for check in checks), strict=True)
    texts = (name in NAMES[:2] for name in NAMES)
    return [
        Column(name if text else name.replace(" ", "\n"), column, text=text, folds=text)
        for name, column, text in zip(NAMES, cells, texts, strict=True)
    ]


def write_checks(export: Path, checks: Sequence[Check], title: str, missing: Sequence[str] = ()) -> None:
    """Put the table at the end of the model card, in place of an earlier one.

    Args:
        export: the export folder.
        checks: the rows.
        title: what was scored.
        missing: what wasn't checked, and why.
    """
    notes = "".join(f"\n- Not checked: {each}" for each in missing)
    text = f"{title}\n\n{to_markdown(check_columns(checks))}\n{LEGEND}\n"
    put_chapter(export, HEADING, f"{text}{notes}\n" if missing else text)


def put_chapter(export: Path, heading: str, text: str) -> None:
    """Put a chapter at the end of the model card, in place of an earlier one.

    Args:
        export: the export folder.
        heading: a line of Markdown, of the second level.
        text: what stands below it, to the end of its last line.
    """
    card = export / "README.md"
    held = card.read_text(encoding="utf-8") if card.is_file() else f"# {export.name}\n"
    held = re.sub(rf"\n*{re.escape(heading)}\n.*?(?=\n\n## |\Z)", "", held, flags=re.DOTALL).rstrip("\n")
    write_text(card, f"{held}\n\n{heading}\n\n{text}")
