"""What a network shows to a loss: logits, hidden states, attention scores.

Losses compare two traces and know nothing of the networks behind them. Only the layers that a loss needs are recorded, so a
trace stays small; keeping every layer of a 12-layer teacher costs more memory than the student itself.
"""

from typing import NamedTuple

from torch import Tensor


class Layers(NamedTuple):
    """Which layers of one network a trace holds.

    Attributes:
        hidden: indices of hidden states, ascending; 0 is the embedding output, m the output of layer m (1-based).
        attention: indices of attention layers, ascending, 0-based.
    """

    hidden: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()


class Trace(NamedTuple):
    """What one network shows for one batch.

    Attributes:
        logits: relevance scores before any activation, (B,); (B, C) for a head with C classes.
        hidden_states: one (B, T, D) tensor for each of ``Layers.hidden``, in that order; without padding one (N, D) tensor, of
            the real tokens one after the other.
        attention_scores: one (B, H, T, T) tensor for each of ``Layers.attention``: Q·Kᵀ/√d before mask and softmax.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    attention_scores: tuple[Tensor, ...] = ()
