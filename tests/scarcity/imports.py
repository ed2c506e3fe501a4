"""Makes imports fail, as if the process had no descriptor for the files of a module."""

from __future__ import annotations

import errno
import importlib.abc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class _NoDescriptor(importlib.abc.MetaPathFinder):
    """A finder that raises EMFILE for modules below some names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Raise the same error as Python's own finder."""
        if fullname.startswith(self._names):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@contextmanager
def unloadable(*names: str) -> Iterator[None]:
    """Run a block in which imports below these names fail for lack of a descriptor.

    Earlier imports are forgotten.
    """
    with pytest.MonkeyPatch.context() as patched:
        for name in [each for each in sys.modules if each.startswith(names)]:
            patched.delitem(sys.modules, name)
        patched.setattr(sys, "meta_path", [_NoDescriptor(names), *sys.meta_path])
        yield
