"""Fixtures for the tests of the service."""

from collections.abc import Iterator

import pytest
import trio

from tests.net.support import Service, make_machine


@pytest.fixture
def service(nursery: trio.Nursery) -> Iterator[Service]:
    """A machine with the partitions alpha and beta."""
    made = Service(nursery, make_machine("alpha", "beta"))
    yield made
    made.close()
