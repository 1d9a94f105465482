"""Weight subcloning: a narrower student cut out of a network, so that it starts close to what the network computes.

Products of rows are computed in float32, block by block, and added in float64: over tens of thousands of rows float32 sums lose
too many digits, and float64 products are several times slower.

The idea is weight subcloning (Samragh et al. 2023, arXiv:2312.09299): keep the most important units, rescale what is left.
Where that paper ranks units by magnitude and rescales by a constant, both steps are least squares here: hidden units are those
that explain the others best, attention heads shrink to the basis that keeps their scores, and every weight matrix is refitted
on a few batches to give, from the student's own inputs, what the network gives at the units kept. No gradient step is taken.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import CrossEncoder

BLOCK = 4096  # rows
RIDGE = 1e-4  # times the mean variance of the inputs; keeps maps finite where inputs depend on each other


def choose_columns(covariance: Tensor, count: int) -> Tensor:
    """Choose the columns that explain most of all columns, one after the other.

    Args:
        covariance: symmetric, (D, D).
        count: how many to choose, at most D.

    Returns:
        Indices in ascending order, (count,).

    Source: greedy column subset selection; the choice that lowers the squared error of predicting all columns most.
    """
    left = covariance.double().clone()
    floor = 1e-12 * left.diagonal().max().clamp(min=1e-300)
    chosen: list[int] = []
    for _ in range(count):
        diagonal = left.diagonal()
        gain = torch.where(diagonal > floor, left.square().sum(0) / diagonal.clamp(min=floor), torch.zeros_like(diagonal))
        if chosen:
            gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        if diagonal[best] > floor:
            left -= torch.outer(left[:, best], left[best]) / diagonal[best]
    return torch.tensor(sorted(chosen))


def affine_fit(
    inputs: Tensor, targets: Tensor, row_weights: Tensor | None = None, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """Fit ``targets ≈ inputs @ weight.T + bias``.

    Args:
        inputs: (N, D).
        targets: (N, E).
        row_weights: how much each row counts, (N,); all alike by default.
        ridge: see ``RIDGE``.

    Returns:
        Weight (E, D) and bias (E,) in float32, as ``nn.Linear`` holds them.
    """
    w = torch.ones(len(inputs)) if row_weights is None else row_weights
    share = (w / w.sum())[:, None]
    mean_x, mean_y = (share * inputs).sum(0), (share * targets).sum(0)
    gram = torch.zeros(inputs.size(1), inputs.size(1), dtype=torch.float64)
    cross = torch.zeros(inputs.size(1), targets.size(1), dtype=torch.float64)
    for rows in torch.arange(len(inputs)).split(BLOCK):
        at = slice(int(rows[0]), int(rows[-1]) + 1)
        x, weighted = inputs[at] - mean_x, (inputs[at] - mean_x) * share[at]
        gram += weighted.T @ x
        cross += weighted.T @ (targets[at] - mean_y)
    gram.diagonal().add_(ridge * gram.diagonal().mean().clamp(min=1e-30))
    weight = torch.linalg.solve(gram, cross).T.float()
    return weight, mean_y - weight @ mean_x


def unit_fit(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit ``targets ≈ inputs * scale + shift``, every unit by itself.

    Args:
        inputs: (N, D).
        targets: (N, D).

    Returns:
        Scale (D,) and shift (D,) in float32, as ``nn.LayerNorm`` holds them.
    """
    x, y = inputs.double(), targets.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    scale = ((x - mean_x) * (y - mean_y)).sum(0) / (x - mean_x).square().sum(0).clamp(min=1e-12)
    return scale.float(), (mean_y - scale * mean_x).float()


def shared_basis(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Shrink two sets of vectors so that the products between them change least.

    Args:
        left: rows a, (N, K).
        right: rows b, (N', K).
        rank: width afterwards, at most K.

    Returns:
        Maps P and R, (K, rank) each: ``(a @ P) · (b @ R)`` is the closest to ``a · b`` in mean square over all pairs of rows.

    Source: Eckart & Young 1936, applied to the product of the two matrices through their second moments.
    """
    root_l, inverse_l = _root(left)
    root_r, inverse_r = _root(right)
    u, s, vh = torch.linalg.svd(root_l @ root_r)
    scale = s[:rank].sqrt()
    return (inverse_l @ u[:, :rank] * scale).float(), (inverse_r @ vh[:rank].T * scale).float()


def _root(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of the second moments of rows, and its (pseudo-)inverse."""
    x = rows.double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = values > values.max() * 1e-10
    roots = values.clamp(min=0).sqrt()
    inverse = torch.where(kept, 1 / roots.clamp(min=1e-150), torch.zeros_like(roots))
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T


CLS_WEIGHT = 50.0  # of a [CLS] row beside another token's: the pooler reads nothing else


@torch.no_grad()
def subclone(student: CrossEncoder, source: CrossEncoder, layers: Sequence[int], batches: Sequence[PairBatch]) -> None:
    """Overwrite a student's weights with a cut of a network's.

    Args:
        student: a network of any smaller shape with the source's vocabulary.
        source: what is cut.
        layers: for each layer of the student the source's layer that it is cut from, 0-based.
        batches: text to fit on; a few hundred pairs.

    Raises:
        ValueError: if the student is wider than the source somewhere, naming both numbers.
    """
    check_narrower(student.config, source.config)
    source.eval()
    small, large = student.bert.bert, source.bert.bert
    masks = [batch.attention_mask.bool() for batch in batches]
    states = [_embed(large.embeddings, batch) for batch in batches]
    all_states = [states]
    for layer in large.encoder.layer:
        states = [_Inside(layer, x, mask).output for x, mask in zip(states, masks, strict=True)]
        all_states.append(states)
    compared = [_rows(all_states[index], masks) for index in (0, *(layer + 1 for layer in layers))]
    units = choose_columns(sum(_share(rows) for rows in compared), student.config.hidden_size)

    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        getattr(small.embeddings, name).weight.copy_(getattr(large.embeddings, name).weight[:, units])
    sums = [_sum_embeddings(small.embeddings, batch) for batch in batches]
    _refit_norm(small.embeddings.LayerNorm, sums, all_states[0], masks, units)
    own = [_embed(small.embeddings, batch) for batch in batches]
    for layer, index in zip(small.encoder.layer, layers, strict=True):
        inside = [_Inside(large.encoder.layer[index], x, mask) for x, mask in zip(all_states[index], masks, strict=True)]
        own = _cut_layer(layer, large.encoder.layer[index], own, inside, masks, units)
    _cut_head(student, source, own, all_states[-1], masks)


def check_narrower(student: object, source: object) -> None:
    """Refuse a student that can't be cut out of a network.

    Args:
        student: its config.
        source: the network's config.

    Raises:
        ValueError: naming both numbers and the fix.
    """
    sizes = {
        "hidden_size": (student.hidden_size, source.hidden_size),
        "intermediate_size": (student.intermediate_size, source.intermediate_size),
        "heads": (student.num_attention_heads, source.num_attention_heads),
        "hidden_size / student.heads": (
            student.hidden_size // student.num_attention_heads,
            source.hidden_size // source.num_attention_heads,
        ),
    }
    for name, (have, limit) in sizes.items():
        if have > limit:
            raise ValueError(
                f"student.init_from=subclone cuts a student out of a network: student.{name} is {have}, the network has "
                f"{limit}. Set it to {limit} or less, or choose another start."
            )


class _Inside:
    """What one layer of the source computes for one batch, part by part."""

    def __init__(self, layer: nn.Module, x: Tensor, mask: Tensor) -> None:
        attention = layer.attention.self
        self.query, self.key, self.value = attention.query(x), attention.key(x), attention.value(x)
        context = _attend(self.query, self.key, self.value, attention.num_attention_heads, mask)
        self.attended_sum = x + layer.attention.output.dense(context)
        self.attended = layer.attention.output.LayerNorm(self.attended_sum)
        self.before_activation = layer.intermediate.dense(self.attended)
        self.activated = layer.intermediate.intermediate_act_fn(self.before_activation)
        self.sum = self.attended + layer.output.dense(self.activated)
        self.output = layer.output.LayerNorm(self.sum)


def _cut_layer(
    layer: nn.Module, source: nn.Module, own: list[Tensor], inside: list[_Inside], masks: list[Tensor], units: Tensor
) -> list[Tensor]:
    """Refit one layer on the student's own inputs; return its outputs."""
    attention, wide = layer.attention.self, source.attention.self
    heads = _choose_heads(source, inside, masks, attention.num_attention_heads)
    width, wide_width = attention.attention_head_size, wide.attention_head_size
    x = _rows(own, masks)
    targets: dict[str, list[Tensor]] = {"query": [], "key": [], "value": []}
    rows = {name: _rows([getattr(part, name) for part in inside], masks) for name in targets}
    output = source.attention.output.dense.weight[units]
    for head in heads:
        at = slice(head * wide_width, (head + 1) * wide_width)
        left, right = shared_basis(rows["query"][:, at], rows["key"][:, at], width)
        scale = (width / wide_width) ** 0.25  # each side's part of the other divisor of the scores
        targets["query"].append(rows["query"][:, at] @ left * scale)
        targets["key"].append(rows["key"][:, at] @ right * scale)
        targets["value"].append(rows["value"][:, at] @ shared_basis(rows["value"][:, at], output[:, at], width)[0])
    for name, parts in targets.items():
        _set(getattr(attention, name), *affine_fit(x, torch.cat(parts, 1)))

    context = [
        _attend(attention.query(h), attention.key(h), attention.value(h), attention.num_attention_heads, mask)
        for h, mask in zip(own, masks, strict=True)
    ]
    wanted = _rows([part.attended_sum for part in inside], masks)[:, units] - x
    _set(layer.attention.output.dense, *affine_fit(_rows(context, masks), wanted))
    sums = [h + layer.attention.output.dense(c) for h, c in zip(own, context, strict=True)]
    _refit_norm(layer.attention.output.LayerNorm, sums, [part.attended for part in inside], masks, units)
    attended = [layer.attention.output.LayerNorm(h) for h in sums]

    x = _rows(attended, masks)
    activated = _rows([part.activated for part in inside], masks)
    importance = activated.std(0) * source.output.dense.weight[units].norm(dim=0)
    kept = importance.topk(layer.intermediate.dense.out_features).indices.sort().values
    _set(layer.intermediate.dense, *affine_fit(x, _rows([part.before_activation for part in inside], masks)[:, kept]))
    hidden = [layer.intermediate.intermediate_act_fn(layer.intermediate.dense(h)) for h in attended]
    wanted = _rows([part.sum for part in inside], masks)[:, units] - x
    _set(layer.output.dense, *affine_fit(_rows(hidden, masks), wanted))
    sums = [a + layer.output.dense(h) for a, h in zip(attended, hidden, strict=True)]
    _refit_norm(layer.output.LayerNorm, sums, [part.output for part in inside], masks, units)
    return [layer.output.LayerNorm(h) for h in sums]


def _cut_head(
    student: CrossEncoder, source: CrossEncoder, own: list[Tensor], states: list[Tensor], masks: list[Tensor]
) -> None:
    """Refit pooler and classifier on the final states."""
    first = torch.cat([_first_rows(mask) for mask in masks])
    weights = torch.where(first, CLS_WEIGHT, 1.0)
    pooler, classifier = source.bert.bert.pooler.dense, source.bert.classifier
    final = torch.cat([x[:, 0] for x in states])
    pooled = pooler(final).tanh()
    importance = pooled.std(0) * classifier.weight.norm(dim=0)
    kept = importance.topk(student.config.hidden_size).indices.sort().values
    wanted = pooler(_rows(states, masks))[:, kept]
    _set(student.bert.bert.pooler.dense, *affine_fit(_rows(own, masks), wanted, weights))
    small = student.bert.bert.pooler.dense(torch.cat([x[:, 0] for x in own])).tanh()
    start = classifier.weight[:, kept]
    left = pooled @ classifier.weight.T + classifier.bias - small @ start.T
    change, bias = affine_fit(small, left, ridge=0.1)  # a few hundred rows for as many weights: stay near the source's
    _set(student.bert.classifier, start + change, bias)


def _choose_heads(source: nn.Module, inside: list[_Inside], masks: list[Tensor], count: int) -> list[int]:
    """Choose the heads whose values add most to the output, in their order."""
    wide = source.attention.self
    values = _rows([part.value for part in inside], masks).unflatten(1, (wide.num_attention_heads, -1))
    output = source.attention.output.dense.weight.unflatten(1, (wide.num_attention_heads, -1))
    added = [(values[:, head] @ output[:, head].T).square().mean() for head in range(wide.num_attention_heads)]
    return sorted(torch.stack(added).topk(count).indices.tolist())


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor) -> Tensor:
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :]).transpose(1, 2).flatten(2)


def _sum_embeddings(embeddings: nn.Module, batch: PairBatch) -> Tensor:
    positions = torch.arange(batch.input_ids.size(1))
    words = embeddings.word_embeddings(batch.input_ids) + embeddings.token_type_embeddings(batch.token_type_ids)
    return words + embeddings.position_embeddings(positions)


def _embed(embeddings: nn.Module, batch: PairBatch) -> Tensor:
    return embeddings.LayerNorm(_sum_embeddings(embeddings, batch))


def _refit_norm(norm: nn.LayerNorm, sums: list[Tensor], wanted: list[Tensor], masks: list[Tensor], units: Tensor) -> None:
    rows = _rows(sums, masks)
    normed = F.layer_norm(rows, rows.shape[1:], eps=norm.eps)
    scale, shift = unit_fit(normed, _rows(wanted, masks)[:, units])
    norm.weight.copy_(scale)
    norm.bias.copy_(shift)


def _rows(tensors: list[Tensor], masks: list[Tensor]) -> Tensor:
    """Rows of real tokens, (N, D)."""
    return torch.cat([tensor[mask] for tensor, mask in zip(tensors, masks, strict=True)])


def _first_rows(mask: Tensor) -> Tensor:
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return first[mask]


def _share(rows: Tensor) -> Tensor:
    """Covariance as a share of its trace, so that every layer counts alike."""
    covariance = rows.double().T.cov()
    return covariance / covariance.trace()


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
