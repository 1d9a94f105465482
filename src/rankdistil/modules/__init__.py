"""Lightning modules: they order calls, own training and evaluation mode, and log."""

from rankdistil.modules.distill import DistillModule
from rankdistil.modules.finetune import FinetuneModule
from rankdistil.modules.stage import StageModule

__all__ = ["DistillModule", "FinetuneModule", "StageModule"]
