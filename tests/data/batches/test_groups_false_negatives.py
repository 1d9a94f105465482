"""Likely false negatives are left out, by a teacher's scores."""

import numpy as np
import pytest

from rankdistil.data.batches.groups import ByMargin, ListedGroups, Margin, SafeGroups, safe_negatives
from rankdistil.data.collections.texts import Collection
from rankdistil.data.encode import LiveTexts
from rankdistil.data.teacher_scores.folder import TeacherScores, keys_of

SCORES = {(0, 0): 5.0, (0, 1): 4.5, (0, 2): 2.0, (0, 3): 3.0, (1, 4): 1.0, (1, 5): 0.0, (1, 6): 9.0}
TRIPLES = np.array([(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 4, 5), (1, 4, 6)], np.int32)


@pytest.fixture
def scores() -> TeacherScores:
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))
    pairs = np.array(list(SCORES))
    return TeacherScores(keys_of(pairs[:, 0], pairs[:, 1]), np.array(list(SCORES.values()), np.float32), texts, "scores")


@pytest.mark.parametrize(("least", "kept"), [(-9.0, 5), (0.0, 4), (1.0, 3), (2.0, 2), (2.5, 1)])
def test_triples_below_the_margin_are_left_out_and_counted(scores, least, kept):
    groups = SafeGroups(ListedGroups(TRIPLES), Margin(scores, least))
    found = {tuple(row) for rows in groups.epoch(3, 0) for row in rows.tolist()}
    expected = {row for row in map(tuple, TRIPLES.tolist()) if SCORES[row[0], row[1]] - SCORES[row[0], row[2]] >= least}
    assert found == expected
    assert len(found) == kept
    assert groups.by_margin == ByMargin("triples", 5, 5 - kept)


def test_what_is_left_keeps_its_order(scores):
    whole = [tuple(row) for rows in ListedGroups(TRIPLES).epoch(3, 1) for row in rows.tolist()]
    left = [tuple(row) for rows in SafeGroups(ListedGroups(TRIPLES), Margin(scores, 1.0)).epoch(3, 1) for row in rows.tolist()]
    assert left == [row for row in whole if row in left]


def test_every_listed_pair_is_scored_whatever_the_margin(scores):
    listed = ListedGroups(TRIPLES)
    assert SafeGroups(listed, Margin(scores, 1.0)).pairs().tolist() == listed.pairs().tolist()


def test_a_margin_that_leaves_nothing_names_its_key(scores):
    with pytest.raises(
        ValueError, match=r"^data\.negatives_margin=99 leaves no triple of 5: the teacher scores no negative that"
    ):
        SafeGroups(ListedGroups(TRIPLES), Margin(scores, 99.0))


def test_sampled_negatives_are_compared_with_the_lowest_positive(scores):
    queries, positives, negatives = np.array([0, 1]), [np.array([0, 1]), np.array([4])], [np.array([2, 3]), np.array([5, 6])]
    kept = safe_negatives(Margin(scores, 2.0), queries, positives, negatives)
    assert [row.tolist() for row in kept] == [[2], []]
