"""Training queries set apart: for validation, or for test, where no split of their own is named."""

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple


class Holdout(NamedTuple):
    """A fixed share of queries set apart.

    Attributes:
        queries: how many.
        inside: True for the reader of the queries set apart, False for the reader of the others.
        behind: queries set apart for something else, before these.
    """

    queries: int
    inside: bool
    behind: int = 0

    def named(self, text: str) -> str:
        """Add to the name of a split which of its queries these are."""
        which = "without" if not self.inside else "another" if self.behind else "only"
        return f"{text} ({which} {self.queries} held-out queries)"

    def of(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return this side's queries; which they are doesn't depend on their order.

        Raises:
            ValueError: if none is left to train on.
        """
        ranked = sorted(texts, key=lambda key: sha256(key.encode()).digest())
        end = self.behind + self.queries
        if end >= len(ranked):
            raise ValueError(
                f"data.holdout sets {end} queries apart, which leaves none of {len(ranked)} to train on; set it lower."
            )
        chosen = set(ranked[self.behind : end])
        return {key: text for key, text in texts.items() if (key in chosen) == self.inside}
