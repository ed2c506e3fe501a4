"""Fixtures for the tests of the server process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from swpks.testing import ServerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server process with two partitions, not started yet. The fixture kills it at the end."""
    made = ServerProcess(tmp_path / "state", ["alpha:64", "beta:4"])
    yield made
    made.kill()
