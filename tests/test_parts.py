"""Parts: the text that a language model is learnt from."""

from support import composed

from rankdistil import parts


def test_text_is_that_of_the_training_collection_unless_another_is_named() -> None:
    cfg = composed("stage=lm_distill")
    assert parts.open_passages(cfg.data).name == "rankdistil/almanac/train"
    cfg.data.passages = "beir/nfcorpus"
    assert parts.open_passages(cfg.data).name == "beir/nfcorpus"
