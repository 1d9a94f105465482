"""Weight subcloning: a narrower student cut out of a network, so that it starts close to what the network computes.

Products of rows are computed in float32, block by block, and added in float64: over tens of thousands of rows float32 sums lose
too many digits, and float64 products are several times slower.

The idea is weight subcloning (Samragh et al. 2023, arXiv:2312.09299): keep the most important units, rescale what is left.
Where that paper ranks units by magnitude and rescales by a constant, both steps are least squares here: hidden units are those
that explain the others best, attention heads shrink to the basis that keeps their scores, and every weight matrix is refitted
on a few batches to give, from the student's own inputs, what the network gives at the units kept. No gradient step is taken.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import CrossEncoder, embed, project, run_layer, sum_embeddings
from rankdistil.models.families import NONE, Encoder, Layer, family_of, shape_of
from rankdistil.models.layout import Padded, lay_out

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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
    small, large = student.encoder, source.encoder
    texts = _Texts([lay_out(batch.attention_mask, padding=True) for batch in batches], [b.attention_mask for b in batches])
    states = [[embed(large, *tokens).flatten(0, 1) for tokens in map(_tokens, batches)]]
    for layer in large.layers:
        states.append([run_layer(layer, rows, layout)[0] for rows, layout in zip(states[-1], texts.layouts, strict=True)])
    compared = [texts.rows(states[index]) for index in (0, *(layer + 1 for layer in layers))]
    units = choose_columns(sum(_share(rows) for rows in compared), student.config.hidden_size)

    own = _cut_embeddings(small, large, batches, texts.rows(states[0])[:, units], texts, units)
    for layer, index in zip(small.layers, layers, strict=True):
        own = _cut_layer(layer, large.layers[index], own, states[index], texts, units)
    _cut_head(small, large, own, states[-1], texts)


def _tokens(batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.input_ids, batch.token_type_ids, torch.arange(batch.input_ids.size(1))


class _Texts(NamedTuple):
    """Batches to fit on. Each is run by itself, padded: sums of floats depend on shapes, and what is fitted on them."""

    layouts: list[Padded]
    masks: list[Tensor]

    def rows(self, tensors: list[Tensor]) -> Tensor:
        """Return the rows of real tokens of all batches."""
        return torch.cat([tensor[mask.flatten().bool()] for tensor, mask in zip(tensors, self.masks, strict=True)])

    def first(self, tensors: list[Tensor]) -> Tensor:
        """Return the rows of first tokens of all batches."""
        return torch.cat([layout.first(tensor) for tensor, layout in zip(tensors, self.layouts, strict=True)])


def check_narrower(student: "PretrainedConfig", source: "PretrainedConfig") -> None:
    """Refuse a student that can't be cut out of a network.

    Args:
        student: its config.
        source: the network's config.

    Raises:
        ValueError: naming both numbers and the fix.
    """
    refuse_uncut("subclone", source)
    own, whole = shape_of(student), shape_of(source)
    sizes = {name: (getattr(own, name), getattr(whole, name)) for name in ("hidden_size", "intermediate_size", "heads")}
    sizes["hidden_size / student.heads"] = own.hidden_size // own.heads, whole.hidden_size // whole.heads
    for name, (have, limit) in sizes.items():
        if have > limit:
            raise ValueError(
                f"student.init_from=subclone cuts a student out of a network: student.{name} is {have}, the network has "
                f"{limit}. Set it to {limit} or less, or choose another start."
            )
    embedded = getattr(source, "embedding_size", whole.hidden_size)  # of which a projection makes the hidden states
    if own.hidden_size == embedded < whole.hidden_size:
        raise ValueError(
            f"student.init_from=subclone: student.hidden_size is {embedded}, the width of the network's embeddings, of which a "
            "student of that width would make hidden states without a projection, unlike the network. Set it to another width, "
            "or choose another start."
        )


def refuse_uncut(kind: str, source: "PretrainedConfig") -> None:
    """Refuse a start that can't be cut out of a network of a family.

    Args:
        kind: the start.
        source: the network's config.

    Raises:
        ValueError: saying why, and what to do.
    """
    family = family_of(source)
    if kind in family.uncut:
        raise ValueError(
            f"student.init_from={kind} can't cut a student out of {family.name}: {family.uncut[kind]}. Set "
            "student.init_from=random, or pretrained:<path> with a checkpoint of the student's shape."
        )


def _cut_embeddings(
    small: Encoder, large: Encoder, batches: Sequence[PairBatch], wanted: Tensor, texts: _Texts, units: Tensor
) -> list[Tensor]:
    """Copy what the embeddings hold of the units, and refit what follows; return the embedding output."""
    kept = units if small.projection is NONE else slice(None)  # a projection brings whole embeddings to the student's width
    for name in ("words", "positions", "types"):
        if getattr(small, name) is not None:
            getattr(small, name).weight.copy_(getattr(large, name).weight[:, kept])
    sums = [sum_embeddings(small, *tokens).flatten(0, 1) for tokens in map(_tokens, batches)]
    if small.projection is NONE:
        return _refit_norm(small.norm, sums, wanted, texts)
    small.norm.load_state_dict(large.norm.state_dict())
    normed = [small.norm(rows) for rows in sums]
    _set(small.projection, *affine_fit(texts.rows(normed), wanted))
    return [small.projection(rows) for rows in normed]


WATCHED = ("query", "key", "value", "out_norm", "up", "down", "down_norm")


def _watch(layer: Layer, states: list[Tensor], texts: _Texts) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    """Run a layer; return what goes into its parts and what comes out, batch by batch."""
    seen = {name: ([], []) for name in WATCHED}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for side, tensor in zip(seen[name], (*inputs, output), strict=True):
            side.append(tensor)

    hooks = [getattr(layer, name).register_forward_hook(partial(note, name)) for name in WATCHED]
    for rows, layout in zip(states, texts.layouts, strict=True):
        run_layer(layer, rows, layout)
    for hook in hooks:
        hook.remove()
    return seen


def _cut_layer(
    layer: Layer, source: Layer, own: list[Tensor], states: list[Tensor], texts: _Texts, units: Tensor
) -> list[Tensor]:
    """Refit one layer on the student's own inputs; return its outputs."""
    inside = _watch(source, states, texts)
    targets: dict[str, list[Tensor]] = {"query": [], "key": [], "value": []}
    values = {name: texts.rows(inside[name][1]).unflatten(1, (source.heads, -1)) for name in targets}
    output = source.out.weight[units].unflatten(1, (source.heads, -1))
    width, wide_width = layer.query.out_features // layer.heads, output.size(2)
    for head in _choose_heads(source, values["value"], layer.heads):
        query, key, value = (values[name][:, head] for name in targets)
        left, right = shared_basis(query, key, width)
        scale = (width / wide_width) ** 0.25  # each side's part of the other divisor of the scores
        targets["query"].append(query @ left * scale)
        targets["key"].append(key @ right * scale)
        targets["value"].append(value @ shared_basis(value, output[:, head], width)[0])
    x = texts.rows(own)
    for name, parts in targets.items():
        _set(getattr(layer, name), *affine_fit(x, torch.cat(parts, 1)))

    pairs = zip(own, texts.layouts, strict=True)
    context = [layout.attend(*project(layer, rows, rows, layout), layer.heads, alone=False)[0] for rows, layout in pairs]
    summed, normed = map(texts.rows, inside["out_norm"])
    _set(layer.out, *affine_fit(texts.rows(context), summed[:, units] - x))
    sums = [rows + layer.out(part) for rows, part in zip(own, context, strict=True)]
    attended = _refit_norm(layer.out_norm, sums, normed[:, units], texts)

    x = texts.rows(attended)
    importance = texts.rows(inside["down"][0]).std(0) * source.down.weight[units].norm(dim=0)
    kept = importance.topk(layer.up.out_features).indices.sort().values
    _set(layer.up, *affine_fit(x, texts.rows(inside["up"][1])[:, kept]))
    hidden = [layer.activation(layer.up(rows)) for rows in attended]
    summed, normed = map(texts.rows, inside["down_norm"])
    _set(layer.down, *affine_fit(texts.rows(hidden), summed[:, units] - x))
    sums = [rows + layer.down(part) for rows, part in zip(attended, hidden, strict=True)]
    return _refit_norm(layer.down_norm, sums, normed[:, units], texts)


def _cut_head(student: Encoder, source: Encoder, own: list[Tensor], states: list[Tensor], texts: _Texts) -> None:
    """Refit pooler and classifier on the final states."""
    places = [torch.arange(mask.size(1)).repeat(len(mask)) for mask in texts.masks]
    weights = torch.where(texts.rows(places) == 0, CLS_WEIGHT, 1.0)
    pooled = source.pool_activation(source.pooler(texts.first(states)))
    importance = pooled.std(0) * source.head.weight.norm(dim=0)
    kept = importance.topk(student.pooler.out_features).indices.sort().values
    _set(student.pooler, *affine_fit(texts.rows(own), source.pooler(texts.rows(states))[:, kept], weights))
    small = student.pool_activation(student.pooler(texts.first(own)))
    start = source.head.weight[:, kept]
    left = pooled @ source.head.weight.T + source.head.bias - small @ start.T
    change, bias = affine_fit(small, left, ridge=0.1)  # a few hundred rows for as many weights: stay near the source's
    _set(student.head, start + change, bias)


def _choose_heads(source: Layer, values: Tensor, count: int) -> list[int]:
    """Choose the heads whose values, (N, H, d), add most to the output, in their order."""
    output = source.out.weight.unflatten(1, (source.heads, -1))
    added = [(values[:, head] @ output[:, head].T).square().mean() for head in range(source.heads)]
    return sorted(torch.stack(added).topk(count).indices.tolist())


def _refit_norm(norm: nn.LayerNorm, sums: list[Tensor], wanted: Tensor, texts: _Texts) -> list[Tensor]:
    """Refit a norm; return its outputs."""
    rows = texts.rows(sums)
    scale, shift = unit_fit(F.layer_norm(rows, rows.shape[1:], eps=norm.eps), wanted)
    norm.weight.copy_(scale)
    norm.bias.copy_(shift)
    return [norm(each) for each in sums]


def _share(rows: Tensor) -> Tensor:
    """Covariance as a share of its trace, so that every layer counts alike."""
    covariance = rows.double().T.cov()
    return covariance / covariance.trace()


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
