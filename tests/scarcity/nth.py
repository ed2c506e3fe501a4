"""Makes the n-th system call in a block fail, with any error number."""

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
    """Counts the system calls in a block. `failed` is True once the n-th call has failed."""

    def __init__(self, nth: int, number: int, only: str | None) -> None:
        self.failed = False
        self._left = nth
        self._number = number
        self._only = only

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls `real`, and fails at the n-th call."""

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
    """Run a block in which the n-th system call fails.

    With `only`, just the calls of that name are counted.
    """
    made = Nth(nth, number, only)
    with pytest.MonkeyPatch.context() as patched:
        for place, name in SYSTEM_CALLS:
            patched.setattr(place, name, made.wrapped(name, getattr(place, name)))
        yield made
