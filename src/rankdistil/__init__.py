"""Small, fast rankers by distillation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankdistil.inference.reranker import Reranker

__all__ = ["Reranker"]


def __getattr__(name: str) -> Any:
    """Import ``Reranker`` when it is asked for: a command line should be answered before torch is loaded."""
    if name == "Reranker":
        from rankdistil.inference.reranker import Reranker

        return Reranker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
