"""A network that waits until it is let go, for tests of what happens meanwhile."""

import threading
from collections.abc import Callable

import numpy as np

from rankdistil.data.encode import Segment
from rankdistil.inference.engine import Network

PATIENCE_S = 60.0  # no test waits so long, unless it fails


class Gate:
    """A network that computes as another one does, once it is open.

    Attributes:
        budget: tokens of its batches.
        entered: pairs of each call so far.
        inside: is set while somebody waits.
        fails: raised in place of an answer, where it returns something for the passages' lengths.
    """

    def __init__(self, network: Network, budget: int) -> None:
        self.budget, self._network, self.entered = budget, network, []
        self.opened, self.inside = threading.Event(), threading.Event()
        self.fails: Callable[[np.ndarray], Exception | None] = lambda lengths: None
        self.opened.set()

    def __call__(self, first: Segment, second: Segment) -> np.ndarray:
        self.entered.append(len(first.lengths))
        self.inside.set()
        assert self.opened.wait(PATIENCE_S)
        if error := self.fails(second.lengths):
            raise error
        return self._network(first, second)

    def shut(self) -> None:
        """Let the next call wait."""
        self.opened.clear()
        self.inside.clear()
