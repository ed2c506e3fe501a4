"""Errors at the line of the caller: a wrong use of a fixture has a traceback of one line.

A test author has written that line.  The frames below it belong to swpks, and the text of the error has all
that they could say.  pytest hides frames by `__tracebackhide__`, but not in a group of exceptions, and a
failed asynchronous test is such a group.  So the frames are dropped as well.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncContextDecorator,
    ContextDecorator,
    asynccontextmanager,
    contextmanager,
)
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from hcall_abi.errors import SwpksError
from hcall_abi.mistakes import Mistake

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Explained(Exception):
    """An error whose text says more than its traceback, such as the error of a server with its log."""


EXPLAINED = (Mistake, SwpksError, Explained)
"""Errors whose text is enough, so their traceback may end at the caller's line."""


def at_caller(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, plain or asynchronous, with no frames of swpks in its explained errors."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def waited(*given: P.args, **options: P.kwargs) -> Any:
            __tracebackhide__ = True
            # Only errors that are explained. Any other one may be a bug of swpks, and needs each frame.
            try:
                return await function(*given, **options)
            except EXPLAINED as error:
                raise error.with_traceback(None) from error.__cause__

        return cast("Callable[P, R]", waited)

    @wraps(function)
    def called(*given: P.args, **options: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*given, **options)
        except EXPLAINED as error:
            raise error.with_traceback(None) from error.__cause__

    return called


def block(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """As `contextmanager`, with the explained errors of its entry at the line of the caller."""
    # A generator runs to its `yield` in `__enter__`, and not at the call. So `__enter__` has to be wrapped.
    make = contextmanager(function)

    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractContextManager[T]:
        return _EnteredBlock(lambda: make(*given, **options))

    return begin


def async_block(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """As `asynccontextmanager`, with the explained errors of its entry at the line of the caller."""
    make = asynccontextmanager(function)

    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _EnteredAsyncBlock(lambda: make(*given, **options))

    return begin


class _EnteredBlock(AbstractContextManager[T], ContextDecorator, Generic[T]):
    """A block that is made and entered at the line of its `with`."""

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make

    @at_caller
    def __enter__(self) -> T:
        self._inner = self._make()
        return self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._inner.__exit__(kind, error, trace)


class _EnteredAsyncBlock(AbstractAsyncContextManager[T], AsyncContextDecorator, Generic[T]):
    """A block that is made and entered at the line of its `async with`."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make

    @at_caller
    async def __aenter__(self) -> T:
        self._inner = self._make()
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)
