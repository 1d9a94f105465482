"""Requests in the shapes of each client, their answers, and one sentence for each thing that can't be."""

import json
import math

import pytest

from rankdistil.data.records import Pair
from rankdistil.serve.messages import Asked, Limits, RefusedError, answer, read_rerank, read_score

LIMITS = Limits(body=1000, documents=3, characters=10)


def rerank(**body: object) -> Asked:
    return read_rerank(json.dumps(body).encode(), LIMITS)


def pair(query: str, passage: str) -> Pair:
    return Pair("", "", query, passage)


def test_documents_are_texts_or_objects_with_one() -> None:
    asked = rerank(query="q", documents=["a", {"text": "b", "title": "c"}], model="any", rank_fields=None)
    assert asked == Asked("documents", [pair("q", "a"), pair("q", "b")], 2, False, False)


def test_what_clients_leave_null_has_its_default() -> None:
    asked = rerank(query="q", documents=["a"], texts=None, top_n=None, return_documents=None, raw_scores=None)
    assert asked == Asked("documents", [pair("q", "a")], 1, False, False)


def test_texts_alone_ask_for_the_shape_of_tei() -> None:
    asked = rerank(query="q", texts=["a", ""], return_text=True, raw_scores=True, truncate=True)
    assert asked == Asked("texts", [pair("q", "a"), pair("q", "")], 2, True, True)


@pytest.mark.parametrize("letters", ["a\\u00e9", "a\u00e9"])
def test_a_body_may_be_escaped_or_not(letters: str) -> None:
    asked = read_rerank(f'{{"query": "{letters}", "documents": ["\\ud83d\\ude00"]}}'.encode(), LIMITS)
    assert asked.pairs == [pair("aé", "😀")]


REFUSED = [
    (b"{", 400, "the body is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)."),
    (b"", 400, "the body is no JSON: Expecting value: line 1 column 1 (char 0)."),
    (b'{"query": "\xff"}', 400, "the body is no JSON: it is not in UTF-8."),
    (b"[" * 500_000, 400, "the body is no JSON that can be read: it is nested too deeply."),
    (b"9" * 5000, 400, "the body is no JSON that can be read: a number has too many digits."),
    (b'["q"]', 422, "the body is a list; expected an object with query, and documents or texts."),
    (b"null", 422, "the body is missing; expected an object with query, and documents or texts."),
    ({"documents": ["a"]}, 422, "query is missing; expected a text."),
    ({"query": 3, "documents": ["a"]}, 422, "query is a number; expected a text."),
    ({"query": " \n", "documents": ["a"]}, 422, "query is empty."),
    ({"query": "q" * 11, "documents": ["a"]}, 413, "query has 11 characters; expected 10 at most."),
    ({"query": "q"}, 422, "neither documents nor texts is given; expected one of them, a list of texts."),
    (
        {"query": "q", "documents": ["a"], "texts": ["a"]}, 422,
        "both documents and texts are given; expected one of them, a list of texts.",
    ),
    ({"query": "q", "documents": "a"}, 422, "documents is a text; expected a list."),
    ({"query": "q", "texts": {"a": "b"}}, 422, "texts is an object; expected a list."),
    ({"query": "q", "documents": []}, 422, "documents is empty; expected at least one."),
    ({"query": "q", "documents": ["a"] * 4}, 413, "documents has 4 entries; expected 3 at most."),
    ({"query": "q", "documents": ["a", None]}, 422, "documents[1] is missing; expected a text."),
    ({"query": "q", "documents": ["a", True]}, 422, "documents[1] is a truth value; expected a text."),
    ({"query": "q", "documents": [{"title": "a"}]}, 422, "documents[0].text is missing; expected a text."),
    ({"query": "q", "texts": [["a"]]}, 422, "texts[0] is a list; expected a text."),
    ({"query": "q", "texts": ["a" * 11]}, 413, "texts[0] has 11 characters; expected 10 at most."),
    ({"query": "q", "texts": ["ab\ud83d"]}, 422, "texts[0] holds a lone surrogate (character 2), which is no text."),
    ({"query": "\udc00", "texts": ["a"]}, 422, "query holds a lone surrogate (character 0), which is no text."),
    ({"query": "q", "documents": ["a"], "top_n": 0}, 422, "top_n is 0; expected a whole number of at least 1."),
    ({"query": "q", "documents": ["a"], "top_n": 1.5}, 422, "top_n is 1.5; expected a whole number of at least 1."),
    ({"query": "q", "documents": ["a"], "top_n": "2"}, 422, "top_n is a text; expected a whole number of at least 1."),
    ({"query": "q", "documents": ["a"], "top_n": True}, 422, "top_n is a truth value; expected a whole number of at least 1."),
    ({"query": "q", "documents": ["a"], "return_documents": 1}, 422, "return_documents is a number; expected true or false."),
    ({"query": "q", "texts": ["a"], "raw_scores": "no"}, 422, "raw_scores is a text; expected true or false."),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "sentence"), REFUSED, ids=[sentence[:50] for *_, sentence in REFUSED])
def test_what_cannot_be_ranked_is_refused_in_one_sentence(body: object, status: int, sentence: str) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RefusedError) as caught:
        read_rerank(sent, LIMITS)
    assert (caught.value.status, caught.value.sentence, caught.value.retry_s) == (status, sentence, None)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "pairs is missing; expected a list."),
        ({"pairs": ["ab"]}, "pairs[0] is a text; expected [query, passage]."),
        ({"pairs": [["a", "b"], ["a"]]}, "pairs[1] is a list of 1; expected [query, passage]."),
        ({"pairs": [["", "b"]]}, "pairs[0][0] is empty."),
        ({"pairs": [["a", 1]]}, "pairs[0][1] is a number; expected a text."),
    ],
)
def test_what_is_no_pair_is_refused_in_one_sentence(body: object, sentence: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_score(json.dumps(body).encode(), LIMITS)
    assert (caught.value.status, caught.value.sentence) == (422, sentence)


def test_hits_of_documents_are_ordered_by_logits_and_scored_from_0_to_1() -> None:
    asked = rerank(query="q", documents=["a", "b", "c"], top_n=2, return_documents=True)
    found = json.loads(answer(asked, [0.0, 60.0, 50.0], 21, "tiny"))
    assert len(found.pop("id")) == 32
    assert found == {
        "object": "list", "model": "tiny", "usage": {"prompt_tokens": 21, "total_tokens": 21},
        "results": [
            {"index": 1, "relevance_score": 1.0, "document": {"text": "b"}},
            {"index": 2, "relevance_score": 1.0, "document": {"text": "c"}},
        ],
    }  # fmt: skip


def test_hits_of_texts_are_a_list_as_tei_answers() -> None:
    plain, full = (rerank(query="q", texts=["a", "b"], return_text=flag) for flag in (False, True))
    scores = [math.log(3), -math.log(4)]
    expected = [{"index": 0, "score": pytest.approx(3 / 4)}, {"index": 1, "score": pytest.approx(1 / 5)}]
    assert json.loads(answer(plain, scores, 9, "tiny")) == expected
    assert [row["text"] for row in json.loads(answer(full, scores, 9, "tiny"))] == ["a", "b"]


def test_raw_scores_are_the_logits() -> None:
    asked = rerank(query="q", documents=["a", "b"], raw_scores=True)
    hits = json.loads(answer(asked, [-2.5, 1.25], 9, "tiny"))["results"]
    assert hits == [{"index": 1, "relevance_score": 1.25}, {"index": 0, "relevance_score": -2.5}]


def test_equal_scores_keep_the_order_given_and_far_logits_do_not_overflow() -> None:
    hits = json.loads(answer(rerank(query="q", texts=["a", "b", "c"]), [-1000.0, 1000.0, 1000.0], 9, "tiny"))
    assert [(hit["index"], hit["score"]) for hit in hits] == [(1, 1.0), (2, 1.0), (0, 0.0)]


def test_pairs_are_scored_in_their_order() -> None:
    body = json.dumps({"pairs": [["a", "b"], ["c", ""]]}).encode()
    asked = read_score(body, LIMITS)
    assert asked.pairs == [pair("a", "b"), pair("c", "")]
    assert json.loads(answer(asked, [-1.0, 0.0], 9, "tiny"))["scores"] == [pytest.approx(1 / (1 + math.e)), 0.5]
