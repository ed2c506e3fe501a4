"""Tracebacks that end at the caller's line, for errors whose text has all that the reader needs.

The caller is the author of a test.  All frames below that line belong to swpks.  pytest hides frames by
`__tracebackhide__`, but not in a group of exceptions, and a failed asynchronous test is such a group.  So
this module removes the frames as well.
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
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast

from hcall_abi.errors import SwpksError
from hcall_abi.mistakes import Mistake, WrongType

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Explained(Exception):
    """An error whose text says more than its traceback, such as ServerFailed with the end of the log."""


EXPLAINED = (Mistake, SwpksError, Explained)
"""Errors whose text is enough, so their traceback may end at the caller's line."""


def at_caller(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, plain or asynchronous, so that its explained errors have no frames of swpks."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def waited(*given: P.args, **options: P.kwargs) -> Any:
            __tracebackhide__ = True
            # Only explained errors lose their frames. Any other error may be a bug of swpks, and needs each
            # frame.
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
    """Return a context manager, as `contextmanager` does.

    If its entry raises an explained error, the traceback ends at the caller's line.
    """
    # A generator runs to its `yield` in `__enter__`, and not at the call. So `__enter__` has to be wrapped.
    make = contextmanager(function)

    @at_caller
    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractContextManager[T]:
        _check_arguments(function, given, options)
        return _EnteredBlock(lambda: make(*given, **options), function.__name__.removeprefix("_"))

    return begin


def async_block(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Return an asynchronous context manager, as `asynccontextmanager` does.

    If its entry raises an explained error, the traceback ends at the caller's line.
    """
    make = asynccontextmanager(function)

    @at_caller
    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractAsyncContextManager[T]:
        _check_arguments(function, given, options)
        return _EnteredAsyncBlock(lambda: make(*given, **options), function.__name__.removeprefix("_"))

    return begin


def _check_arguments(
    function: Callable[..., object], given: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """Raise WrongType if a function does not take these arguments; Python's own error would come later."""
    signature = inspect.signature(function)
    try:
        signature.bind(*given, **options)
    except TypeError as error:
        names = ", ".join(signature.parameters)
        message = f"{function.__name__.removeprefix('_')} has other parameters ({error})"
        raise WrongType(f"{message}; their names are {names}") from None


class _EnteredBlock(AbstractContextManager[T], ContextDecorator, Generic[T]):
    """A context manager that is made only when its `with` statement begins."""

    def __init__(self, make: Callable[[], AbstractContextManager[T]], name: str) -> None:
        self._make = make
        self._right = f"write `with {name}(...) as it:`"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"there is no {name} outside of the block: {self._right}")

    def __aenter__(self) -> NoReturn:
        raise WrongType(f"this block is not asynchronous: {self._right}")

    __aexit__ = __aenter__

    @at_caller
    def __enter__(self) -> T:
        self._inner = self._make()
        return self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._inner.__exit__(kind, error, trace)


class _EnteredAsyncBlock(AbstractAsyncContextManager[T], AsyncContextDecorator, Generic[T]):
    """An asynchronous context manager that is made only when its `async with` statement begins."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], name: str) -> None:
        self._make = make
        self._right = f"write `async with {name}(...) as it:`"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"there is no {name} outside of the block: {self._right}")

    def __enter__(self) -> NoReturn:
        raise WrongType(f"this block is asynchronous: {self._right}")

    def __exit__(self, *_: object) -> None:
        """Exist, because Python looks for both functions before it enters a block."""

    def __await__(self) -> NoReturn:
        raise WrongType(f"this is a block, and no awaitable: {self._right}")

    @at_caller
    async def __aenter__(self) -> T:
        self._inner = self._make()
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)
