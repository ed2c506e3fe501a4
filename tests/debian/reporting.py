"""What becomes of a test whose Debian package can't be had."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tools.debian_archive import Unavailable


@contextmanager
def reported() -> Iterator[None]:
    """A package that can't be had fails the test in CI; elsewhere it is reported as not run, and why."""
    try:
        yield
    except Unavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"in CI this test has to run, but a package can't be had: {error}", pytrace=False)
        pytest.skip(f"not run: {error}")
