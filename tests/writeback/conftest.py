"""Common fixtures of the tests of write-behind."""

import pytest

from tests.writeback.workers import ParkedWorker


@pytest.fixture
def parked() -> ParkedWorker:
    """A worker whose jobs the test releases."""
    return ParkedWorker()
