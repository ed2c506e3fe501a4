"""What the tests of write-behind share."""

import pytest

from tests.writeback.workers import ParkedWorker


@pytest.fixture
def parked() -> ParkedWorker:
    """A worker whose jobs a test lets go."""
    return ParkedWorker()
