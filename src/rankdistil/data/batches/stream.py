"""Stream of training batches, endless, and of pairs to score, finite.

The groups of an optimiser step are a batch, whichever processes share it and in however many parts they accumulate its
gradients: these are of equal size, so the mean of their gradients is that of the whole. Parts are numbered over all epochs.
Local batch s of rank r is part s·world + r, and a rank's worker w takes local batches w, w + workers, ...: together they read
each group once an epoch, in an order that depends on (seed, epoch) only. An epoch's last batch may be smaller; where its parts
would be of unequal size, its first groups are read again.
"""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from rankdistil.data.batches.groups import GroupSource, cut_windows, longest_pairs, own_share
from rankdistil.data.batches.texts import PairTexts
from rankdistil.data.collections.reader import Reader
from rankdistil.data.encode import FEWEST_SPECIAL, PairEncoder, Rows, Texts
from rankdistil.data.records import PairBatch, TextBatch
from rankdistil.data.teacher_scores.folder import TeacherScores
from rankdistil.data.windows import RICHEST, draws
from rankdistil.processes.stopping import STOPPING

Asked = tuple[Rows, NDArray[np.int64] | None]
"""Groups of a query and its passages, (N, 1 + K), and which window of each passage is read, (N, K); None without windows."""
WINDOW = 64  # batches that are grouped by length together
AHEAD = 256  # pairs whose texts are fetched together: each fetch costs as much again as those of a small batch


class Size(NamedTuple):
    """How large a training batch is, that of one optimiser step.

    Attributes:
        groups: groups in a batch.
        tokens: tokens in a batch, padding and special tokens included; None counts groups instead. With it ``groups`` only
            sets how many are grouped by length together.
        parts: that processes and accumulation share a batch out in; each keeps to its share of the tokens.
        special: special tokens of a pair.
    """

    groups: int
    tokens: int | None = None
    parts: int = 1
    special: int = FEWEST_SPECIAL

    def cuts(self, lengths: NDArray[np.int64], pairs: int, room: int) -> list[int]:
        """Say where batches begin, the first one left out.

        Args:
            lengths: tokens of the longest pair of each group, uncut and without special tokens, (N,).
            pairs: in a group.
            room: that a pair is cut to, without special tokens.
        """
        if self.tokens is None:
            return [*range(self.groups, len(lengths), self.groups)]
        cuts, start, longest = [], 0, 0
        tokens = ((np.minimum(lengths, room) + self.special) * pairs).tolist()  # of a group in a batch whose longest it is
        for index in range(0, len(tokens), self.parts):
            each = max(tokens[index : index + self.parts])
            longest = max(longest, each)
            if index > start and longest * (index + self.parts - start) > self.tokens:
                cuts.append(index)
                start, longest = index, each
        return cuts

    def larger(self, lengths: NDArray[np.int64], pairs: int, what: str) -> dict[str, int | str] | None:
        """Account for groups that alone take more tokens than a batch may hold: each is a batch by itself.

        Args:
            lengths: tokens of the longest pair of each of the first groups, cut and without special tokens, (N,).
            pairs: in a group.
            what: what groups are called.

        Returns:
            ``what`` they are, how many there are (``larger``) ``of`` how many, tokens of the ``largest``, and the ``limit``;
            None without any.

        Raises:
            ValueError: if all are.
        """
        if self.tokens is None:
            return None
        taken = (lengths + self.special) * pairs
        larger, least, most = int((taken > self.tokens).sum()), int(taken.min()), int(taken.max())
        if larger == len(taken):
            each = f", of {pairs} pairs each," if pairs > 1 else ""
            raise ValueError(
                f"data.max_tokens={self.tokens} has no effect: the smallest of the first {larger} {what}{each} "
                f"takes {least} tokens, the largest {most}. Set data.max_tokens to at least {most}"
                f"{', or data.negatives lower' if pairs > 2 else ''}."
            )
        told: dict[str, int | str] = {"what": what, "larger": larger, "of": len(taken), "largest": most, "limit": self.tokens}
        return told if larger else None

    def shares(self, batch: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cut a batch into its parts, of equal size."""
        if self.parts == 1:
            return [batch]
        each = -(-len(batch) // self.parts)
        return np.split(batch[np.arange(each * self.parts) % len(batch)], self.parts)


class GroupStream(IterableDataset):
    """Yields whole batches of groups of similar length; endless.

    Where documents are read in windows, one stands for each: drawn anew in each epoch, by the seed and the ids of the pair, but
    of a group's first passage, which is relevant, the one that shares most tokens with the query (``data.windows.richest``).
    Teacher and student see the same window, so distillation stays exact; judgments of documents are taken over by the window.

    Args:
        source: the groups.
        queries: their queries.
        passages: their passages.
        encoder: lays out pairs.
        size: of a batch.
        seed: seed of the order.
        rank: this process.
        world: number of processes.
        start: local batches to skip, for a run that resumes.
        scores: the teacher's, which batches then carry.
    """

    def __init__(
        self, source: GroupSource, queries: Texts, passages: Texts, encoder: PairEncoder, size: Size, seed: int,
        rank: int = 0, world: int = 1, start: int = 0, scores: TeacherScores | None = None,
    ) -> None:  # fmt: skip
        self._source, self._queries, self._passages, self._encoder = source, queries, passages, encoder
        self._size, self._seed, self._scores = size, seed, scores
        self._rank, self._world, self._start = rank, world, start

    def __iter__(self) -> Iterator[PairBatch]:
        share = own_share(self._in_epochs(), self._rank, self._world, self._start)
        return self._encode((groups, self._drawn(epoch, groups)) for _, (epoch, groups) in share)

    def batches(self) -> Iterator[Rows]:
        """Yield the groups of the batches of every process, epoch after epoch. An epoch's last ones may be smaller."""
        return (groups for _, groups in self._in_epochs())

    def _in_epochs(self) -> Iterator[tuple[int, Rows]]:
        for epoch in count():
            for window, groups in enumerate(cut_windows(self._source.epoch(self._seed, epoch), WINDOW * self._size.groups)):
                lengths = longest_pairs(self._queries, self._passages, groups)
                order = lengths.argsort(kind="stable")
                cut = np.split(groups[order], self._size.cuts(lengths[order], groups.shape[1] - 1, self._encoder.room))
                for index in np.random.default_rng([self._seed, epoch, window]).permutation(len(cut)):
                    yield from ((epoch, share) for share in self._size.shares(cut[index]))

    def _drawn(self, epoch: int, groups: Rows) -> NDArray[np.int64] | None:
        """Say which window stands for each passage, (N, 1 + K); None without windows."""
        if self._encoder.windows is None:
            return None
        asked, answers = groups[:, 0].repeat(groups.shape[1] - 2), groups[:, 2:].reshape(-1)
        drawn = draws(self._seed, epoch, self._queries.names(asked), self._passages.names(answers))
        return np.insert(drawn.reshape(len(groups), -1), 0, RICHEST, axis=1)

    def _encode(self, batches: Iterable[Asked]) -> Iterator[PairBatch]:
        for groups, batch in encode_batches(self._encoder, self._queries, self._passages, batches, label=1.0):
            if self._scores is not None:
                queries, passages = np.repeat(groups[:, 0], groups.shape[1] - 1), groups[:, 1:].reshape(-1)
                batch = batch._replace(teacher_logits=torch.from_numpy(self._scores.of(queries, passages)))
            yield batch._replace(sizes=(len(groups), groups.shape[1] - 1), windows=None)


class CandidateStream(IterableDataset):
    """Yields batches of pairs to score, longest first; each pair once over all ranks and workers.

    A rank that is left without any has a batch that counts for nothing.

    Longest first shows a lack of memory at once, and makes the time left predictable from above.

    Args:
        rows: query and passage of each pair, (N, 2), or beside them the number of the document's window, (N, 3).
        queries: the queries.
        passages: the passages.
        encoder: lays out pairs, or leaves them as texts.
        batch_size: pairs per batch.
        rank: this process.
        world: number of processes.
    """

    def __init__(
        self, rows: Rows, queries: Texts, passages: Texts, encoder: PairEncoder | PairTexts, batch_size: int,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        lengths = queries.lengths(rows[:, 0]) + passages.lengths(rows[:, 1])
        ordered = rows[(-lengths).argsort(kind="stable")]
        cut = [ordered[at : at + batch_size] for at in range(0, len(ordered), batch_size)]
        self._counts = bool(cut[rank::world])
        self._batches = cut[rank::world] or [batch[:1] for batch in cut[-1:]]
        self._queries, self._passages, self._encoder = queries, passages, encoder

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch | TextBatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        own, texts = self._batches[worker::workers], (self._queries, self._passages)
        if isinstance(self._encoder, PairTexts):
            encoded = self._encoder.batches(*texts, own)
        else:
            windows = self._encoder.windows is not None
            encoded = encode_batches(self._encoder, *texts, ((b[:, :2], b[:, 2:] if windows else None) for b in own), label=0.0)
        return (batch if self._counts else batch.uncounted() for _, batch in encoded)


class ShardStream(IterableDataset):
    """Yields the batches of shards of pairs, one shard after the other; a batch's group is its shard's number.

    A rank that is left without any has a batch that counts for nothing.

    Args:
        shards: query and passage of each pair, (N, 2), by number; a process takes every ``world``-th.
        queries: this and what follows as in ``CandidateStream``.
    """

    def __init__(
        self, shards: dict[int, Rows], queries: Texts, passages: Texts, encoder: PairEncoder | PairTexts, batch_size: int,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        numbers = sorted(shards)
        self._counts = bool(numbers[rank::world])
        self._shards = {number: shards[number] for number in numbers[rank::world]} or {n: shards[n][:1] for n in numbers[:1]}
        self._texts, self._encoder, self._batch_size = (queries, passages), encoder, batch_size

    def __len__(self) -> int:
        return sum(-(-len(rows) // self._batch_size) for rows in self._shards.values())

    def __iter__(self) -> Iterator[PairBatch | TextBatch]:
        for number, rows in self._shards.items():
            for batch in CandidateStream(rows, *self._texts, self._encoder, self._batch_size):
                shard = batch._replace(groups=torch.full((len(batch.query_ids),), number))
                yield shard if self._counts else shard.uncounted()


def encode_batches(
    encoder: PairEncoder, queries: Texts, passages: Texts, batches: Iterable[Asked], label: float
) -> Iterator[tuple[Rows, PairBatch]]:
    """Encode the pairs of groups.

    Args:
        encoder: lays out pairs.
        queries: their queries.
        passages: their passages.
        batches: groups and, with windows, which of them are read, see ``PairEncoder.window``.
        label: of the first passage of a group; that of the others is 0.

    Yields:
        The groups of a batch, and the batch.
    """
    batches = iter(batches)
    for head in batches:
        bunch, wanted = zip(head, *islice(batches, (AHEAD - 1) // head[0][:, 1:].size), strict=True)
        rows, pairs = np.concatenate(bunch), head[0].shape[1] - 1
        asked, answers = rows[:, 0].repeat(pairs), rows[:, 1:].reshape(-1)
        names, sizes, at = (queries.names(asked), passages.names(answers)), [len(groups) * pairs for groups in bunch], 0
        first, numbers = queries.gather(asked), None
        if encoder.windows is None:
            second = passages.gather(answers)
        else:
            own, place = np.unique(answers, return_inverse=True)  # the windows of a document mostly come together
            second, numbers = encoder.window(first, passages.gather(own), place, np.concatenate(wanted).reshape(-1))
        for groups, size, *pair in zip(bunch, sizes, first.parts(sizes), second.parts(sizes), strict=True):
            labels = np.zeros((len(groups), pairs), np.float32)  # torch takes several times as long for so little
            labels[:, 0] = label
            inputs = encoder.assemble(*pair)
            yield (
                groups,
                PairBatch(
                    *inputs,
                    torch.from_numpy(labels.reshape(-1)),
                    torch.from_numpy(np.arange(len(groups)).repeat(pairs)),
                    *(ids[at : at + size] for ids in names),
                    tokens=int(inputs[1].sum()),
                    windows=None if numbers is None else tuple(numbers[at : at + size].tolist()),
                ),
            )
            at += size


class StreamDataModule(L.LightningDataModule):
    """Keeps the number of batches trained, which checkpoints save: a resumed run continues behind them.

    Args:
        workers: loader processes; 0 encodes in the training process.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers, self._pinned = workers, False
        self.trained_batches = 0

    def setup(self, stage: str) -> None:
        """Put batches that go to a GPU where it fetches them without the processor's help, while it computes."""
        self._pinned = self.trainer.strategy.root_device.type == "cuda"

    @property
    def readers(self) -> list[Reader]:
        """The readers of what is trained, validated and tested on."""
        raise NotImplementedError

    def account(self) -> dict[str, Any]:
        """Say what was left out of the data, for records; of what has been read so far."""
        return {"bad_lines": {file: told for reader in self.readers for file, told in reader.bad.account().items()}}

    def training_stream(self, rank: int, world: int, start: int, accumulated: int = 1) -> IterableDataset:
        """Return the endless stream of a process's training batches from batch ``start``; a step takes ``accumulated`` of them.

        Raises:
            ValueError: if the groups of a step can't be shared out evenly.
        """
        raise NotImplementedError

    def first_batches(self, pairs: int) -> Sequence[PairBatch]:
        """Return the batches of the first steps, until they hold so many pairs; the same in any number of processes."""
        batches: list[PairBatch] = []
        for batch in self.training_stream(0, 1, 0):
            batches.append(batch)
            pairs -= len(batch.labels)
            if pairs <= 0:
                break
        return batches

    def train_dataloader(self) -> DataLoader:
        """Return the endless stream of training batches; ``open`` comes first."""
        return self.loader(self.training_stream(*self.place(), self.trained_batches, self.accumulated()))

    def state_dict(self) -> dict[str, int]:
        """Return the position in the stream: batches trained by each process, and into how many a step is cut."""
        return {"trained_batches": self.trained_batches, "processes": self.place()[1], "accumulated": self.accumulated()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue behind the batches trained.

        Raises:
            ValueError: if they were those of another number of processes, or of accumulated batches: the position would be
                another, and not even the sums of gradients would be the same to the last bit.
        """
        now = {"processes": self.place()[1], "accumulated": self.accumulated()}
        saved = {key: state_dict.get(key, value) for key, value in now.items()}
        if saved != now:
            told = [f"{each['processes']} processes with {each['accumulated']} accumulated batches" for each in (saved, now)]
            raise ValueError(
                f"the checkpoint was saved by {told[0]}, and {told[1]} would continue it: not the same batches. Continue with "
                f"trainer.devices x trainer.num_nodes = {saved['processes']} and "
                f"trainer.accumulate_grad_batches={saved['accumulated']}, or start again in another folder."
            )
        self.trained_batches = state_dict["trained_batches"]

    def loader(self, stream: IterableDataset) -> DataLoader:
        """Wrap a stream that yields whole batches."""
        return DataLoader(
            stream, batch_size=None, num_workers=self._workers, collate_fn=_as_it_is, worker_init_fn=begin_worker,
            pin_memory=self._pinned,
        )  # fmt: skip

    def accumulated(self) -> int:
        """Return the number of batches that make a step of a process."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def place(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def begin_worker(worker: int) -> None:
    """Tokenise in one thread, beside other workers; leave it to the training process what a signal to all processes means.

    It ends its workers itself.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # each worker would have a thread for every core
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)


def _as_it_is(batch: PairBatch) -> PairBatch:
    """Keep a batch's tuples of ids: torch's own conversion would make lists of them."""
    return batch
