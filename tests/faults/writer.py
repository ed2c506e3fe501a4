"""What a partition's writer does besides its calls: read the whole store, and wait for its flush.

Both are conversations without I/O: they yield requests and are sent the results. So the same code checks a
real process over a blocking channel and a simulated machine over an asynchronous one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, HcallError, Request
from tests.faults.history import CONSUMERS, History, State, used

T = TypeVar("T")

Talk = Generator[list[Request[Any]], list[Any], T]
"""Yields requests, gets the result or the HcallError of each, and returns a value at the end."""

PATIENCE = 20.0
"""Seconds within which a healthy server has flushed; generous, because test machines are busy."""

LOOK = b"look"
"""The password of every consumer after `look`."""


def look(history: History) -> Talk[State]:
    """Return the whole store after an IPL; check that passwords are gone (R-04), and the used space (R-07).

    Every consumer gets a new password, so objects under PWSET can be read too.
    """
    state: State = {}
    for consumer in CONSUMERS:
        if consumer in history.lost_passwords:
            lost = Authorization(consumer, history.lost_passwords[consumer])
            (refused,) = yield [calls.get_object_labels(lost)]
            assert isinstance(refused, HcallError)
            assert refused.status == Status.H_AUTHORITY
        null = Authorization(consumer)
        _good((yield [calls.get_object_labels(null), calls.set_password(consumer, LOOK)]))
        state |= yield from _objects(Authorization(consumer, LOOK))
    (config,) = _good((yield [calls.get_config()]))
    assert config.used_space == used(state)
    return state


def confirm_all(history: History, now: Callable[[], float] = time.monotonic) -> Talk[None]:
    """Send CONFIRMs until all written changes are flushed.

    Fail after PATIENCE seconds of the clock `now`.
    """
    deadline = now() + PATIENCE
    while not history.all_confirmed:
        assert now() < deadline, "not flushed"
        foretold = history.newest_confirm()
        (result,) = yield [foretold.request]
        history.check(foretold, result)


def _objects(who: Authorization) -> Talk[State]:
    """Return every object of one consumer."""
    labels: list[bytes] = []
    token, more = 0, True
    while more:
        (part,) = _good((yield [calls.get_object_labels(who, token, 256)]))
        labels += part.labels
        token, more = part.token, part.more
    assert len(set(labels)) == len(labels)
    reads = _good((yield [calls.read_object(who, label) for label in labels]))
    found = zip(labels, reads, strict=True)
    return {(who.consumer, label): (int(read.policy), read.data) for label, read in found}


def _good(results: list[Any]) -> list[Any]:
    assert not any(isinstance(result, HcallError) for result in results), results
    return results


def have(channel: BlockingChannel, talk: Talk[T]) -> T:
    """Run a conversation over a blocking channel; return its result."""
    try:
        requests = next(talk)
        while True:
            requests = talk.send(channel.pipeline(requests))
    except StopIteration as end:
        value: T = end.value
        return value


class Asynchronous(Protocol):
    """The protocol of an asynchronous session: `hcall_client.channel.Channel` has it."""

    async def pipeline(self, requests: Iterable[Request[Any]]) -> list[Any]:
        """Make these calls in order; return for each the result or its HcallError."""


async def have_async(channel: Asynchronous, talk: Talk[T]) -> T:
    """Run a conversation over an asynchronous channel; return its result."""
    try:
        requests = next(talk)
        while True:
            requests = talk.send(await channel.pipeline(requests))
    except StopIteration as end:
        value: T = end.value
        return value


def work(channel: BlockingChannel, history: History, longest: int) -> None:
    """Send one batch of calls and check every answer. If the session ends, raise."""
    batch = history.batch(longest)
    for foretold, result in zip(batch, channel.pipeline(each.request for each in batch), strict=True):
        history.check(foretold, result)


async def work_async(channel: Asynchronous, history: History, longest: int) -> None:
    """Send one batch of calls over an asynchronous channel and check every answer.

    If the session ends, raise.
    """
    batch = history.batch(longest)
    for foretold, result in zip(batch, await channel.pipeline(each.request for each in batch), strict=True):
        history.check(foretold, result)
