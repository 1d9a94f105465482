"""What a test depends on, beside the ranker."""

import pytest
from support import composed

from rankdistil.config.choices import each_test
from rankdistil.planning.plan import what_is_tested

DRAWN = ["+experiment=smoke", "data.test=null", "data.holdout=5"]


def depends_on(*overrides: str) -> dict[str, object]:
    (data,) = each_test(composed(*overrides).data)
    return what_is_tested(data)


@pytest.mark.parametrize("changed", ["data.holdout=6", "data.train=rankdistil/almanac/test", "data.valid=null"])
def test_a_test_that_is_drawn_from_the_training_queries_depends_on_the_draw(changed: str) -> None:
    assert depends_on(*DRAWN) != depends_on(*DRAWN, changed)
    named = "data.test=rankdistil/almanac/test"
    assert depends_on(*DRAWN, named) == depends_on(*DRAWN, changed, named)
