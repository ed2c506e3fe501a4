"""Repeats busy calls: a call is made again with the token of its busy answer, as the Linux driver does.

    blob = until_done(channel.call, lambda token: wrap_object(who, label, data, token=token), time.sleep)

Each busy status hints a time to wait.  The caller passes the sleep, so a test needs no time.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hcall_abi.mistakes import WrongType, check_function, check_number_of_seconds, kind_of, of_caller
from hcall_client.errors import HcallError
from hcall_client.request import Request

T = TypeVar("T")

__tracebackhide__ = of_caller
PATIENCE = 5.0
"""Sum of sleeps in seconds after which Linux gives a signed update up."""

Make = Callable[[int], Request[T]]
"""Makes the call with a continue token; 0 begins."""


_PLAIN = "until_done(channel.call, lambda token: read_object(who, label), time.sleep)"
_ASYNC = "await until_done_async(channel.call, lambda token: read_object(who, label), trio.sleep)"


class _Waits:
    """The token of the next call, and the sum of the sleeps so far."""

    def __init__(self, patience: float) -> None:
        check_number_of_seconds("patience", patience)
        self.token = 0
        self.patience = patience

    def after(self, error: HcallError) -> float:
        """Return the seconds to sleep after a busy answer; raise every other refusal."""
        if error.retry_after is None:
            raise error
        # If H_BUSY has no token, as for most calls, the call begins again with token 0.
        self.token = error.token or 0
        # As in Linux, only the sleeps count, and not the calls between them (spec/faults.md). So no clock is
        # needed.
        self.patience -= error.retry_after
        return error.retry_after


def until_done(
    call: Callable[[Request[T]], T],
    make: Make[T],
    sleep: Callable[[float], object],
    patience: float = PATIENCE,
) -> T:
    """Repeat a call through `call`, such as `BlockingChannel.call`, until it is not busy any more.

    `sleep` gets seconds. If the sleeps add up to `patience`, raises the last busy HcallError. `math.inf`
    means no limit, as in Linux for WRAP and UNWRAP. Raises every other refusal at once.
    """
    _check(call, make, sleep, _PLAIN)
    for each in (call, sleep):
        if inspect.iscoroutinefunction(each):
            raise WrongType(
                f"until_done takes plain functions, not {each.__name__}, which is async: write {_ASYNC}"
            )
    waits = _Waits(patience)
    while True:
        try:
            return call(_made(make, waits.token, _PLAIN))
        except HcallError as error:
            sleep(waits.after(error))
            if waits.patience <= 0:
                raise


async def until_done_async(
    call: Callable[[Request[T]], Awaitable[T]],
    make: Make[T],
    sleep: Callable[[float], Awaitable[object]],
    patience: float = PATIENCE,
) -> T:
    """The same as `until_done`, over an async channel: `channel.call` and `trio.sleep`."""
    _check(call, make, sleep, _ASYNC)
    waits = _Waits(patience)
    while True:
        try:
            return await _awaitable("call", call(_made(make, waits.token, _ASYNC)))
        except HcallError as error:
            await _awaitable("sleep", sleep(waits.after(error)))
            if waits.patience <= 0:
                raise


def _check(call: object, make: object, sleep: object, example: str) -> None:
    """Raise WrongType for an argument that is no function, or for the first two in the wrong order."""
    for place, given in (("call", call), ("make", make), ("sleep", sleep)):
        check_function(f"the argument {place} of until_done", given, example)
    if hasattr(getattr(make, "__self__", None), "pipeline"):
        raise WrongType(f"until_done takes the call of a channel first, and then make: write {example}")


def _made(make: Make[T], token: int, example: str) -> Request[T]:
    made = make(token)
    if not hasattr(made, "opcode"):
        message = f"the argument make of until_done returns a request, not {kind_of(made)}"
        raise WrongType(f"{message}: write {example}")
    return made


def _awaitable(place: str, found: Awaitable[T]) -> Awaitable[T]:
    given: object = found
    if not inspect.isawaitable(given):
        message = f"the argument {place} of until_done_async is an asynchronous function"
        raise WrongType(f"{message}: write {_ASYNC}; or {_PLAIN}")
    return found
