"""Fixtures for the tests of the data channel."""

from collections.abc import Iterator

import pytest
import trio

from tests.data_channel.support import Service, make_machine


@pytest.fixture
def service(nursery: trio.Nursery) -> Iterator[Service]:
    """A machine with the partitions alpha and beta."""
    made = Service(nursery, make_machine("alpha", "beta"))
    yield made
    made.close()
