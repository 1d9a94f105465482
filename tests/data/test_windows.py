"""Windows of documents: where they are, and what becomes of their scores."""

import numpy as np
import pytest

from rankdistil.data.windows import Windows, draws, read_windows, richest

ROOM = 152


def naive(windows: Windows, query: int, document: int, room: int) -> list[tuple[int, int]]:
    """Begin and end of each window, found by walking along the document."""
    size = min(windows.size or room, room - min(query, (room + 1) // 2))
    found, start = [], 0
    while True:
        found.append((start, min(start + size, document)))
        start += min(windows.stride, size)
        if found[-1][1] == document or len(found) == windows.most:
            return found


@pytest.mark.parametrize("room", [ROOM, 153])
@pytest.mark.parametrize(("stride", "size"), [(64, 128), (64, None), (1, 2), (100, 100), (150, None), (7, 13)])
def test_windows_are_those_that_a_walk_along_the_document_finds(stride, size, room):
    windows = Windows(stride, 6, size)
    random = np.random.default_rng(1)
    queries, documents = random.integers(0, 200, 300), np.r_[0, 1, 128, 129, random.integers(0, 1500, 296)]
    counts = windows.counts(queries, documents, room)
    for query, document, count in zip(queries, documents, counts, strict=True):
        expected = naive(windows, query, document, room)
        assert count == len(expected)
        each = np.arange(count)
        starts, lengths = windows.places(np.full(count, query), np.full(count, document), each, room)
        assert [*zip(starts.tolist(), (starts + lengths).tolist(), strict=True)] == expected


def test_no_token_before_the_last_window_is_left_out_beside_a_query_of_any_length():
    windows = Windows(stride=100, most=9, size=120)
    for query in range(0, 300, 7):
        count = windows.counts(np.array([query]), np.array([400]), ROOM)[0]
        each = np.arange(count)
        starts, lengths = windows.places(np.full(count, query), np.full(count, 400), each, ROOM)
        assert {token for start, length in zip(starts, lengths, strict=True) for token in range(start, start + length)} == {
            *range(400)
        }


def test_a_window_and_its_query_fit_unless_the_query_alone_has_to_be_cut():
    sizes = Windows(stride=10, most=4).sizes(np.arange(200), ROOM)
    assert all(query + size <= ROOM for query, size in zip(range(77), sizes[:77], strict=True))
    assert set(sizes[76:].tolist()) == {76}  # what ``cut_pairs`` leaves whole beside any query


SCORES = np.array([3.0, -1.0, 2.5, 7.0, 0.25, 1.0, 4.0], np.float32)
COUNTS = np.array([3, 1, 3])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [3.0, 7.0, 4.0]),
        ({"aggregate": "first"}, [3.0, 7.0, 0.25]),
        ({"aggregate": "mean"}, [1.5, 7.0, 1.75]),
        ({"aggregate": "mean", "top": 2}, [2.75, 7.0, 2.5]),
        ({"aggregate": "mean", "top": 1}, [3.0, 7.0, 4.0]),
        ({"aggregate": "mean", "top": 9}, [1.5, 7.0, 1.75]),
    ],
)
def test_scores_of_windows_are_united_document_by_document(settings, expected):
    windows = Windows(10, 5, **settings)
    counts = np.ones(3, int) if windows.aggregate == "first" else COUNTS
    scores = SCORES[[0, 3, 4]] if windows.aggregate == "first" else SCORES
    assert windows.unite(scores, counts).tolist() == expected
    assert windows.unite(SCORES[:0], COUNTS[:0]).tolist() == []


@pytest.mark.parametrize("settings", [{}, {"aggregate": "mean"}, {"aggregate": "mean", "top": 3}, {"aggregate": "first"}])
def test_the_score_of_a_lone_window_is_the_document_s_to_the_bit(settings):
    scores = np.random.default_rng(3).normal(size=200).astype(np.float32) * np.float32(1e-3)
    found = Windows(10, 5, **settings).unite(scores, np.ones(200, int))
    assert found.dtype == np.float32
    assert found.tobytes() == scores.tobytes()


@pytest.mark.parametrize("settings", [{}, {"aggregate": "mean", "top": 1}])
def test_a_score_that_is_no_number_is_never_left_out(settings):
    scores = np.array([1.0, np.nan, 2.0], np.float32)
    assert np.isnan(Windows(10, 5, **settings).unite(scores, np.array([3])))[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (7, "data.windows is 7; expected null, or a mapping with stride and most (size, aggregate, top)."),
        ({"size": 9}, "data.windows lacks stride and most. Example: data.windows={stride: 64, most: 16, size: 128}"),
        (
            {"stride": 9, "most": 2, "overlap": 3},
            "data.windows.overlap is no setting; the keys are stride, most, size, aggregate, top.",
        ),
        ({"stride": 0, "most": 2}, "data.windows.stride is 0; expected a whole number of at least 1."),
        ({"stride": 4, "most": True}, "data.windows.most is True; expected a whole number of at least 1."),
        ({"stride": 4, "most": 2, "size": 0}, "data.windows.size is 0; expected a whole number of at least 1, or null."),
        ({"stride": 4, "most": 2, "aggregate": "sum"}, "data.windows.aggregate is 'sum'; expected one of max, first, mean."),
        (
            {"stride": 9, "most": 2, "size": 8},
            "data.windows.stride is 9, and windows.size 8: tokens between two windows would never be read. Set the stride to "
            "the size at most; half of it is usual.",
        ),
        (
            {"stride": 4, "most": 2, "top": 3},
            "data.windows.top has no effect beside windows.aggregate=max. Leave it out.",
        ),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_key(values, message):
    with pytest.raises(ValueError) as refused:
        Windows.of(values, "data.windows")
    assert str(refused.value) == message


def test_a_word_of_a_command_line_is_json_or_none():
    assert read_windows("none", "windows") is False
    assert read_windows('{"stride": 4, "most": 2}', "windows") == Windows(4, 2).values()
    assert Windows.of(Windows(4, 2, 9, "mean", 3).values()) == Windows(4, 2, 9, "mean", 3)
    for word, message in (
        ("{stride: 4}", 'windows is \'{stride: 4}\'; expected none, or JSON such as {"stride": 64, "most": 16}.'),
        ("12", "windows is '12'; expected null, or a mapping with stride and most (size, aggregate, top)."),
        ('{"stride": 4, "most": 0}', "windows.most is 0; expected a whole number of at least 1."),
    ):
        with pytest.raises(ValueError) as refused:
            read_windows(word, "windows")
        assert str(refused.value) == message


def test_draws_follow_from_seed_epoch_and_ids_alone_and_are_spread_evenly():
    queries, passages = tuple(f"q{n % 7}" for n in range(4000)), tuple(f"p{n}" for n in range(4000))
    one = draws(1, 0, queries, passages)
    assert draws(1, 0, queries[::-1], passages[::-1]).tolist() == one[::-1].tolist()
    shares = np.bincount(one % 5, minlength=5) / 4000
    assert np.abs(shares - 0.2).max() < 0.03
    for other in (draws(2, 0, queries, passages), draws(1, 1, queries, passages), draws(1, 0, passages, queries)):
        assert 0.1 < (one % 5 == other % 5).mean() < 0.3  # as often as by chance


def test_the_richest_window_has_most_of_the_query_s_words_and_is_the_first_of_several():
    document = np.array([9, 9, 9, 1, 5, 5, 1, 2, 5, 2, 1, 5])
    starts, lengths = np.array([0, 3, 6, 9]), np.full(4, 3)
    assert richest(np.array([1, 2]), document, starts, lengths) == 2
    assert richest(np.array([7]), document, starts, lengths) == 0
    assert richest(np.array([9]), document, starts, lengths) == 0
