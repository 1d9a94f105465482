"""Which splits are tested on, of the several that ``data`` may name."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from rankdistil.settings import plain


def listed(value: Any) -> list[Any]:
    """Return the items of a list, a value as the only one, and none for None."""
    value = plain(value)
    return [] if value is None else value if isinstance(value, list) else [value]


def each_test(data: DictConfig) -> list[DictConfig]:
    """Return ``data`` once for each test split that it names, with that one alone.

    Raises:
        ValueError: if ``data.test`` is empty or lists a split twice, or ``data.test_relevance_level`` lists levels of other
            splits.
    """
    tests, levels = [None] if data.test is None else listed(data.test), listed(data.test_relevance_level)
    if not tests:
        raise ValueError("data.test is empty. Name at least one split to test on.")
    tests = [*tests, *listed(data.get("more_tests"))]
    if len(levels) not in (1, len(tests)):
        raise ValueError(
            f"data.test_relevance_level has {len(levels)} levels for {len(tests)} test splits. Give one for all, or one each."
        )
    splits = list(zip(tests, levels if len(levels) == len(tests) else levels * len(tests), strict=True))
    if twice := [test for number, (test, level) in enumerate(splits) if (test, level) in splits[:number]]:
        raise ValueError(f"data.test names {twice[0]} twice, at one relevance level. Name it once.")
    return [_of_one(plain(data), test, level) for test, level in splits]


def choose_test(data: DictConfig, given: DictConfig) -> DictConfig:
    """Change settings of ``data``, and keep one test split: the one that the changes name, else the first.

    Args:
        data: of a run.
        given: the changes. A split takes the place of those of ``data``; files of a split change single files of its first.

    Raises:
        ValueError: if the relevance level of another split than the run's can't be known.
    """
    own, changes = plain(data), plain(given)
    changed = plain(OmegaConf.merge(own, {key: value for key, value in changes.items() if key != "test"}))
    if "test" not in changes:
        return each_test(OmegaConf.create(changed))[0]
    test = changes["test"]
    if isinstance(test, dict) and isinstance(own["test"], dict):
        test = own["test"] | test
    if isinstance(changed["test_relevance_level"], list):
        levels = [split.test_relevance_level for split in each_test(OmegaConf.create(own)) if plain(split.test) == test]
        if not levels:
            raise ValueError(
                f"data.test_relevance_level={changed['test_relevance_level']} is of the run's own test splits. Give the one of "
                f"{test}: data.test_relevance_level=<grade>."
            )
        changed["test_relevance_level"] = levels[0]
    return each_test(_of_one(changed, test, changed["test_relevance_level"]))[0]


def _of_one(data: dict[str, Any], test: Any, level: int) -> DictConfig:
    further = {"more_tests": []} if "more_tests" in data else {}
    return OmegaConf.create(data | further | {"test": test, "test_relevance_level": level})
