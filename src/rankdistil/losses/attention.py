"""Self-attention distilled: scores and distributions of a layer's heads, and relations within queries, keys and values.

Relations are distributions over tokens, so that student and teacher may differ in width and, for MiniLMv2, in heads, as long as
they read the same tokens. Queries and keys are those that the linear layers give, before any rotation by position.
"""

import torch
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.losses.groups import full
from rankdistil.models.bert import Trace

LOWEST = -1e4  # the score of padding, which no token looks at


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor, count_padding: bool = False) -> Tensor:
    """Mean squared gap between two attention maps before softmax.

    Args:
        student: scores before softmax, float, (B, H, T, T).
        teacher: the same shape; receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T).
        count_padding: mean over all T×T entries, padded rows included and padded columns as 0, as TinyBERT's code does. By
            default only pairs of real tokens count, so the loss doesn't depend on how far a batch is padded.

    Returns:
        Scalar, in float32. Heads and real token pairs weigh equally. A batch without a real token gives 0.

    Raises:
        ValueError: if the maps differ in shape.

    Source: Jiao et al. 2020, arXiv:1909.10351 (attention-based distillation).
    """
    _require_alike(student, teacher)
    gap = student.float() - teacher.detach().float()
    pairs = mask[:, None, None, :].float()
    if not count_padding:
        pairs = pairs * mask[:, None, :, None].float()
    gap = gap.mul_(pairs).square()  # as fast as it gets: a CPU takes several times as long to fill by a mask of booleans
    return gap.mean() if count_padding else gap.sum() / (pairs.sum() * gap.size(1)).clamp(min=1)


def _require_alike(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"attention maps differ in shape: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. "
            f"Pick a student with {teacher.shape[1]} heads, or drop the loss: '~stage.losses.attention'."
        )


def attention_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's attention after softmax from the teacher's.

    Scores before softmax may differ by a constant in every row, and far below the highest by anything, without any effect on
    the network; their squares are mostly that. Here only what a token looks at counts.

    Args:
        student: scores before softmax, float, (B, H, T, T).
        teacher: the same shape; receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T).

    Returns:
        Scalar, in float32, in nats: heads and real tokens that look weigh equally. A batch without a real token gives 0.

    Raises:
        ValueError: if the maps differ in shape.

    Source: Wang et al. 2020, arXiv:2002.10957 (MiniLM's attention transfer, there of the last layer alone).
    """
    _require_alike(student, teacher)
    hidden, real = mask[:, None, None, :] == 0, mask[:, None, :].float()
    own, wanted = (full(part).masked_fill(hidden, LOWEST).log_softmax(-1) for part in (student, teacher.detach()))
    apart = (wanted.exp() * (wanted - own)).sum(-1) * real
    return apart.sum() / (real.sum() * student.size(1)).clamp(min=1)


class AttentionLoss(nn.Module):
    """Sum over mapped layers of ``attention_mse``, or mean over them of ``attention_divergence``.

    Args:
        count_padding: see ``attention_mse``.
        compare: ``scores``, before softmax, as TinyBERT does, or ``shares``, after it.

    Raises:
        ValueError: for another value of ``compare``, and for counted padding, of which there are no shares.
    """

    needs = frozenset({"attention"})
    asks_teacher = True

    def __init__(self, count_padding: bool = False, compare: str = "scores") -> None:
        super().__init__()
        if compare not in ("scores", "shares"):
            raise ValueError(f"compare is {compare!r}; expected 'scores' or 'shares'.")
        if count_padding and compare == "shares":
            raise ValueError("count_padding is true; compare=shares has no padding to count. Set it to false.")
        self.count_padding, self.compare = count_padding, compare

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no attention scores, or not the same number on both sides.
        """
        maps = student.attention_scores, teacher.attention_scores
        if not maps[0] or len(maps[0]) != len(maps[1]):
            raise RuntimeError(f"attention loss over {len(maps[0])} student and {len(maps[1])} teacher layers")
        pairs, mask = list(zip(*maps, strict=True)), batch.attention_mask
        if self.compare == "shares":
            return torch.stack([attention_divergence(*pair, mask) for pair in pairs]).mean()
        return torch.stack([attention_mse(*pair, mask, self.count_padding) for pair in pairs]).sum()


QUERY, KEY, VALUE = range(3)  # places in ``Trace.vectors``
KINDS = {"minilm": ((QUERY, KEY), (VALUE, VALUE)), "minilmv2": ((QUERY, QUERY), (KEY, KEY), (VALUE, VALUE))}
MOST = 48  # relation heads by default: what MiniLMv2 has for networks of width 768


def relation_scores(first: Tensor, second: Tensor, heads: int) -> Tensor:
    """Scaled products of the vectors of each two tokens, in float32 at least.

    Args:
        first: float, (B, T, D).
        second: the same shape.
        heads: relation heads, which D is split into, R.

    Returns:
        (B, R, T, T), before mask and softmax.
    """
    split = [full(part).unflatten(2, (heads, -1)).transpose(1, 2) for part in (first, second)]
    with torch.autocast(first.device.type, enabled=False):
        return split[0] @ split[1].transpose(2, 3) * split[0].size(-1) ** -0.5


def relation_divergence(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor, heads: int) -> Tensor:
    """Kullback-Leibler divergence of the student's relations from the teacher's.

    Args:
        student: two kinds of vectors, float, (B, T, D) each.
        teacher: the same two kinds, (B, T, teacher's D); receives no gradient.
        mask: 1 for a real token, 0 for padding, (B, T).
        heads: relation heads, which both widths are split into.

    Returns:
        Scalar, in float32 and in nats: mean over relation heads and real tokens. A batch without a real token gives 0.

    Source: Wang et al. 2021, arXiv:2012.15828.
    """
    return attention_divergence(relation_scores(*student, heads), relation_scores(*teacher, heads), mask)


def most_heads(student_width: int, teacher_width: int) -> int:
    """Return the largest number of relation heads, at most ``MOST``, that both widths can be split into."""
    return next(heads for heads in range(MOST, 0, -1) if student_width % heads == teacher_width % heads == 0)


class RelationLoss(nn.Module):
    """Sum over kinds of relations of ``relation_divergence``, between the student's last layer and one of the teacher's.

    Args:
        kind: ``minilmv2`` compares queries, keys and values with themselves; ``minilm`` the attention of each head, and values
            with themselves.
        heads: relation heads; None takes as many as ``most_heads`` gives. ``minilm`` compares attention heads, and so needs
            their number, the same for student and teacher.
        teacher_layer: that is learnt from, counted from 1; None is the last.

    Raises:
        ValueError: for another kind, numbers that can't be, or ``minilm`` without ``heads``.

    Source: Wang et al. 2020, arXiv:2002.10957 (MiniLM); 2021, arXiv:2012.15828 (MiniLMv2).
    """

    needs = frozenset({"vectors"})
    asks_teacher = True

    def __init__(self, kind: str = "minilmv2", heads: int | None = None, teacher_layer: int | None = None) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")
        for name, value in (("heads", heads), ("teacher_layer", teacher_layer)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1, or null.")
        if kind == "minilm" and heads is None:
            raise ValueError("heads is null; kind=minilm compares attention heads one by one, and expects their number.")
        self.kind, self.heads, self.teacher_layer = kind, heads, teacher_layer

    def require_fitting(self, student: tuple[int, int], teacher: tuple[int, int]) -> None:
        """Refuse networks that can't be compared.

        Args:
            student: its width and its number of attention heads.
            teacher: the same of the teacher.

        Raises:
            ValueError: naming both sides and the fix.
        """
        if self.kind == "minilm" and not self.heads == student[1] == teacher[1]:
            raise ValueError(
                f"heads is {self.heads}; kind=minilm compares attention heads one by one, and the student has {student[1]}, "
                f"its teacher {teacher[1]}. Expected all three alike; kind=minilmv2 compares networks of any number of heads."
            )
        if self.heads and (student[0] % self.heads or teacher[0] % self.heads):
            raise ValueError(
                f"heads is {self.heads}; expected a number that the widths {student[0]} of the student and {teacher[0]} of its "
                f"teacher can be split into, {most_heads(student[0], teacher[0])} for example."
            )

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: unless each trace holds the vectors of one layer.
        """
        if not len(student.vectors) == len(teacher.vectors) == 1:
            raise RuntimeError(f"relation loss over {len(student.vectors)} student and {len(teacher.vectors)} teacher layers")
        own, wanted = student.vectors[0], teacher.vectors[0]
        heads = self.heads or most_heads(own[0].size(-1), wanted[0].size(-1))
        parts = [
            relation_divergence((own[a], own[b]), (wanted[a], wanted[b]), batch.attention_mask, heads)
            for a, b in KINDS[self.kind]
        ]
        return torch.stack(parts).sum()
