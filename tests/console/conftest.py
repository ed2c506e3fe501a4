"""The fixture of the console's tests: a console with one system S."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.console.stand import Stand, standing


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """A console that knows the system S."""
    async with standing("S") as made:
        yield made
