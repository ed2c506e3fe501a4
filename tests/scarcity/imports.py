"""Imports that fail, because the process has no descriptor for the files of a module."""

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
    """A finder that finds no module below some names, because it cannot open its folder."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Raise the error of Python's own finder."""
        if fullname.startswith(self._names):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@contextmanager
def unloadable(*names: str) -> Iterator[None]:
    """Let imports below these names fail for lack of a descriptor; forget earlier imports."""
    with pytest.MonkeyPatch.context() as patched:
        for name in [each for each in sys.modules if each.startswith(names)]:
            patched.delitem(sys.modules, name)
        patched.setattr(sys, "meta_path", [_NoDescriptor(names), *sys.meta_path])
        yield
