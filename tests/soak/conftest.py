"""The seed of the samples: `SWPKS_SOAK_SEED` repeats the choices of a run."""

import os

import pytest


@pytest.fixture
def soak_seed() -> str:
    """A seed, which a failed test shows."""
    seed = os.environ.get("SWPKS_SOAK_SEED") or str(int.from_bytes(os.urandom(4), "big"))
    print(f"SWPKS_SOAK_SEED={seed}")
    return seed
