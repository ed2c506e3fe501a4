"""Blocks of `async with` that name the right form, if a program uses them in another way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import Generic, NoReturn, ParamSpec, TypeVar

from hcall_abi.mistakes import WrongType, of_caller

__tracebackhide__ = of_caller
P = ParamSpec("P")
T = TypeVar("T")


def opening(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Return what `asynccontextmanager` returns; for every other use, its error has the right form."""
    make = asynccontextmanager(function)

    @wraps(function)
    def begin(*given: P.args, **options: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Opening(make(*given, **options), function.__name__)

    return begin


class _Opening(AbstractAsyncContextManager[T], Generic[T]):
    """A session that is open for the length of a block."""

    def __init__(self, block: AbstractAsyncContextManager[T], name: str) -> None:
        self._block = block
        self._right = f"write `async with {name}(...) as channel:`"

    async def __aenter__(self) -> T:
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, trace)

    # The usual mistakes.  Python's own error would name a class of `contextlib`.

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"there is no {name} outside of the block: {self._right}")

    def __enter__(self) -> NoReturn:
        raise WrongType(f"this block is asynchronous: {self._right}")

    def __exit__(self, *_: object) -> None:
        """Exist, because Python looks for both functions before it enters a block."""

    def __await__(self) -> NoReturn:
        raise WrongType(f"this is a block, and no awaitable: {self._right}")
