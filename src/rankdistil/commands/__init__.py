"""What a user can start: one module for each command."""

import rankdistil.config  # noqa: F401  (its resolvers, which a config is composed with)
from rankdistil.processes.ranks import Rank


def speak(rank: Rank, message: str) -> None:
    """Print why a rank fails, once for its group."""
    from rankdistil.processes.group import fail  # with torch, which a mistyped key needn't wait for

    fail(rank, message)
