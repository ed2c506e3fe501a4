"""Fixtures for the tests of the service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hcall_client.testing import ServerProcess
from tests.net.support import Service, make_machine


@pytest.fixture
def service(nursery: trio.Nursery) -> Iterator[Service]:
    """A machine with the partitions alpha and beta."""
    made = Service(nursery, make_machine("alpha", "beta"))
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server process with two partitions that is not started yet; killed at the end."""
    made = ServerProcess(tmp_path / "state", ["alpha:64", "beta:4"])
    yield made
    made.kill()
