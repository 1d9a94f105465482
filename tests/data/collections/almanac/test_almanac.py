"""What the embedded collection holds, and what it promises to those who train and test on it."""

import re
from collections import Counter
from statistics import fmean, median

import ir_datasets
import pytest

from rankdistil.data.collections import almanac
from rankdistil.data.collections.almanac import topic
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import training_triples
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.folder import FolderSplit
from rankdistil.metrics.ranking import means, per_query

QUESTIONS = {"train": 936, "valid": 216, "test": 192}
TOPICS = {"train": 26, "valid": 6, "test": 16}


@pytest.fixture(scope="module")
def readers() -> dict[str, Reader]:
    return {split: Reader(f"rankdistil/almanac/{split}") for split in almanac.SPLITS}


@pytest.fixture(scope="module")
def passages(readers) -> dict[str, str]:
    return dict(readers["test"].passages())


@pytest.fixture(scope="module")
def questions(readers) -> dict[str, str]:
    return {key: text for reader in readers.values() for key, text in reader.queries.items()}


@pytest.fixture(scope="module")
def judged(readers) -> dict[str, dict[str, int]]:
    return {key: row for reader in readers.values() for key, row in reader.qrels.items()}


@pytest.fixture(params=almanac.SPLITS)
def split(request) -> str:
    return request.param


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def test_576_passages_in_48_topics_of_12(passages):
    assert len(passages) == 576
    assert sorted(Counter(map(topic, passages)).values()) == [12] * 48


def test_passages_have_40_to_80_words(passages):
    lengths = [len(text.split()) for text in passages.values()]
    assert (min(lengths), median(lengths), max(lengths)) == (41, 67, 80)


def test_no_question_or_passage_is_cut_at_the_laptop_s_length(tokenizer, passages, questions):
    encoder = PairEncoder(tokenizer, 155)
    longest = [int(encoder.segment([*texts.values()]).lengths.max()) for texts in (questions, passages)]
    assert longest[0] <= 24
    assert longest[1] <= 128


def test_three_questions_per_passage_and_in_the_test_of_every_third_one(readers, passages, questions):
    tested = set(map(topic, readers["test"].queries))
    asked = [passage for passage in passages if topic(passage) not in tested or int(passage[-2:]) % 3 == 1]
    assert set(questions) == {f"{passage}-{kind}" for passage in asked for kind in "wpb"}
    assert len(questions) == 1344


def test_splits_have_these_questions_and_topics(readers, split):
    queries = readers[split].queries
    assert (len(queries), len(set(map(topic, queries)))) == (QUESTIONS[split], TOPICS[split])


def test_no_topic_occurs_in_two_splits(readers):
    topics = [set(map(topic, reader.queries)) for reader in readers.values()]
    assert len(set.union(*topics)) == sum(len(some) for some in topics) == 48


def test_every_question_is_judged(readers, split):
    assert set(readers[split].qrels) == set(readers[split].queries)


def test_grades_are_1_and_2_and_every_question_has_a_full_answer(judged):
    assert {grade for row in judged.values() for grade in row.values()} == {1, 2}
    assert all(2 in row.values() for row in judged.values())


def test_plain_and_paraphrased_questions_are_answered_by_their_passage_alone(judged):
    assert all(row == {key[:-2]: 2} for key, row in judged.items() if key[-1] in "wp")


def test_broad_questions_are_answered_by_their_passage_and_one_to_three_others(judged):
    broad = {key: row for key, row in judged.items() if key[-1] == "b"}
    assert {len(row) for row in broad.values()} == {2, 3, 4}
    assert all(key[:-2] in row for key, row in broad.items())


def test_answers_are_passages_of_the_question_s_own_topic(judged, passages):
    for key, row in judged.items():
        assert row.keys() <= passages.keys()
        assert {topic(passage) for passage in row} == {topic(key)}


def test_training_passages_are_those_of_training_topics(readers, passages):
    trained = dict(readers["train"].passages())
    topics = set(map(topic, readers["train"].queries))
    assert trained == {key: text for key, text in passages.items() if topic(key) in topics}
    assert len(trained) == 26 * 12


def test_valid_and_test_are_ranked_against_all_passages(readers, passages):
    assert dict(readers["valid"].passages()) == passages


def test_no_passage_and_no_question_occurs_twice(passages, questions):
    for texts in (passages, questions):
        assert len({" ".join(text.lower().split()) for text in texts.values()}) == len(texts)


def test_texts_are_ascii_without_stray_white_space(passages, questions):
    for text in [*passages.values(), *questions.values()]:
        assert text.isascii()
        assert text == " ".join(text.split())


def test_topic_of_a_passage_is_the_topic_of_its_questions():
    names = ["honey-bees-03", "honey-bees-03-w", "honey-bees-03-p", "honey-bees-03-b"]
    assert {topic(name) for name in names} == {"honey-bees"}


def test_paraphrased_questions_share_few_words_with_their_answers(readers, split, passages):
    shares: dict[str, list[float]] = {"w": [], "p": [], "b": []}
    for key, text in readers[split].queries.items():
        shares[key[-1]].append(len(words(text) & words(passages[key[:-2]])) / len(words(text)))
    assert fmean(shares["w"]) > 0.65  # of the question's words, the common ones included
    assert fmean(shares["p"]) < 0.25


def test_bm25_is_a_fair_first_stage_on_the_test_questions(readers):
    values = means(per_query(readers["test"].candidates(30), readers["test"].qrels))
    assert 0.45 < values["nDCG@10"] < 0.75
    assert values["nDCG@10"] == pytest.approx(0.5543, abs=5e-5)


def test_bm25_finds_plain_questions_and_misses_paraphrased_ones(readers):
    values = per_query(readers["test"].candidates(30), readers["test"].qrels)
    by_kind = {kind: fmean(row["nDCG@10"] for key, row in values.items() if key[-1] == kind) for kind in "wpb"}
    assert by_kind == pytest.approx({"w": 0.9942, "p": 0.0845, "b": 0.5843}, abs=5e-5)


def test_ids_load_by_ir_datasets_once_registered(split):
    almanac.register()
    dataset = ir_datasets.load(f"rankdistil/almanac/{split}")
    assert dataset.dataset_id() == f"rankdistil/almanac/{split}"
    assert all(dataset.has(kind) for kind in ("docs", "queries", "qrels", "docpairs", "scoreddocs"))
    assert len(list(dataset.queries_iter())) == QUESTIONS[split]


def test_registering_again_changes_nothing():
    almanac.register()
    before = ir_datasets.load("rankdistil/almanac/test")
    almanac.register()
    assert ir_datasets.load("rankdistil/almanac/test") is before


def test_docs_store_and_qrels_answer_by_id():
    almanac.register()
    dataset = ir_datasets.load("rankdistil/almanac/test")
    assert dataset.docs_store().get("aircraft-02").default_text().startswith("A stall happens when")
    assert dataset.qrels.asdict()["bridges-01-b"] == {"bridges-01": 2, "bridges-03": 1, "bridges-04": 2}


def test_docpairs_pair_each_answer_with_each_other_passage_of_its_topic(readers, split, passages):
    topics: dict[str, set[str]] = {}
    for passage in passages:
        topics.setdefault(topic(passage), set()).add(passage)
    found = [triple for _, triple in training_triples(readers[split])[1]]
    assert len(found) == len(set(found))
    assert set(found) == {
        (query, answer, other)
        for query, row in readers[split].qrels.items() for answer in row for other in topics[topic(query)] - row.keys()
    }  # fmt: skip


def test_scoreddocs_are_at_most_100_passages_of_the_split_s_collection(readers, split):
    held = dict(readers[split].passages())
    rows = Counter(row.query_id for row in readers[split].dataset.scoreddocs_iter())
    assert rows.keys() <= readers[split].queries.keys()
    assert max(rows.values()) == 100
    assert {row.doc_id for row in readers[split].dataset.scoreddocs_iter()} <= held.keys()


def test_a_reader_knows_the_topics_of_its_questions_and_none_of_another_collection_s(readers, tmp_path) -> None:
    for reader in readers.values():
        assert reader.topics(reader.queries) == {query: topic(query) for query in reader.queries}
    assert Reader(FolderSplit(str(tmp_path), "corpus.tsv", "queries.tsv", "qrels.txt")).topics(["honey-bees-01"]) is None
