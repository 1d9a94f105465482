"""Yes-or-no question to a causal language model (LLM), whether a passage answers a query, and the two words it may answer."""

import re
from typing import TYPE_CHECKING

import torch
from torch import nn

from rankdistil.teachers.architectures import as_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# As the cards of Qwen3-Reranker publish it.
QWEN3 = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
MARKER = "<|im_start|>"
PLACES = re.compile(r"\{(instruction|query|document)\}")


def require_template(key: str, template: object) -> None:
    """See that a template is a text with places for both texts.

    Raises:
        ValueError: naming the key.
    """
    found = PLACES.findall(template) if isinstance(template, str) else []
    if template is not None and not (found.count("query") == found.count("document") == 1):
        raise ValueError(
            f"{key} is {template!r}; expected a text with {{query}} and {{document}}, once each, and {{instruction}} where it "
            "belongs, or null for the template of Qwen3-Reranker."
        )


class Template:
    """Lays out what a model is asked, special tokens included: the tokenizer adds none.

    Of what is too long the document is cut at its end, then the query: the question itself and the place of the answer stay.

    Args:
        tokenizer: the model's.
        template: with {query} and {document}; None for ``QWEN3``.
        instruction: stands for {instruction}.
        answers: the words for relevant and for not relevant.

    Attributes:
        answers: the tokens of both.

    Raises:
        ValueError: for Qwen3's template beside another tokenizer, or an answer that isn't one token.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", template: str | None, instruction: str, answers: tuple[str, str]
    ) -> None:
        if template is None and tokenizer.convert_tokens_to_ids(MARKER) in (None, tokenizer.unk_token_id):
            raise ValueError(
                f"teacher.template=null is that of Qwen3-Reranker, and this tokenizer has no token {MARKER}. Give the "
                "template that the model was trained with: teacher.template=<text with {query} and {document}>."
            )
        self._tokenizer, self._instruction = tokenizer, instruction
        self._parts = PLACES.split(QWEN3 if template is None else template)
        yes, no = (_one_token(tokenizer, word) for word in answers)
        if yes == no:
            raise ValueError(f"teacher.answers are one word, {answers[0]!r}. Give two: [<relevant>,<not relevant>].")
        self.answers = yes, no

    def ids(self, query: str, document: str, most: int) -> tuple[list[int], bool]:
        """Return the tokens of a question, ``most`` at most, and whether something was cut.

        Raises:
            ValueError: if there is no room for the texts at all.
        """
        text, spans = self._filled(query, document)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = found["input_ids"], found["offset_mapping"]
        over = len(ids) - most
        if over <= 0:
            return ids, False
        inside = [[at for at, (start, end) in enumerate(offsets) if begin < end <= stop] for begin, stop in spans]
        left_out = [at for span in inside for at in reversed(span)][:over]
        if len(left_out) < over:
            raise ValueError(
                f"teacher.max_length is {most}, and the question alone has {len(ids) - sum(map(len, inside))} tokens. Set it "
                "higher."
            )
        dropped = set(left_out)
        return [one for at, one in enumerate(ids) if at not in dropped], True

    def _filled(self, query: str, document: str) -> tuple[str, list[tuple[int, int]]]:
        """Fill the places; return where the document and the query stand."""
        asked, answer = as_text(self._tokenizer, [query, document])
        given = {"query": asked, "document": answer, "instruction": self._instruction}
        pieces, spans, length = [], {}, 0
        for number, part in enumerate(self._parts):
            piece = given[part] if number % 2 else part
            if number % 2:
                spans[part] = length, length + len(piece)
            pieces.append(piece)
            length += len(piece)
        return "".join(pieces), [spans["document"], spans["query"]]


def _one_token(tokenizer: "PreTrainedTokenizerFast", word: str) -> int:
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"teacher.answers: {word!r} is {len(ids)} tokens of this tokenizer, expected one. Give a word that the model "
            "answers with and that is one token, maybe with a blank in front."
        )
    return ids[0]


def keep_words(network: "PreTrainedModel", words: tuple[int, int]) -> nn.Linear:
    """Cut a language model's head to some words: its logits are those of these, in their order.

    Returns:
        The new head, whose weights are no longer those of the embeddings.
    """
    head = network.get_output_embeddings()
    rows = torch.tensor(words, device=head.weight.device)
    new = nn.Linear(head.in_features, len(words), bias=head.bias is not None, dtype=head.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(head.weight[rows])
        if head.bias is not None:
            new.bias.copy_(head.bias[rows])
    network.set_output_embeddings(new.requires_grad_(False))
    return new
