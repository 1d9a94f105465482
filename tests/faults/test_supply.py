"""What is installed: no release that is known to be hostile. (tests/docs/test_lock.py has the hashes.)"""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import REPOSITORY

HOSTILE = {"lightning": ["2.6.2", "2.6.3"]}  # stole credentials on import: GHSA-w37p-236h-pfx3


@pytest.fixture(scope="module")
def asked() -> list[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *(word for extra in project["optional-dependencies"].values() for word in extra)]
    return [Requirement(word) for word in words]


@pytest.mark.fault("G11")
def test_no_requirement_allows_a_hostile_release(asked: list[Requirement]) -> None:
    named = {canonicalize_name(one.name) for one in asked}
    assert named >= HOSTILE.keys()
    for one in asked:
        for version in HOSTILE.get(canonicalize_name(one.name), ()):
            assert not one.specifier.contains(version, prereleases=True), f"{one} allows {version}"
            assert one.specifier.contains("2.6.6")
