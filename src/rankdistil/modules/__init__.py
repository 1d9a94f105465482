"""Lightning modules: they order calls, own training and evaluation mode, and log."""

from rankdistil.modules.stage import StageModule
from rankdistil.modules.training import DistillModule, FinetuneModule

__all__ = ["DistillModule", "FinetuneModule", "StageModule"]
