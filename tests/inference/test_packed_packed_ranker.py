"""The packed network gives the scores of transformers' padded one."""

import copy

import numpy as np
import pytest
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.data.encode import PairLayout, Segment, assemble
from rankdistil.inference.machine import LEVELS
from rankdistil.inference.packed import Int8Linear, PackedBatch, PackedRanker, pack
from rankdistil.models.bert import CrossEncoder

BERT, PAD = PairLayout((1,), (2,), (2,), 1), 0


@pytest.fixture
def ranker(tiny_ranker: CrossEncoder) -> CrossEncoder:
    """Return a ranker whose scores differ: fresh weights are so small that all pairs get nearly the same."""
    with torch.no_grad():
        for name, value in tiny_ranker.named_parameters():
            if "LayerNorm" not in name:
                value.normal_(std=0.3)
    return tiny_ranker


def drawn(lengths: list[int], first: int) -> tuple[Segment, Segment]:
    random = np.random.default_rng(0)
    return tuple(Segment(random.integers(5, 50, sum(sizes)), np.array(sizes)) for sizes in ([first] * len(lengths), lengths))


def batches(lengths: list[int], first: int) -> tuple[PackedBatch, tuple[torch.Tensor, ...]]:
    pair = drawn(lengths, first)
    return pack(*pair, BERT), assemble(*pair, BERT, PAD)


@pytest.mark.parametrize("first", [0, 1, 8])
@pytest.mark.parametrize("lengths", [[0], [29], [4, 4, 4], [0, 1, 1, 7, 29], [*range(30)]])
@torch.inference_mode()
def test_in_float32_they_agree_within_1e_5(ranker: CrossEncoder, lengths: list[int], first: int) -> None:
    packed, padded = batches(lengths, first)
    expected = ranker.bert(**dict(zip(("input_ids", "attention_mask", "token_type_ids"), padded, strict=True))).logits[:, 0]
    found = PackedRanker(ranker)(packed)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert len(lengths) == 1 or expected.std() > 0.1


@pytest.mark.parametrize("lengths", [[0], [29], [4, 4, 4], [0, 1, 1, 7, 29], [*range(30)], [28] * 3])
@torch.inference_mode()
def test_side_by_side_they_agree_with_runs_within_1e_5(ranker: CrossEncoder, lengths: list[int]) -> None:
    packed, _ = batches(lengths, 1)
    expected, found = PackedRanker(ranker)(packed), PackedRanker(ranker)(packed.side_by_side())
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


class Operators(TorchDispatchMode):
    """Counts the operators that a device is told of, views aside: each takes the processor about as long, whatever its size."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: OpOverload, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def test_side_by_side_the_operators_do_not_grow_with_the_number_of_lengths() -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=12, num_attention_heads=12, intermediate_size=48, num_labels=1
    )
    ranker, counts = PackedRanker(CrossEncoder(BertForSequenceClassification(config)).eval()), {}
    for name, lengths in (("one", [29]), ("thirty", [*range(30)])):
        packed, _ = batches(lengths, 5)
        for way, batch in (("runs", packed), ("side by side", packed.side_by_side())):
            with Operators() as operators:
                ranker(batch)
            counts[name, way] = operators.count
    assert counts["thirty", "runs"] - counts["one", "runs"] == 29 * 12  # a product for each length in each layer
    assert counts["thirty", "side by side"] == counts["one", "side by side"] <= 18 * 12


@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 0.05), ("int8", 0.1)])
@torch.inference_mode()
def test_fewer_bits_keep_scores_within_a_share_of_their_spread(ranker: CrossEncoder, precision: str, bound: float) -> None:
    packed, _ = batches([*range(30)], 5)
    expected, found = PackedRanker(ranker)(packed), PackedRanker(ranker, precision)(packed)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().mean() < bound * expected.std()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-4), ("bfloat16", 0.05)])
@torch.inference_mode()
def test_a_gpu_gives_the_scores_of_the_cpu(ranker: CrossEncoder, precision: str, bound: float) -> None:
    packed, _ = batches([*range(30)], 5)
    expected = PackedRanker(ranker)(packed)
    network = PackedRanker(copy.deepcopy(ranker), precision).to("cuda")
    there = PackedBatch(*(tensor.cuda() for tensor in packed[:4]), packed.runs)
    for batch in (there, there.side_by_side()):
        assert (network(batch).cpu() - expected).abs().mean() < bound * expected.std()


@torch.inference_mode()
def test_in_int8_a_score_does_not_depend_on_its_batch(ranker: CrossEncoder) -> None:
    network, (first, second) = PackedRanker(ranker, "int8"), drawn([*range(30)], 5)
    whole = network(pack(first, second, BERT))
    alone = [network(pack(first.take(row), second.take(row), BERT)) for row in np.arange(30)[:, None]]
    assert torch.allclose(torch.cat(alone), whole, atol=1e-4)


def test_weights_are_shared_in_float32_and_the_ranker_is_left_as_it_was(ranker: CrossEncoder) -> None:
    before = {key: value.clone() for key, value in ranker.state_dict().items()}
    networks = {precision: PackedRanker(ranker, precision) for precision in ("float32", "bfloat16", "int8")}
    own = {value.data_ptr() for value in ranker.parameters()}
    assert sum(value.data_ptr() in own for value in networks["float32"].buffers()) > 10
    assert all(torch.equal(value, before[key]) for key, value in ranker.state_dict().items())


@pytest.mark.parametrize("bits", LEVELS)
def test_an_integer_product_is_the_rounded_operands_product(bits: int) -> None:
    torch.manual_seed(0)
    weight, bias, rows = torch.randn(6, 20), torch.randn(6), torch.randn(9, 20) * torch.logspace(-3, 3, 9)[:, None]
    rows[3], rows[4] = rows[3].abs() + 5, 0
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    middle, by_row, by_output = (low + high) / 2, (high - low) / 254, weight.abs().amax(1, keepdim=True) / LEVELS[bits]
    whole = ((rows - middle) / by_row.clamp(min=1e-30)).round() * by_row + middle
    expected = whole.double() @ ((weight / by_output).round() * by_output).double().T + bias
    assert torch.allclose(Int8Linear(weight, bias, bits)(rows).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_of_an_integer_product_are_not_cut(sign: int) -> None:
    weight, rows = torch.full((8, 256), float(sign)), torch.ones(4, 256)
    rows[:, 0] = -1  # the row's middle is 0, so all other activations are the largest there are
    assert torch.allclose(Int8Linear(weight, torch.zeros(8))(rows), torch.full((4, 8), 254.0 * sign), rtol=1e-6)


def test_another_precision_is_refused(ranker: CrossEncoder) -> None:
    with pytest.raises(ValueError) as caught:
        PackedRanker(ranker, "float16")
    assert str(caught.value) == "dtype is 'float16'; expected one of float32, bfloat16, int8."
