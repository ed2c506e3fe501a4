"""Rules that a client checks in a server's answers, or that it concludes from a status alone.

A scripted server sends wrong answers to real clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hcall_abi.frames import HCall, HReturn, Write
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import Status
from hcall_client.calls import (
    Request,
    gen_password,
    get_config,
    get_object_labels,
    read_object,
    signed_update,
    write_object,
)
from hcall_client.following import open_following
from hcall_client.request import Authorization
from tests.client.peer import HELLO, READ, Peer, against, answer, out
from tests.rules.breaking import Break, Breaks, refused_late, run

WHO = Authorization(3, b"password")
WRITE = write_object(WHO, b"label", b"data")
UPDATE = signed_update(WHO, b"label", b"data", 0)


def answered(request: Request[Any], make: Callable[[HCall], HReturn]) -> Break:
    """Return a function that breaks a rule: a call gets the answer that `make` returns."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.send(make(await peer.call()))
        await peer.goodbye()

    async def talk() -> Rule:
        async with against(script) as channel:
            return await refused_late(channel.call(request))

    return lambda _: run(talk)


def status(request: Request[Any], number: int) -> Break:
    """Return a function that breaks a rule: a call gets this status."""
    return answered(request, lambda call: answer(call, number))


def written(request: Request[Any], data: bytes, *registers: int, status: int = 0) -> Break:
    """Return a function that breaks a rule: a call gets these bytes in its output buffer."""
    return answered(
        request, lambda call: answer(call, status, *registers, writes=(Write(out(call).address, data),))
    )


async def _too_long() -> Rule:
    async def script(peer: Peer) -> None:
        await peer.greet(hello=HELLO._replace(max_body=1000))
        await peer.goodbye()

    async with against(script) as channel:
        return await refused_late(channel.call(write_object(WHO, b"label", bytes(1000))))


async def _nowhere() -> Rule:
    return await refused_late(open_following(lambda: "/none/lpar1.sock").__aenter__())


BREAKS: Breaks = {
    "open.place": lambda _: run(_nowhere),
    "call.size": lambda _: run(_too_long),
    "answer.writes": answered(WRITE, lambda call: answer(call, writes=(Write(0, b"data"),))),
    "answer.policy": written(READ, b"data", 4, 1 << 32),
    "answer.whole": written(gen_password(3, 32), bytes(31)),
    "answer.size": written(read_object(WHO, b"label", 8), b"data", 5),
    "answer.continue": written(get_object_labels(WHO), b"\0\1x", 1, 0, status=Status.H_CONTINUE),
    "answer.labels": written(get_object_labels(WHO), b"\0\2x", 1),
    "answer.config": written(get_config(), bytes([9]) * 520),
    "argument.right": status(READ, Status.H_P3),
    "function": status(READ, Status.H_FUNCTION),
    "function.update": status(UPDATE, Status.H_FUNCTION),
    "authority": status(READ, Status.H_AUTHORITY),
    "authority.update": status(UPDATE, Status.H_AUTHORITY),
    "space.update": status(UPDATE, Status.H_NO_MEM),
    "state.modifiable": status(WRITE, Status.H_R_STATE),
    "call.finished": status(WRITE, Status.H_ABORTED),
    "list.continued": status(WRITE, Status.H_CONTINUE),
    "status.known": status(WRITE, -12345),
}
