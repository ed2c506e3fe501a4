"""The error of a value that is no place of a data channel: the usual mistakes have a remedy of their own."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Awaitable, Callable

from hcall_abi.mistakes import WrongType, kind_of

_PORT = 9000


def no_place(given: object, blocking: bool, example: str) -> WrongType:
    """Return the error of a value in the place of an address, or as the result of `locate`."""
    remedy = _remedy(given, blocking) or f"write {example}"
    pair = isinstance(given, tuple) and len(given) == 2
    kinds = f" of {kind_of(given[0])} and {kind_of(given[1])}" if isinstance(given, tuple) and pair else ""
    return WrongType(
        "the place of a data channel is a path, or a tuple of host and port number, "
        f"not {kind_of(given)}{kinds}: {remedy}"
    )


def _remedy(given: object, blocking: bool) -> str:
    """Return the right form for a usual mistake; "" for any other value."""
    if isinstance(given, tuple) and len(given) == 2:
        port = int(given[1]) if isinstance(given[1], str) and given[1].isdecimal() else _PORT
        host = given[0] if isinstance(given[0], str) else "localhost"
        return f"write ({host!r}, {port}), the port without quotes"
    if inspect.iscoroutine(given):
        given.close()  # otherwise Python warns of it at some later moment
    if isinstance(given, Awaitable):
        return "its locate is asynchronous: write locate_at(...), or take `async with open_following(...)`"
    # Both ends of the fixtures have a `locate`, and each is for the channel of its kind.
    if isinstance(given, socket.socket):
        return (
            "a socket is for blocking channels: take swpks.BlockingChannel or swpks.FollowingBlockingChannel"
        )
    if hasattr(given, "receive_some"):
        return (
            "a stream of Trio is for asynchronous channels: take swpks.open_channel or swpks.open_following"
        )
    return _of_object(given, blocking)


def _of_object(given: object, blocking: bool) -> str:
    if hasattr(given, "channel"):
        use = "`connect()`" if blocking else "`async with it.connect() as channel:`"
        return f"it has an open session, its member `channel`; for one more, write {use} of this object"
    if callable(given):
        right = "swpks.FollowingBlockingChannel(locate)" if blocking else "swpks.open_following(locate)"
        return f"a function that locates a partition is for {right}"
    return ""


def check_locate(locate: Callable[..., object], right: str) -> None:
    """Raise WrongType for a `locate` that needs arguments: a channel calls it without any."""
    try:
        inspect.signature(locate).bind()
    except ValueError:  # functions in C may have no signature
        return
    except TypeError as error:
        name = getattr(locate, "__name__", "locate")
        raise WrongType(
            f"a channel calls locate without arguments, and {name} has a {error}: "
            f'write {right}({name}("lpar1")) if it returns such a function, else a lambda'
        ) from None
