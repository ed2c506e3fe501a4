"""What a test does if a Debian package, or a command from one, is not available."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tools.debian_archive import Unavailable


@contextmanager
def reported() -> Iterator[None]:
    """Run a block.

    If it raises Unavailable, the test fails in CI, and is skipped with the reason elsewhere.
    """
    try:
        yield
    except Unavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"in CI this test has to run, but a package can't be had: {error}", pytrace=False)
        pytest.skip(f"not run: {error}")


def needed(name: str, found: str | None) -> str:
    """Return `found`, the path of a command in tools/debian-packages.

    If `found` is None, fail or skip the test.
    """
    with reported():
        if found is None:
            raise Unavailable(f"{name} is not installed")
        return found
    raise AssertionError("a test that lacks a command has ended by now")
