"""Which groups a split is trained on."""

from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import Collection
from rankdistil.data.encode import LiveTexts


def test_passages_get_their_rows_in_the_order_of_the_judgments_in_every_process() -> None:
    """Shards of scores are cut by rows: processes that numbered passages differently would leave out some and repeat others."""
    reader = Reader("rankdistil/almanac/train")
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))
    open_source(reader, texts, "sampled", 1, 10, 0, 1)
    judged = list(dict.fromkeys(passage for row in reader.qrels.values() for passage in row))
    assert list(texts.passages.names(texts.passages.rows(judged))) == judged
    assert texts.passages.rows(judged).tolist() == list(range(len(judged)))
