"""Calls of the operating system that fail on demand: the n-th one of a block, with any error number."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SYSTEM_CALLS: tuple[tuple[Any, str], ...] = (
    (os, "open"),
    (os, "unlink"),
    (os, "replace"),
    (os, "fsync"),
    (os, "stat"),
    (socket.socket, "__init__"),
    (socket.socket, "bind"),
    (socket.socket, "listen"),
)
"""All functions through which a verb of the console uses the operating system."""


class Nth:
    """The calls of a block; `failed` is whether the n-th call has come."""

    def __init__(self, nth: int, number: int, only: str | None) -> None:
        self.failed = False
        self._left = nth
        self._number = number
        self._only = only

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return `real` with the failure in it."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self._only in {None, name}:
                self._left -= 1
            if self._left == 0 and not self.failed:
                self.failed = True
                raise OSError(self._number, os.strerror(self._number))
            return real(*arguments, **options)

        return call


@contextmanager
def failing(nth: int, number: int, only: str | None = None) -> Iterator[Nth]:
    """Let the n-th system call in the block fail; `only` counts those of one name."""
    made = Nth(nth, number, only)
    with pytest.MonkeyPatch.context() as patched:
        for place, name in SYSTEM_CALLS:
            patched.setattr(place, name, made.wrapped(name, getattr(place, name)))
        yield made
