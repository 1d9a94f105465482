"""Gradients of several batches make one step, and are clipped together."""

import copy
import warnings

import lightning as L
import torch
from torch.utils.data import DataLoader

from rankdistil.data.records import PairBatch
from rankdistil.losses import LabelLoss, WeightedSum
from rankdistil.models.bert import CrossEncoder
from rankdistil.modules.stage import FinetuneModule, OptimSettings
from rankdistil.stages.train import quieten


def trained(ranker: CrossEncoder, batches: list[PairBatch], accumulated: int) -> dict[str, torch.Tensor]:
    """Return the weights after one step; the gradient is cut to a thousandth of what it is."""
    ranker = copy.deepcopy(ranker)
    for part in ranker.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    optim = OptimSettings(1e-2, steps=1, warmup_steps=0, gradient_clip=1e-3)
    module = FinetuneModule(ranker, WeightedSum({"labels": LabelLoss(over="pair")}, {"labels": 1.0}), optim)
    quieten()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, accumulate_grad_batches=accumulated, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*val_dataloader.*")
        trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))
    assert trainer.global_step == 1
    assert all(part.grad is None for part in ranker.parameters())  # the next forward pass has the memory
    return ranker.state_dict()


def test_two_halves_of_a_batch_train_as_the_whole_one_does(tiny_ranker: CrossEncoder, batch: PairBatch) -> None:
    halves = [PairBatch(*(part[at : at + 2] for part in batch[:7])) for at in (0, 2)]
    halves[1] = halves[1]._replace(groups=halves[1].groups - 1)
    whole, summed = trained(tiny_ranker, [batch], 1), trained(tiny_ranker, halves, 2)
    before = tiny_ranker.state_dict()
    for name, weights in whole.items():
        torch.testing.assert_close(summed[name], weights, rtol=1e-4, atol=1e-4)
    assert max(float((weights - before[name]).abs().max()) for name, weights in whole.items()) > 1e-3
