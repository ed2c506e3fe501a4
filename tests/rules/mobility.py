"""Rules of the channel between two systems. The peer of each end breaks them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.rules.rule import Rule
from hcall_server.mobility.channel import answer_channel, open_channel
from hcall_server.mobility.messages import Final, decode
from tests.mobility.rig import TOKEN, entropy, pair
from tests.mobility.test_channel import ATTEMPT, opened
from tests.rules.breaking import Break, Breaks, breaks, refused_late, run


def late(step: Callable[[], Awaitable[Rule]]) -> Break:
    """Return a function that runs an asynchronous step, which breaks a rule, on a virtual clock."""
    return lambda _: run(step)


async def _no_listener() -> Rule:
    async with pair() as both:
        both.target.peers = None
        return await refused_late(both.expect())


async def _no_way() -> Rule:
    async with pair() as both:
        both.source.peers = None
        return await refused_late(both.begin())


async def _another_token() -> Rule:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        other = ATTEMPT._replace(token=bytes(len(TOKEN)))
        nursery.start_soon(_ignored, open_channel(near, other, entropy))
        found = await refused_late(answer_channel(far, lambda uuid, epoch: ATTEMPT, entropy))
        await far.aclose()
    return found


async def _ignored(step: Awaitable[object]) -> None:
    await refused_late(step)


async def _too_large() -> Rule:
    async with opened() as (_, target, _stream):
        return await refused_late(target.receive_final(Final(0, MAX_FINAL + 1)))


async def _silent() -> Rule:
    _near, far = trio.testing.memory_stream_pair()
    return await refused_late(answer_channel(far, lambda uuid, epoch: ATTEMPT, entropy))


BREAKS: Breaks = {
    "mobility.listens": late(_no_listener),
    "mobility.reached": late(_no_way),
    "mobility.proven": late(_another_token),
    "mobility.form": breaks(decode, b"\0"),
    "mobility.size": late(_too_large),
    "mobility.time": late(_silent),
}
