"""Fixtures for the tests of the data channel."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.data_channel.support import Service, make_machine


@pytest.fixture
async def service(nursery: trio.Nursery) -> AsyncIterator[Service]:
    """A machine with the partitions alpha and beta."""
    made = await Service.start(nursery, make_machine("alpha", "beta"))
    yield made
    made.close()
