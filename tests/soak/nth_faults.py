"""Faults that strike at the n-th occasion, for n = 1, 2, 3 and so on, until an operation has no more.

Each fault is armed for one operation, and then reports whether it has struck.
"""

from __future__ import annotations

import ctypes
import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from unittest import mock

import trio

NEVER = 1 << 40


class Fault(Protocol):
    """A fault that can strike at each occasion of an operation, such as each of its calls."""

    name: str

    def armed(self, nth: int) -> Any:
        """Return a context manager during which the fault strikes at its n-th occasion."""

    @property
    def struck(self) -> bool:
        """Return whether the fault has struck: if not, the operation had fewer occasions."""


class OsFault:
    """The n-th system call about the state folder or for a socket fails, in SQLite too.

    The process has to run with the recorder preloaded (`recorder.c`).
    """

    def __init__(self, error: int) -> None:
        self.name = f"os {errno.errorcode[error]}"
        self.struck = False
        self._error = error
        self._library = ctypes.CDLL(None)
        self._library.disk_count.restype = ctypes.c_long
        self._library.disk_arm.argtypes = (ctypes.c_long, ctypes.c_int)

    @contextmanager
    def armed(self, nth: int) -> Iterator[None]:
        """In a block, let the n-th system call fail."""
        self._library.disk_arm(nth, self._error)
        try:
            yield
        finally:
            self.struck = self._library.disk_count() >= nth
            self._library.disk_arm(NEVER, 0)


class SqliteFault:
    """The n-th statement of SQL fails, before its effect or after it.

    Only connections that are opened while the fault is armed, or inside `connections`, have the fault.
    """

    def __init__(self, code: str, *, after: bool = False) -> None:
        self.name = f"sqlite {code}{' after' if after else ''}"
        self.struck = False
        self._code = code
        self._after = after
        self._left = NEVER

    @contextmanager
    def connections(self) -> Iterator[None]:
        """In a block, new connections can have the fault."""
        fault = self

        class Struck(sqlite3.Connection):
            def execute(self, *given: Any) -> sqlite3.Cursor:
                return fault._pass(super().execute, *given)

            def executemany(self, *given: Any) -> sqlite3.Cursor:
                return fault._pass(super().executemany, *given)

        real = sqlite3.connect
        with mock.patch.object(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Struck)):
            yield

    @contextmanager
    def armed(self, nth: int) -> Iterator[None]:
        """In a block, let the n-th statement fail."""
        self._left = nth
        try:
            with self.connections():
                yield
        finally:
            self.struck, self._left = self._left <= 0, NEVER

    def _pass(self, execute: Any, *given: Any) -> sqlite3.Cursor:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise self._error()
        cursor: sqlite3.Cursor = execute(*given)
        if self._left == 0:
            raise self._error()
        return cursor

    def _error(self) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError(f"a fault of the soak: {self._code}")
        error.sqlite_errorcode = getattr(sqlite3, self._code)
        error.sqlite_errorname = self._code
        return error


class Cancellation(trio.abc.Instrument):
    """A cancel of everything in `scope`, before the n-th step of any task."""

    name = "cancellation"

    def __init__(self) -> None:
        self.struck = False
        self.scope = trio.CancelScope()
        self._left = NEVER

    @contextmanager
    def armed(self, nth: int) -> Iterator[None]:
        """In a block, inside or around `trio.run`, cancel `scope` before the n-th step."""
        self.scope, self._left = trio.CancelScope(), nth
        try:
            yield
        finally:
            self.struck, self._left = self._left <= 0, NEVER

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step; cancel at the n-th."""
        self._left -= 1
        if self._left == 0:
            self.scope.cancel()
