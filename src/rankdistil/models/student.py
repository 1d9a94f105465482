"""The shape of a student, and the check that it can learn from its teacher."""

from dataclasses import dataclass

from transformers import BertConfig


@dataclass(frozen=True)
class StudentSize:
    """The shape of a student.

    Attributes:
        name: the size's name, for example ``6l``.
        layers: number of transformer layers.
        hidden_size: width D; a multiple of ``heads``.
        heads: number of attention heads H; the teacher's where attention is matched.
        intermediate_size: width of the feed-forward layers.
    """

    name: str
    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int

    def __post_init__(self) -> None:
        for field in ("layers", "hidden_size", "heads", "intermediate_size"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"student.{field} is {value!r}; expected a whole number of at least 1.")
        if self.hidden_size % self.heads:
            near = self.hidden_size // self.heads * self.heads or self.heads
            raise ValueError(
                f"student.hidden_size={self.hidden_size} is not a multiple of student.heads={self.heads}. "
                f"Set student.hidden_size to {near} or {near + self.heads}."
            )

    def config(self, teacher: BertConfig) -> BertConfig:
        """The network's config: this shape, everything else (vocabulary, positions, dropout) as the teacher's."""
        values = teacher.to_dict() | {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden_size,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
        }
        config = BertConfig.from_dict(values)
        config.num_labels = 1
        return config


def check_match(size: StudentSize, teacher: BertConfig, needs: frozenset[str]) -> None:
    """Refuse a student that can't match its teacher.

    Args:
        size: the student's shape.
        teacher: the teacher's config.
        needs: what the losses compare, of ``attention``, ``hidden``, ``embedding``.

    Raises:
        ValueError: naming both sides and what to do.
    """
    if "attention" in needs and size.heads != teacher.num_attention_heads:
        raise ValueError(
            f"the attention loss compares heads one by one: student {size.name} has student.heads={size.heads}, its teacher "
            f"{teacher.num_attention_heads}. Set student.heads={teacher.num_attention_heads} (hidden_size must be a multiple), "
            "or drop the loss: '~stage.losses.attention'."
        )
