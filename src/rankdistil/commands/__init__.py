"""What a user can start: one module for each command."""

from rankdistil.ranks import Rank


def speak(rank: Rank, message: str) -> None:
    """Print why a rank fails, once for its group."""
    from rankdistil.announcements import fail  # with torch, which a mistyped key needn't wait for

    fail(rank, message)
