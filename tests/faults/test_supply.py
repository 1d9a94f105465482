"""What is installed: no release that is known to be hostile, and each file by its hash."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support import REPOSITORY

HOSTILE = {"lightning": ["2.6.2", "2.6.3"]}  # stole credentials on import: GHSA-w37p-236h-pfx3
HASHED = re.compile(r"sha256:[0-9a-f]{64}")


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


@pytest.mark.fault("G11")
def test_the_lock_has_a_hash_for_every_file_and_a_version_that_is_asked_for(asked: list[Requirement]) -> None:
    lock = tomllib.loads((REPOSITORY / "uv.lock").read_text())
    versions: dict[str, set[Version]] = {}
    for package in lock["package"]:
        if package["source"] == {"editable": "."}:
            continue
        assert package["source"].keys() == {"registry"}, package["name"]
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        assert files, package["name"]
        assert all(HASHED.fullmatch(file["hash"]) for file in files), package["name"]
        versions.setdefault(package["name"], set()).add(Version(package["version"]))
    for name, hostile in HOSTILE.items():
        assert not versions[name] & {Version(version) for version in hostile}
    for one in asked:
        assert any(one.specifier.contains(version) for version in versions[canonicalize_name(one.name)]), str(one)
