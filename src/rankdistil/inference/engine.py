"""Strings to scores, outside of training."""

import time

import torch

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.metrics.timing import Sample
from rankdistil.models.bert import CrossEncoder


class Engine:
    """Scores pairs in batches of similar length.

    Args:
        ranker: moved to the device and put into evaluation mode.
        encoder: gives the token ids.
        device: where the ranker runs.
        batch_size: pairs per batch.
    """

    def __init__(self, ranker: CrossEncoder, encoder: PairEncoder, device: torch.device, batch_size: int) -> None:
        self.ranker, self.encoder, self.device = ranker.to(device).eval(), encoder, device
        self._batch_size = batch_size

    @torch.inference_mode()
    def score(self, pairs: list[Pair]) -> tuple[list[float], Sample]:
        """Score pairs.

        Returns:
            Logits in the order of the pairs, and the seconds spent on tokenising and in the network (synchronised on a GPU).
        """
        start = time.perf_counter()
        order = sorted(range(len(pairs)), key=lambda index: -len(pairs[index].passage))
        places = [order[at : at + self._batch_size] for at in range(0, len(order), self._batch_size)]
        batches = [self.encoder.batch([pairs[index] for index in place]) for place in places]
        tokenised = time.perf_counter()
        scores = torch.empty(len(pairs))
        for place, batch in zip(places, batches, strict=True):
            tensors = (tensor.to(self.device, non_blocking=True) for tensor in batch[:3])
            scores[place] = self.ranker(*tensors).logits.float().cpu()  # .cpu() waits for the device
        return scores.tolist(), Sample(tokenised - start, time.perf_counter() - tokenised)
