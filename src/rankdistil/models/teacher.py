"""A frozen teacher: evaluation mode, no gradient, whatever the trainer does around it."""

from rankdistil.models.bert import CrossEncoder


class FrozenTeacher(CrossEncoder):
    """A ranker that can't be trained: ``train()`` leaves it in evaluation mode, so its dropout stays off."""

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__(ranker.bert)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode: a teacher with dropout gives other answers at every step."""
        return super().train(False)
