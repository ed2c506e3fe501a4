"""Fixtures for the tests of the console's process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from swpks.testing import ConsoleProcess, ServerProcess
from tests.certificates import Authority
from tests.hmc.estate import Estate
from tests.hmc.fake import FakeConsole
from tests.hmc.plant import Keeper, Plant

_NUMBERS = itertools.count(1)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console process that is not started yet. The fixture kills it at the end."""
    made = ConsoleProcess(tmp_path / "hmc")
    yield made
    made.kill()


@pytest.fixture
def systems(tmp_path: Path) -> Iterator[list[ServerProcess]]:
    """Two systems that are not started yet, with one partition each. The fixture kills them at the end."""
    made = [ServerProcess(tmp_path / name, ["lpar1:64"]) for name in ("sys1", "sys2")]
    yield made
    for system in made:
        system.kill()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA for the certificates of systems and consoles."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def keeper(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Keeper]:
    """A console for the systems of many tests. A test may kill it and start it again."""
    tls = authority.client()
    options = ["--tls-cert", tls.cert, "--tls-key", tls.key, "--tls-ca", tls.ca]
    made = Keeper(tmp_path_factory.mktemp("k") / "hmc", list(map(str, options)))
    yield made.start()
    made.end()


@pytest.fixture
def plant(tmp_path: Path, keeper: Keeper) -> Iterator[Plant]:
    """A system at the console, not started yet. The fixture kills and removes it at the end."""
    made = Plant(tmp_path / f"sys{next(_NUMBERS)}", keeper)
    yield made
    made.end()


@pytest.fixture(scope="session")
def _estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    made = Estate(tmp_path_factory.mktemp("e"))
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def estate(_estate: Estate) -> Iterator[Estate]:
    """For the lines of a module: a console and two running systems without partitions."""
    yield _estate
    _estate.clear()


@pytest.fixture
def fake(tmp_path: Path) -> FakeConsole:
    """A console that waits for its connections."""
    return FakeConsole(tmp_path / "store")
