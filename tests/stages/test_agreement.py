"""How far others' scores are from torch's in float32: tools that err are told by what they do."""

import math

import numpy as np
import pytest
from support import uneven_ranker

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.inference.engine import Engine, TorchNetwork
from rankdistil.stages import agreement
from rankdistil.stages.agreement import CPU, HeldOut, JudgedPairs, Reference, Unavailable, Way
from rankdistil.stages.export import _told

LENGTH = 24
PASSAGES = ["wings beat", "apples fall", "bees dance", "a queen lays eggs in the hive all day"]


def split(name: str) -> JudgedPairs:
    pairs = [Pair(query, f"p{at}", query, text) for query in ("bees", "fruit") for at, text in enumerate(PASSAGES)]
    return JudgedPairs(name, pairs, {query: {"p0": 1} for query in ("bees", "fruit")})


@pytest.fixture(scope="module")
def made() -> tuple[Reference, Engine]:
    """Return what is compared with, and the engine that gives the same scores."""
    ranker, tokenizer = uneven_ranker(1)
    encoder = PairEncoder(tokenizer, LENGTH)
    reference = Reference(ranker, HeldOut(split("valid"), split("test"), [], encoder), 0.01)
    return reference, Engine(TorchNetwork(ranker, encoder, CPU), encoder)


def compared(made: tuple[Reference, Engine], change) -> agreement.Check:
    """Return the row of a tool whose scores are torch's, changed."""
    reference, engine = made
    way = Way("tool 1.0", "float32", lambda: lambda pairs: change(np.array(engine.score(pairs)[0])), foreign=True)
    (check,), missing = reference.compare([way])
    assert missing == []
    return check


def test_a_tool_that_gives_the_logits_passes(made):
    check = compared(made, lambda logits: logits)
    assert (check.passes, check.sigmoid, check.equal, check.tau, check.name) == (True, False, None, 1.0, "float32")
    assert max(check.largest, check.alone) < 1e-5


def test_a_tool_that_gives_sigmoids_is_compared_with_sigmoids_and_its_row_says_so(made):
    check = compared(made, lambda logits: 1 / (1 + np.exp(-logits)))
    assert (check.passes, check.sigmoid, check.name) == (True, True, "float32, sigmoid")
    assert check.largest < 1e-5


def test_a_softmax_over_one_label_fails_and_is_named(made, tmp_path):
    reference, _ = made
    check = compared(made, lambda logits: np.exp(logits - logits))
    assert (check.passes, check.equal) == (False, 1.0)
    assert "All its scores are 1, as a softmax over the only label makes them. " in _told(check, reference.check, tmp_path)


def test_a_tool_that_shifts_scores_in_the_same_order_fails(made, tmp_path):
    reference, _ = made
    check = compared(made, lambda logits: logits + 100)
    assert (check.passes, check.tau) == (False, 1.0)
    assert check.largest == pytest.approx(100)
    assert _told(check, reference.check, tmp_path) == (
        f"tool 1.0 float32: a score is 1e+02 off torch's; allowed are 0.001. {tmp_path} stays as it is; don't rank with tool "
        "1.0 unless you change how it is called."
    )


def test_a_score_that_depends_on_its_neighbours_fails(made):
    check = compared(made, lambda logits: logits + 0.0005 * (len(logits) > 1) + 0.001 * (len(logits) == 1))
    assert check.alone == pytest.approx(0.0005, abs=1e-5)
    assert check.passes
    check = compared(made, lambda logits: logits if len(logits) > 1 else logits - 0.002)
    assert check.alone == pytest.approx(0.002, abs=1e-5)
    assert not check.passes


def test_a_tool_that_cuts_long_pairs_otherwise_is_noticed(made):
    reference, engine = made
    other = PairEncoder(engine.encoder.tokenizer, LENGTH - 4)
    way = Way("tool 1.0", "float32", lambda: lambda pairs: Engine(engine.network, other).score(pairs)[0], foreign=True)
    ((check,), _) = reference.compare([way])
    assert check.largest > 0.001
    assert not check.passes
    assert [*check[4:6]] == [quality._replace(change=0.0) for quality in reference.check[4:6]], "no held-out pair is that long"


def test_what_cannot_be_had_is_named_and_a_fault_of_our_own_is_not_hidden(made):
    reference, _ = made

    def raising(error: Exception):
        def opened():
            raise error

        return opened

    assert reference.compare(
        [
            Way("tool 1.0", "float32", raising(KeyError("a\nb")), foreign=True),
            Way("torch", "int8", raising(Unavailable("no such products")), 8),
        ]
    ) == ([], ["tool 1.0 float32: 'a\\nb'", "torch int8, 8-bit weights: no such products"])
    with pytest.raises(ValueError, match="the score is nan"):
        reference.compare([Way("torch", "int8", lambda: lambda pairs: [math.nan] * len(pairs), 8)])
