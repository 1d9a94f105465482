"""A frozen teacher: evaluation mode, no gradient, whatever the trainer does around it."""

import torch
from torch import Tensor

from rankdistil.models.bert import CrossEncoder
from rankdistil.models.prepacked import prepack
from rankdistil.models.trace import Trace


class FrozenTeacher(CrossEncoder):
    """A ranker that can't be trained: ``train()`` leaves it in evaluation mode, so its dropout stays off.

    The first pass under autocast converts its weights, its head aside, to autocast's type for good: nothing updates them, so
    they need neither a float32 copy nor to be cast again at every step.
    """

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__(ranker.bert)
        self.requires_grad_(False)
        self.eval()
        self._prepacked = False

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode: a teacher with dropout gives other answers at every step."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, input_ids: Tensor, *inputs: object, **settings: object) -> Trace:
        """Score a batch of pairs; see ``CrossEncoder``."""
        device = input_ids.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(input_ids, *inputs, **settings)
        for part in self.bert.bert.embeddings, self.bert.bert.encoder:
            part.to(torch.get_autocast_dtype(device))
        if not self._prepacked:
            self._prepacked = True
            prepack(self.bert.bert.encoder)
        with torch.autocast(device, enabled=False):
            return super().forward(input_ids, *inputs, **settings)
