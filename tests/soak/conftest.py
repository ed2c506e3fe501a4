"""The seed and the folder of the samples. `SWPKS_SOAK_SEED` repeats the choices of a run."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory import in_memory


@pytest.fixture
def soak_seed() -> str:
    """A seed for the choices of a test, which a failed test shows."""
    seed = os.environ.get("SWPKS_SOAK_SEED") or str(int.from_bytes(os.urandom(4), "big"))
    print(f"SWPKS_SOAK_SEED={seed}")
    return seed


@pytest.fixture
def soak_folder() -> Iterator[Path]:
    """A new folder, in memory if possible, with a path that is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="swpks-", dir=in_memory()) as folder:
        yield Path(folder)
