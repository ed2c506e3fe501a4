"""Fixtures for the tests of scarce resources."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from swpks.testing import ServerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server process with two partitions, which the test starts; it is killed at the end of the test."""
    made = ServerProcess(tmp_path / "state", ["alpha:64", "beta:4"])
    yield made
    made.kill()
