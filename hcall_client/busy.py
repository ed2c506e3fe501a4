"""Repeats busy calls: a call is made again with the token of its busy answer, as the Linux driver does.

    blob = until_done(channel.call, lambda token: wrap_object(who, label, data, token=token), time.sleep)

Each busy status hints a time to wait.  The caller passes the sleep, so a test needs no time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from hcall_client.errors import HcallError
from hcall_client.request import Request

T = TypeVar("T")

PATIENCE = 5.0
"""Sum of sleeps in seconds after which Linux gives a signed update up."""

Make = Callable[[int], Request[T]]
"""Makes the call with a continue token; 0 begins."""


class _Waits:
    """The token of the next call, and the sum of the sleeps so far."""

    def __init__(self, patience: float) -> None:
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
    waits = _Waits(patience)
    while True:
        try:
            return call(make(waits.token))
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
    waits = _Waits(patience)
    while True:
        try:
            return await call(make(waits.token))
        except HcallError as error:
            await sleep(waits.after(error))
            if waits.patience <= 0:
                raise
