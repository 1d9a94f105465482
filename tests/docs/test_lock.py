"""What ``make locked`` installs: versions that pyproject.toml allows, each file with its hash, and nothing else."""

import re
import tomllib
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
ASKED = [PROJECT["dependencies"], PROJECT["optional-dependencies"]["demo"], PROJECT["optional-dependencies"]["dev"]]
OURS = "rankdistil (pyproject.toml)"  # whom a package is locked for, as uv writes it
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}


class Locked(NamedTuple):
    """Attributes: marker: where it is installed, None everywhere; needed_by: packages; rest: what is no hash."""

    name: str
    version: str
    marker: Marker | None
    hashes: list[str]
    needed_by: set[str]
    rest: str


def read_lock() -> list[Locked]:
    text = re.sub(r"\A(#.*\n)+", "", (REPOSITORY / "requirements.lock").read_text())
    return [_read(block) for block in re.split(r"\n(?=[^ ])", text.strip())]


def _read(block: str) -> Locked:
    line, _, needed = block.replace("\\\n", "").partition("\n")
    name, version, marker, options = re.fullmatch(r"(\S+)==(\S+)(?: ; (.+?))?((?: +--hash=\S+)*)", line).groups()
    hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})(?= |$)", options)
    by = {word.strip() for word in re.sub(r"^ *#( *via)?", "", needed, flags=re.MULTILINE).splitlines()} - {""}
    return Locked(name, version, Marker(marker) if marker else None, hashes, by, re.sub(r" *--hash=sha256:\w{64}", "", options))


@pytest.fixture(scope="module")
def lock() -> list[Locked]:
    return read_lock()


def asked() -> dict[str, Requirement]:
    """Return what pyproject.toml asks for, by name; where it names a package twice, both have the same range."""
    return {canonicalize_name(row.name): row for rows in ASKED for row in map(Requirement, rows)}


@pytest.mark.fault("G11")
def test_every_package_is_held_by_a_hash_and_comes_from_no_place_of_its_own(lock: list[Locked]) -> None:
    assert len(lock) > 100
    assert [row.name for row in lock if not row.hashes or row.rest or len({*row.hashes}) < len(row.hashes)] == []


@pytest.mark.fault("G11")
def test_locked_for_us_is_what_the_project_asks_for_in_versions_that_it_allows(lock: list[Locked]) -> None:
    ours = [row for row in lock if OURS in row.needed_by]
    assert {row.name for row in ours} == asked().keys()
    assert [f"{row.name} {row.version}" for row in ours if not asked()[row.name].specifier.contains(row.version)] == []


def test_all_else_is_needed_by_something_that_is_locked(lock: list[Locked]) -> None:
    names = {row.name for row in lock}
    assert {row.name: row.needed_by for row in lock if not row.needed_by or row.needed_by - names - {OURS}} == {}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_python_that_we_support_gets_one_version_of_each_package(lock: list[Locked], python: str) -> None:
    here = LINUX | {"python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython"}
    found = [row.name for row in lock if row.marker is None or row.marker.evaluate(here)]
    assert len(found) == len({*found})
    assert {*found} >= asked().keys()


@pytest.mark.fault("G11")
def test_the_releases_of_lightning_that_stole_credentials_are_refused_by_number(lock: list[Locked]) -> None:
    allowed = asked()["lightning"].specifier
    assert [allowed.contains(f"2.6.{patch}") for patch in (1, 2, 3, 4)] == [True, False, False, True]
    assert not {"2.6.2", "2.6.3"} & {row.version for row in lock if row.name in ("lightning", "pytorch-lightning")}
