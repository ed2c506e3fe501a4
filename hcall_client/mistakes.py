"""Errors for values of the wrong type: the message has the right form and never the value.

A value may be a password or a key.
"""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Iterable, Iterator
from typing import TypeVar

from hcall_abi import mistakes
from hcall_abi.mistakes import WrongLoop, WrongType, WrongValue, of_caller
from hcall_abi.mistakes import kind_of as _kind

__tracebackhide__ = of_caller
T = TypeVar("T")

Place = tuple[str, ...]
"""An argument, and the call that it belongs to; joined only in an error, because each call passes its own."""


def no_request(given: object, example: str) -> WrongType:
    """Return the error of a `call` whose argument is no request.

    The message shows the right `example`.
    """
    # The usual mistake is a function without its parentheses, such as call(get_config).
    name = getattr(given, "__name__", None)
    if not callable(given) or name is None:
        return WrongType(f"call takes a request such as {example}, not {_kind(given)}")
    return WrongType(
        f"call takes a request, not the function {name}: write call({name}{_parentheses(given)})"
    )


def check_place(given: object, connected: type, example: str) -> None:
    """Raise WrongType for a value that is no address of a data channel, and no open connection."""
    if isinstance(given, connected):
        return
    if isinstance(given, str | os.PathLike):
        _check_path(os.fspath(given), example)
        return
    if isinstance(given, tuple) and len(given) == 2:
        host, port = given
        if isinstance(host, str) and isinstance(port, int):
            # Python would cut the number: 65537 is port 1.
            if not 0 < port < 1 << 16:
                raise WrongValue(f"the port of a data channel is 1 to 65535, not {port}")
            return
    from hcall_client.no_place import no_place  # here, because only a failure needs it

    raise no_place(given, connected is socket.socket, example)


def _check_path(path: str | bytes, example: str) -> None:
    """Raise WrongValue for a text that is no path of a socket; some systems have sockets without a file."""
    if not path or (b"\0" if isinstance(path, bytes) else "\0") in path:  # type: ignore[operator]
        fault = "is empty" if not path else "has a zero byte"
        raise WrongValue(f"the path of a data channel {fault}: write {example}")


def check_loop(asked: str, without: str = "") -> None:
    """Raise WrongLoop if Trio does not run.

    The message shows the code in the parameter `without`: it does the same, and needs no Trio.
    """
    import trio  # not at the top: a blocking client does not load it

    # Without this check, Trio would raise an error that does not name the mistake.
    if not trio.lowlevel.in_trio_run():
        also = f"; without Trio: {without}" if without else ""
        raise WrongLoop(f"{asked} needs Trio: begin the program by trio.run(main){also}")


def check_own_loop(own: object) -> None:
    """Raise WrongLoop unless the Trio loop with the token `own` runs here."""
    import trio  # not at the top: a blocking client does not load it

    try:
        same = trio.lowlevel.current_trio_token() is own
    except RuntimeError:
        same = False
    # Without this check, an answer would wake a task of another loop, and both loops would be in disorder.
    if not same:
        raise WrongLoop(
            "a channel belongs to the Trio loop that opened it, and this is not that loop: open another "
            "channel here, or write trio.from_thread.run(channel.call, request, trio_token=TOKEN of its loop)"
        )


def several(requests: Iterable[T]) -> Iterator[T]:
    """Return an iterator of the requests of a pipeline.

    For a single request, raise WrongType with the right form.
    """
    if not isinstance(requests, Iterable):
        raise WrongType(f"pipeline takes several requests, not {_kind(requests)}: write pipeline([...])")
    return iter(requests)


def no_bytes(place: Place, given: object) -> WrongType:
    """Return the error of an argument that has to be bytes."""
    return mistakes.no_bytes(_named(place), given)


def no_number(place: Place, given: object) -> WrongType:
    """Return the error of an argument that has to be a whole number."""
    return mistakes.no_number(_named(place), given)


def no_authorization(place: Place, given: object) -> WrongType:
    """Return the error of an argument that has to be an `Authorization`."""
    return WrongType(
        f"{_named(place)} is an Authorization, not {_kind(given)}: write Authorization(consumer, password)"
    )


def no_consumer(given: object) -> WrongType:
    """Return the error of a consumer that is no number; the value may be a password."""
    return WrongType(
        f"the consumer of Authorization is a whole number, not {_kind(given)}: "
        "write Authorization(Consumer.OPERATING_SYSTEM, password)"
    )


def _named(place: Place) -> str:
    return " of ".join(place)


def _parentheses(function: object) -> str:
    """Return "()" to write after a function's name, "(...)" if the function needs arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    # Functions in C may have no signature.
    except (TypeError, ValueError):
        return "(...)"
    return "(...)" if any(each.default is each.empty for each in parameters) else "()"
