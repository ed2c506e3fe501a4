"""Each dependency is declared, locked, explained and used. An extra is imported only when it is used."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests import house

ROOT = Path(__file__).resolve().parent.parent
OURS = ("hcall_abi", "hcall_server", "hcall_client", "swpks")
FIXTURES = "swpks.testing"
"""The room that may use pytest."""

EXTRAS = {
    "tpm": ("hcall_server.components.tpm.tss",),
    "ssh": ("swpks.hmc.sshd.password_door", "swpks.hmc.sshd.session"),
    "console": ("swpks.hmc.page.rendering",),
}
"""The only modules that may import the distributions of an extra, and only inside functions."""

_IMPORTED_AS = {"pyelftools": "elftools"}

PACKAGES = [m for base, top in (("spec", "hcall_abi"), *(("", top) for top in OURS[1:]))
            for m in house.load(ROOT, base, top)]  # fmt: skip
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def distribution(requirement: str) -> str:
    """Return the distribution that a requirement names: hypercorn for `hypercorn[trio]>=0.17`."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower()


def modules_of(distributions: set[str]) -> set[str]:
    """Return the import names of distributions; some differ from the distribution's name."""
    return {_IMPORTED_AS.get(name, name.replace("-", "_")) for name in distributions}


def declared(*, everything: bool) -> set[str]:
    """Return the distributions that pyproject.toml names: for run time, or also for build and development."""
    project = list(PYPROJECT["project"]["dependencies"])
    groups = PYPROJECT["dependency-groups"].values()
    tools = [*PYPROJECT["build-system"]["requires"], *(each for group in groups for each in group)]
    others = {distribution(each) for each in tools} | set().union(*map(extra, EXTRAS))
    return {distribution(each) for each in project} | (others if everything else set())


def extra(name: str) -> set[str]:
    """Return the distributions of one extra."""
    return {distribution(each) for each in PYPROJECT["project"]["optional-dependencies"][name]}


def test_every_dependency_has_its_reason() -> None:
    """docs/dependencies.md has one line for each dependency, and no other line."""
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE))
    assert explained == declared(everything=True)


def test_imports_come_from_declared_dependencies() -> None:
    """At run time the packages import only Python's modules, our own, and those of declared dependencies."""
    modules = modules_of(declared(everything=False))
    known = modules | set(sys.stdlib_module_names) | set(OURS)
    more = {module.name: {"pytest"} for module in PACKAGES if house.within(module.name, FIXTURES)}
    more |= {room: modules_of(extra(name)) for name, rooms in EXTRAS.items() for room in rooms}
    found = (house.undeclared_imports(each, known | more.get(each.name, set())) for each in PACKAGES)
    assert [finding for findings in found for finding in findings] == []


def test_an_extra_is_loaded_only_when_it_is_used() -> None:
    """A module for an extra can be imported without the extra. So an error can name the missing package."""
    assert EXTRAS.keys() == PYPROJECT["project"]["optional-dependencies"].keys()
    for name, room in ((name, room) for name, rooms in EXTRAS.items() for room in rooms):
        (module,) = (each for each in PACKAGES if each.name == room)
        used = {found.name.split(".")[0] for found in house.imports(module)}
        assert modules_of(extra(name)) <= used
        for each in modules_of(extra(name)):
            assert list(house.eager_imports(module, each)) == []


def test_every_declared_dependency_is_used() -> None:
    """Each declared dependency is imported. An unused one would be only a risk."""
    used = {found.name.split(".")[0] for module in PACKAGES for found in house.imports(module)}
    assert modules_of(declared(everything=False)) - used == set()


def test_the_lock_is_whole_and_says_nothing_of_a_machine() -> None:
    """Every declared distribution is locked with hashes. The lock files name no index, host or path."""
    lock = "".join(path.read_text("utf-8") for path in sorted(ROOT.glob("requirements-*.lock")))
    pins = dict(re.findall(r"^([a-z0-9-]+)==[^\n]*\\\n    --hash=(\w+):", lock, re.MULTILINE))
    assert declared(everything=True) - pins.keys() == set()
    assert set(pins.values()) == {"sha256"}
    assert re.findall(r"^.*(?:://|--index|--find|--trusted|^/|\s/).*$", lock, re.MULTILINE) == []


def test_the_locks_of_extras_fit_the_one_for_development() -> None:
    """A package has the same version in each lock, so one environment can hold all of them."""
    text = {path.name: path.read_text("utf-8") for path in ROOT.glob("requirements-*.lock")}
    pins = {
        name: dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE)) for name, lock in text.items()
    }
    versions = set(re.findall(r"^([a-z0-9-]+)==(\S+)", text["requirements-dev.lock"], re.MULTILINE))
    known = {name for name, _ in versions}
    for lock in pins.values():
        assert {(name, version) for name, version in lock.items() if name in known} <= versions
