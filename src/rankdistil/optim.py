"""AdamW without decay on biases and LayerNorm, and a linear warm-up followed by a linear decay to zero."""

from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class OptimSettings:
    """Plain settings of the optimiser.

    Attributes:
        lr: peak learning rate.
        steps: optimiser steps of the whole run.
        warmup_steps: steps from 0 to the peak.
        weight_decay: decay of weights other than biases and LayerNorm.
        gradient_clip: largest norm of the gradient over all parameters.
    """

    lr: float
    steps: int
    warmup_steps: int
    weight_decay: float = 0.01
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "gradient_clip"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"stage.{name} is {value!r}; expected a number greater than 0.")
        decay = self.weight_decay
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ValueError(f"stage.weight_decay is {decay!r}; expected a number in [0, 1).")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"stage.steps is {self.steps!r}; expected a whole number of at least 1.")
        if not isinstance(self.warmup_steps, int) or not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(
                f"stage.warmup_steps is {self.warmup_steps!r}; expected a whole number from 0 to stage.steps ({self.steps})."
            )


def validation_steps(steps: int, validations: int) -> list[int]:
    """Choose behind which steps a run validates: evenly spread, the last one behind its last step.

    Args:
        steps: of the whole run.
        validations: how many; one behind each step where that is more than there are.
    """
    number = min(validations, steps)
    return [count * steps // number for count in range(1, number + 1)]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split trainable parameters into those with decay and those without (biases and LayerNorm weights)."""
    plain = {
        id(parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if name == "bias" or isinstance(part, nn.LayerNorm)
    }
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in plain], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in plain], "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Share of the peak rate that optimiser step ``step`` (from 0) uses; never 0 before the end."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


def adamw(module: nn.Module, settings: OptimSettings) -> tuple[Optimizer, LambdaLR]:
    """Build the optimiser and its schedule, which advances once per optimiser step."""
    optimizer = AdamW(parameter_groups(module, settings.weight_decay), lr=settings.lr, fused=True)
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, settings.warmup_steps, settings.steps))
    return optimizer, schedule
