"""Teachers of any kind score as the libraries that their checkpoints come from do, whatever else is asked beside a pair."""

import json
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
import tiny_teachers
import torch
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rankdistil.teachers import scorers
from rankdistil.teachers.answers import QWEN3
from rankdistil.teachers.scorers import Scorer, ScorerSettings, check_scorer, open_scorer

QUERIES = ["where do apples grow", "what do bees make", "", "where do apples grow"]
PASSAGES = ["Apples grow on trees. " * 3, "Bees make honey from nectar.", "Cats sleep most of the day.", "Pears"]
INSTRUCTION = "Find what answers."


def opened(kind: str, path: Path, **given: object) -> Scorer:
    return open_scorer(ScorerSettings(kind, str(path), **{"instruction": INSTRUCTION} | given))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny teacher of each kind."""
    folder = tmp_path_factory.mktemp("teachers")
    names = {"cross_encoder": "cross_encoder", "bi_encoder": "encoder", "sparse": "sparse", "causal_lm": "causal_lm"}
    return {kind: getattr(tiny_teachers, name)(folder / kind) for kind, name in names.items()}


KINDS = ("cross_encoder", "bi_encoder", "sparse", "causal_lm")


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_depends_on_its_pair_alone_in_any_order(made: dict[str, Path], kind: str, monkeypatch) -> None:
    scorer = opened(kind, made[kind])
    together = scorer.score(QUERIES, PASSAGES)
    assert together.dtype == np.float32
    assert len({*together.tolist()}) == len(together)
    scorer = opened(kind, made[kind])
    alone = [scorer.score([query], [passage])[0] for query, passage in zip(QUERIES, PASSAGES, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    monkeypatch.setitem(scorers.BUDGET, "cpu", 60)  # tokens of a batch: now there are several
    backwards = opened(kind, made[kind]).score(QUERIES[::-1], PASSAGES[::-1])[::-1]
    np.testing.assert_allclose(together, backwards, atol=1e-5)


def test_a_cross_encoder_s_scores_are_those_of_sentence_transformers(made: dict[str, Path]) -> None:
    oracle = sentence_transformers.CrossEncoder(str(made["cross_encoder"]), device="cpu", max_length=20)
    expected = oracle.predict([*zip(QUERIES, PASSAGES, strict=True)], activation_fn=torch.nn.Identity())
    scorer = opened("cross_encoder", made["cross_encoder"], max_length=20)
    np.testing.assert_allclose(scorer.score(QUERIES, PASSAGES), expected, atol=1e-5)
    cut, of = scorer.cuts()["pairs"]
    assert (cut > 0, of) == (True, 4)
    assert opened("cross_encoder", made["cross_encoder"]).max_length == 100  # 102 positions, the first behind padding's id


def test_two_labels_are_the_logit_of_the_relevant_one_less_that_of_the_other(tmp_path: Path) -> None:
    path = tiny_teachers.cross_encoder(tmp_path, {0: "relevant", 1: "not relevant"})
    network, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        logits = [network(**tokenizer(*pair, return_tensors="pt")).logits[0] for pair in zip(QUERIES, PASSAGES, strict=True)]
    expected = [float(row[0] - row[1]) for row in logits]
    np.testing.assert_allclose(opened("cross_encoder", path).score(QUERIES, PASSAGES), expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "similarity"), [("mean", "cosine"), ("cls", "dot"), ("lasttoken", "cosine")])
def test_a_bi_encoder_s_scores_are_those_of_sentence_transformers(
    made: dict[str, Path], tmp_path: Path, pooling: str, similarity: str
) -> None:
    torch.manual_seed(3)
    dense = Dense(24, 8, activation_function=torch.nn.Tanh())
    modules = [Transformer(str(made["bi_encoder"]), max_seq_length=16), Pooling(24, pooling), dense]
    modules += [Normalize()] if pooling == "mean" else []
    prompts = {"query": "query: ", "document": "passage: "}
    oracle = sentence_transformers.SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, similarity_fn_name=similarity
    )
    oracle.save_pretrained(str(tmp_path))
    expected = oracle.similarity_pairwise(oracle.encode_query(QUERIES), oracle.encode_document(PASSAGES))
    scorer = opened("bi_encoder", tmp_path)
    np.testing.assert_allclose(scorer.score(QUERIES, PASSAGES), expected.numpy(), atol=1e-5)
    assert scorer.max_length == 16
    whole = AutoTokenizer.from_pretrained(tmp_path)([f"passage: {passage}" for passage in PASSAGES], truncation=False)
    assert scorer.cuts()["passages"] == (sum(len(ids) > 16 for ids in whole["input_ids"]), 4)


def test_a_plain_folder_is_pooled_by_the_mean_compared_by_cosine_and_says_so(made: dict[str, Path]) -> None:
    scorer = opened("bi_encoder", made["bi_encoder"], query_prompt="apples ")
    assert scorer.notes == [
        f"{made['bi_encoder']} has no modules.json that says how its tokens become a vector: it is their mean, compared by "
        "cosine.",
        scorers.COSINES,
    ]
    oracle = sentence_transformers.SentenceTransformer(
        modules=[Transformer(str(made["bi_encoder"])), Pooling(24, "mean")], device="cpu"
    )
    asked = oracle.encode([f"apples {query}" for query in QUERIES])
    expected = oracle.similarity_pairwise(asked, oracle.encode(PASSAGES)).numpy()
    np.testing.assert_allclose(scorer.score(QUERIES, PASSAGES), expected, atol=1e-5)


def test_a_splade_s_scores_are_those_of_sentence_transformers(made: dict[str, Path]) -> None:
    oracle = sentence_transformers.SparseEncoder(str(made["sparse"]), device="cpu")
    asked, answers = oracle.encode_query(QUERIES), oracle.encode_document(PASSAGES)
    expected = (asked.to_dense() * answers.to_dense()).sum(1).numpy()
    np.testing.assert_allclose(opened("sparse", made["sparse"]).score(QUERIES, PASSAGES), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bi_encoder", "sparse"])
def test_each_text_is_encoded_once_however_many_pairs_it_is_part_of(made: dict[str, Path], kind: str) -> None:
    scorer, rows = opened(kind, made[kind]), []
    scorer.network.register_forward_hook(lambda *given: rows.append(len(given[-1])))
    pairs = [(query, passage) for query in set(QUERIES) for passage in PASSAGES]
    for _ in range(2):
        scorer.score(*zip(*pairs, strict=True))
    assert sum(rows) == len(set(QUERIES)) + len(PASSAGES)


def of_qwen(path: Path, query: str, document: str, most: int) -> float:
    """Score a pair as the card of Qwen3-Reranker does, without padding."""
    tokenizer, network = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    start, rest = QWEN3.split("<Instruct>")
    before, after = tokenizer.encode(start), tokenizer.encode(rest.partition("{document}")[2])
    middle = tokenizer.encode(f"<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}")
    ids = before + middle[: most - len(before) - len(after)] + after
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, -1]
    return float(logits[tokenizer.convert_tokens_to_ids("yes")] - logits[tokenizer.convert_tokens_to_ids("no")])


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_a_language_model_s_answer_is_that_of_its_published_code(made: dict[str, Path], cut: bool) -> None:
    pairs = [*zip(QUERIES, PASSAGES, strict=True)]
    asked = [QWEN3.format(instruction=INSTRUCTION, query=query, document=document) for query, document in pairs]
    lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(made["causal_lm"])(asked)["input_ids"]]
    most = lengths[0] - 5 if cut else 400
    scorer = opened("causal_lm", made["causal_lm"], max_length=most)
    expected = [of_qwen(made["causal_lm"], *pair, most) for pair in pairs]
    np.testing.assert_allclose(scorer.score(QUERIES, PASSAGES), expected, atol=1e-5)
    assert scorer.cuts()["pairs"] == (sum(length > most for length in lengths), 4)
    assert cut == (lengths[0] > most)


def test_a_template_of_one_s_own_has_the_texts_where_it_says_and_other_words(made: dict[str, Path]) -> None:
    given = {"template": "{document}\n{query}? {brace}", "answers": ("no", "yes")}
    found = opened("causal_lm", made["causal_lm"], **given).score(QUERIES[:1], PASSAGES[:1])
    tokenizer = AutoTokenizer.from_pretrained(made["causal_lm"])
    network = AutoModelForCausalLM.from_pretrained(made["causal_lm"], dtype=torch.float32)
    with torch.no_grad():
        logits = network(**tokenizer(f"{PASSAGES[0]}\n{QUERIES[0]}? {{brace}}", return_tensors="pt")).logits[0, -1]
    no, yes = (logits[tokenizer.convert_tokens_to_ids(word)] for word in ("no", "yes"))
    assert found[0] == pytest.approx(float(no - yes), abs=1e-5)


@pytest.mark.parametrize(("kind", "token"), [("cross_encoder", "</s>"), ("sparse", "[SEP]"), ("causal_lm", "<|im_end|>")])
def test_a_special_token_in_a_text_is_text(made: dict[str, Path], kind: str, token: str) -> None:
    scorer, read = opened(kind, made[kind]), []
    scorer.network.register_forward_pre_hook(lambda *given: read.append(given[-1]["input_ids"]), with_kwargs=True)
    scorer.score(["apples"], ["trees"])
    scorer.score([f"apples {token}"], [f"trees {token}"])
    special = AutoTokenizer.from_pretrained(made[kind]).convert_tokens_to_ids(token)
    counts = [int((ids == special).sum()) for ids in read]
    assert counts[: len(counts) // 2] == counts[len(counts) // 2 :]


@pytest.mark.parametrize("kind", ["cross_encoder", "causal_lm"])
def test_in_bfloat16_the_last_layer_still_tells_scores_apart(made: dict[str, Path], kind: str) -> None:
    exact, rounded = (opened(kind, made[kind], dtype=dtype).score(QUERIES, PASSAGES) for dtype in ("float32", "bfloat16"))
    assert all(float(torch.tensor(score).bfloat16()) != score for score in rounded.tolist())
    np.testing.assert_allclose(exact, rounded, atol=0.1 * np.abs(exact).max())


def edit(folder: Path, name: str = "config.json", **values: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def spoil(folder: Path) -> None:
    path = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})


def modules(folder: Path, *names: str, **pooling: object) -> None:
    listed = [{"type": f"a.b.{name}", "path": name if at else ""} for at, name in enumerate(names)]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name in names[1:]:
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(pooling))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("sparse", lambda at: edit(at, auto_map={"AutoModel": "evil.Model"}), "config.json asks for code of its own (auto_"),
        (
            "causal_lm", lambda at: edit(at, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
            "tokenizer_config.json asks for code of its own (auto_map); such checkpoints are refused.",
        ),
        ("bi_encoder", lambda at: edit(at, model_type="brand_new"), "model_type is 'brand_new', which the installed "),
        ("bi_encoder", lambda at: edit(at, num_hidden_layers=3), "expected the weights of a BertModel; found keys missing ['"),
        ("bi_encoder", lambda at: edit(at, num_hidden_layers=1), "of a BertModel; found keys unexpected ['"),
        ("sparse", spoil, "1 weights are NaN or infinite, "),
        ("sparse", lambda at: (at / "tokenizer.json").unlink(), "holds no tokenizer.json."),
        ("sparse", lambda at: (at / "model.safetensors").rename(at / "pytorch_model.bin"), "pickled weights are refused"),
        ("cross_encoder", lambda at: edit(at, id2label={0: "a", 1: "b", 2: "c"}), "the head has 3 labels, expected 1, or 2 "),
        ("cross_encoder", lambda at: edit(at, id2label={0: "a", 1: "b"}), "which doesn't say which label is relevance."),
        ("bi_encoder", lambda at: modules(at, "Transformer", "Pooling", pooling_mode="max"), "tokens are pooled by max; "),
        ("bi_encoder", lambda at: modules(at, "Transformer", "Pooling", "LSTM", pooling_mode_mean_tokens=True),
         "its modules are Transformer, Pooling, LSTM; expected Transformer, Pooling, then any Dense, "),
        ("bi_encoder", lambda at: modules(at, "Transformer", "../Pooling"), "it names no module, or one outside of its folder"),
        ("sparse", lambda at: modules(at, "Transformer", "SpladePooling", pooling_strategy="sum"), "by sum of relu; expected "),
    ],
)  # fmt: skip
def test_what_would_score_otherwise_than_it_should_is_refused(tmp_path: Path, kind: str, change, message: str) -> None:
    path = {"bi_encoder": tiny_teachers.encoder}.get(kind, getattr(tiny_teachers, kind, None))(tmp_path / "teacher")
    change(path)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        opened(kind, path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("cross_encoder", {"max_length": 101}, "teacher.max_length is 101; expected 6 to 100, which {path} reads."),
        ("causal_lm", {"answers": ("yes", "maybe not")}, "teacher.answers: 'maybe not' is "),
        (
            "causal_lm",
            {"answers": ("yes", "yes")},
            "teacher.answers are one word, 'yes'. Give two: [<relevant>,",
        ),
        ("sparse", {"kind": "cross_encoder"}, "the weights of a BertForSequenceClassification; found keys missing ['"),
        ("causal_lm", {"kind": "sparse"}, "transformers has no AutoModelForMaskedLM of the architecture 'qwen3'."),
        (
            "bi_encoder",
            {"kind": "causal_lm"},
            "teacher.template=null is that of Qwen3-Reranker, and this ",
        ),
    ],
)
def test_what_a_checkpoint_can_not_do_is_said(made: dict[str, Path], kind: str, given: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        opened(**{"kind": kind, "path": made[kind]} | given)
    assert message.format(path=made[kind]) in str(caught.value)


def test_a_question_that_leaves_no_room_for_the_texts_is_refused(made: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"teacher.max_length is 10, and the question alone has \d+ tokens. Set it higher."):
        opened("causal_lm", made["causal_lm"], max_length=10).score(QUERIES, PASSAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_reads_no_weights(made: dict[str, Path], tmp_path: Path, kind: str) -> None:
    for file in made[kind].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    check_scorer(ScorerSettings(kind, str(tmp_path)))
