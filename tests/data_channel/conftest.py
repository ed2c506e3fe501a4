"""Fixtures for the tests of the data channel."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.data_channel.support import Service, make_machine


@pytest.fixture(params=["task", "lane"])
async def service(nursery: trio.Nursery, request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    """A machine with alpha and beta. Its connections have a task each, or are all in the lane."""
    made = await Service.start(nursery, make_machine("alpha", "beta"), lane=request.param == "lane")
    yield made
    made.close()
