"""Errors at the line of the caller: a wrong use of a fixture is one line, and not the way inside.

A test author has written that line.  The frames below it belong to swpks, and say nothing that the text of
the error does not say.  pytest hides frames by `__tracebackhide__`, but not in the group of exceptions that a
failed asynchronous test is.  So the frames are dropped as well.
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
    """An error whose text says more than the way of its exception, such as that of a server with its log."""


EXPLAINED = (Mistake, SwpksError, Explained)
"""Errors whose text has all that there is to know."""


def at_caller(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function, plain or asynchronous, whose explained errors have no frames below the caller's."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def waited(*given: P.args, **options: P.kwargs) -> Any:
            __tracebackhide__ = True
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
    """`contextmanager`, with the explained errors of its entry at the line of the caller."""
    make = contextmanager(function)

    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractContextManager[T]:
        return _EnteredBlock(lambda: make(*given, **options))

    return begin


def async_block(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """`asynccontextmanager`, with the explained errors of its entry at the line of the caller."""
    make = asynccontextmanager(function)

    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _EnteredAsyncBlock(lambda: make(*given, **options))

    return begin


class _EnteredBlock(AbstractContextManager[T], ContextDecorator, Generic[T]):
    """A block whose entry is called at the line of its `with`."""

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
    """The same for `async with`."""

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
