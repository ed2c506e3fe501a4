"""The usual frames of the scripted server, and the calls that the judge asks the client for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import NamedTuple

from hcall_abi.frames import MAX_BODY, NONCE_SIZE, HCall, Hello, HReturn, Open, Opened, Segment, Write
from hcall_abi.proof import NO_PROOF, server_proof
from hcall_abi.statuses import REGISTERS
from swpks.conformance.client.wire import ServedConnection

PARTITION, IPL_COUNT, LEVEL = 3, 7, "FW1110"
"""The fields of the usual OPENED."""
WRITE_OBJECT, GET_CONFIG = 0x42C, 0x41C
"""Opcodes from the page: a call that changes the store, and a call that does not."""
BUFFER = 0x4000
"""Address of the output buffer of `plan`."""


def plan(
    opcode: int = GET_CONFIG,
    registers: Iterable[int] = (BUFFER, 24),
    segments: Iterable[Segment] | None = None,
) -> HCall:
    """Return a call for the client to make; by default GET_CONFIG with its buffer."""
    values = tuple(registers)
    memory = (Segment.written(BUFFER, 24),) if segments is None else tuple(segments)
    return HCall(0, opcode, values + (0,) * (REGISTERS - len(values)), memory)


CHANGE = plan(
    WRITE_OBJECT, (0x1000, 0x2000, 5), (Segment.read(0x1000, bytes(16)), Segment.read(0x2000, b"label"))
)
"""A call that changes something."""


def hello(
    lowest: int = 1, highest: int = 1, max_body: int = MAX_BODY, features: int = 0, name: str = "judge"
) -> Hello:
    """Return a HELLO with a fresh nonce."""
    return Hello(lowest, highest, max_body, features, secrets.token_bytes(NONCE_SIZE), name)


def answer(call: HCall, status: int = 0, *registers: int, writes: Iterable[Write] = ()) -> HReturn:
    """Return the answer to a call: its status, the registers from r4 on, and the writes."""
    return HReturn(call.tag, status, registers + (0,) * (REGISTERS - len(registers)), tuple(writes))


class AskedSession(NamedTuple):
    """A session that the client has asked for: the connection, the HELLO sent, and the client's OPEN."""

    connection: ServedConnection
    hello: Hello
    open: Open


def opened(opening: AskedSession, status: int = 0, *, key: bytes | None = None, level: str = LEVEL) -> Opened:
    """Return the OPENED that answers an OPEN; with a key, it has the server's proof."""
    _, greeting, asked = opening
    if status:
        return Opened(asked.tag, status, asked.partition, 0, NO_PROOF, "")
    proof = server_proof(key, greeting.nonce, asked.nonce, asked.partition) if key else NO_PROOF
    return Opened(asked.tag, 0, PARTITION, IPL_COUNT, proof, level)
