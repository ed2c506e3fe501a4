"""Any registers and guest memory in a valid frame give a documented status. A refusal changes nothing."""

from __future__ import annotations

import os
import struct
from random import Random
from typing import Any, NamedTuple

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import encode_hreturn
from hcall_abi.frames import Access, HCall, HReturn, Segment
from hcall_abi.levels import KEYSTORE_LEVELS
from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.calls import Authorization
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.keystore.image import StoredObject
from tests.guest import auth_block, make_partition
from tests.hcalls.damage import NO_PK, PK_LABEL
from tests.wrapping.second import LEAST_FLAGS, wrap

pytestmark = pytest.mark.usefixtures("not_measured")

SEED = os.environ.get("SWPKS_FAULT_SEED") or str(int.from_bytes(os.urandom(4), "big"))
PAGE = 4096
PASSWORD = b"p" * 8
KEY = bytes(range(32))
BLOBS = (wrap(KEY, b"secret"), wrap(KEY, b"x" * 40, LEAST_FLAGS | 1 << 62), wrap(bytes(32), b"of no key"))
OBJECTS = (
    StoredObject(1, b"plain", 0, b"data"),
    StoredObject(3, b"world", 0x08000000, b"x" * 300),
    StoredObject(3, b"fixed", 0x04000000, b"y"),
    *(StoredObject(consumer, b"key", 0x00800000, KEY) for consumer in (1, 2, 3)),
)
POLICIES = (0, 0x08000000, 0x04000000, 0x10000000, 0x02000000, 0x40000000, 0x01000000, 0x00800000, 2)
DONE = (Status.H_SUCCESS, Status.H_CONTINUE)


class Picture(NamedTuple):
    """All state of a partition that a call could change, for a comparison."""

    objects: Any
    used: int
    flushed: int
    passwords: dict[int, bytes]
    attributes: Any


def picture(partition: Any) -> Picture:
    keystore = partition.keystore
    passwords = dict(keystore.access.passwords._passwords)
    contents = keystore.contents
    return Picture(contents.snapshot(), contents.used, contents.flushed, passwords, partition.attributes)


def good_call(chance: Random) -> HCall:
    """Return a call with valid arguments, which may succeed."""
    who = Authorization(chance.randint(1, 3), chance.choice((b"", PASSWORD)))
    label = chance.choice((b"plain", b"world", b"fixed", b"key", b"new"))
    data, policy = chance.randbytes(chance.choice((1, 100, 2000))), chance.choice(POLICIES)
    owner = chance.choice((who, Authorization(3, PASSWORD)))
    requests = (
        calls.get_config(chance.choice((24, 32, 512, 520))),
        calls.set_password(who.consumer, PASSWORD),
        calls.gen_password(who.consumer, 32),
        calls.get_object_labels(who, size=chance.choice((8, 100, 4096))),
        calls.write_object(who, label, data, policy),
        calls.read_object(who, label, chance.choice((1, 300, 4096))),
        calls.read_object(Authorization(3), b"world"),
        calls.remove_object(who, label),
        calls.confirm_object_flushed(who, label),
        calls.gen_key(who, label, chance.choice((1, 32, 100)), policy),
        calls.gen_wrapping_key(who, label, 0x00800000 | policy),
        calls.wrap_object(owner, chance.choice((b"key", label)), data),
        calls.unwrap_object(owner, chance.choice(BLOBS)),
        calls.unwrap_object(owner, BLOBS[0]),
        calls.revoke_object(owner, chance.choice((b"key", label))),
        calls.unrevoke_object(owner, chance.choice((b"key", label))),
        calls.signed_update(who, PK_LABEL, NO_PK, 0x01000000),
    )
    return chance.choice(requests).frame(7)


def sure_calls() -> list[HCall]:
    """Return one call for each opcode, in an order in which all of them succeed."""
    who = Authorization(3)
    requests = (
        calls.get_config(520),
        calls.get_object_labels(who),
        calls.write_object(who, b"sure", b"data"),
        calls.confirm_object_flushed(who, b"sure"),
        calls.read_object(who, b"sure", 100),
        calls.remove_object(who, b"sure"),
        calls.gen_key(who, b"random", 32),
        calls.gen_wrapping_key(who, b"wrapping", 0x00800000),
        calls.wrap_object(who, b"key", b"secret"),
        calls.unwrap_object(who, BLOBS[0]),
        calls.revoke_object(who, b"key"),
        calls.unrevoke_object(who, b"key"),
        calls.signed_update(who, PK_LABEL, NO_PK, 0x01000000),
        calls.set_password(1, PASSWORD),
        calls.gen_password(2, 32),
    )
    return [request.frame(7) for request in requests]


def spoiled(chance: Random, call: HCall) -> HCall:
    """Return the call with one or two faults in its registers or in its memory."""
    opcode, registers, segments = (
        call.opcode,
        list(call.registers),
        [Segment(*each) for each in call.segments],
    )
    for _ in range(chance.randint(1, 2)):
        n = chance.randrange(max(1, len(segments)))
        match chance.randrange(7) if segments else 0:
            case 0:
                registers[chance.randrange(9)] = number(chance, segments)
            case 1:
                opcode = chance.choice((*Opcode, 0, 0x418, opcode + 1, chance.getrandbits(64)))
            case 2:
                del segments[n]
            case other:
                segments[n] = altered(chance, segments[n], other)
    return HCall(7, opcode, tuple(registers), tuple(segments))


def altered(chance: Random, segment: Segment, how: int) -> Segment:
    """Return a segment of guest memory that is shorter, damaged, moved, unreadable or not writable."""
    address, length, access, data = segment
    if how == 3:
        return Segment(address, length // 2, access, data[: length // 2])
    if how == 4 and data:
        at = chance.randrange(length)
        return Segment(address, length, access, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
    if how == 5:
        return Segment(address + chance.choice((1, 8, 16, 4090)), length, access, data)
    if access & Access.IN:
        return Segment(address, length, int(Access.OUT), b"")
    return Segment(address, length, int(Access.BOTH), bytes(length))


def number(chance: Random, segments: list[Segment]) -> int:
    """Return a number that a guest with an error might put into a register."""
    near = [n for s in segments for n in (s.address, s.address + 1, s.length, s.length + 1)]
    bits = chance.randint(1, 64)
    return chance.choice((0, 1, 3, 4, 64, 255, 256, (1 << 64) - 1, 1 << 63, chance.getrandbits(bits), *near))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "relaxed"])
@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
def test_any_registers(level: str, strict: bool) -> None:
    """R-17, R-74, R-76: the status is one that the call may return, and every write stays in its segment."""
    print(f"SWPKS_FAULT_SEED={SEED}")
    chance = Random(f"{SEED} {level} {strict}")
    served = {int(opcode) for opcode in KEYSTORE_LEVELS[level].calls}
    engine = HypervisorCalls(make_partition(level, 4, objects=OBJECTS, strict=strict))
    reached = {(call.opcode, engine.execute(call).status) for call in sure_calls()}
    for _ in range(20):
        partition = make_partition(level, 4, objects=OBJECTS, strict=strict)
        engine = HypervisorCalls(partition)
        if chance.random() < 0.5:
            engine.execute(calls.set_password(3, PASSWORD).frame(7))
        before = picture(partition)
        for _ in range(100):
            call = good_call(chance)
            if chance.random() < 0.7:
                call = spoiled(chance, call)
            answer = engine.execute(call)
            reached.add((call.opcode, answer.status))
            judge(call, answer)
            row = CALLS[Opcode(call.opcode)] if call.opcode in served else None
            assert answer.status in (row.statuses if row else {Status.H_FUNCTION})
            after = picture(partition)
            assert after == before or (row and row.modifies and answer.status in DONE)
            before = after
    assert {opcode for opcode in served if (opcode, Status.H_SUCCESS) not in reached} == set()
    assert len([1 for opcode, _ in reached if opcode in served]) > 40, "too few statuses reached"


def judge(call: HCall, answer: HReturn) -> None:
    """Assert that the answer has the tag of the call, fits a frame, and writes only where it may."""
    assert answer.tag == call.tag
    encode_hreturn(answer)
    for address, data in answer.writes:
        assert any(
            s.access & Access.OUT and s.address <= address and address + len(data) <= s.address + s.length
            for s in map(Segment._make, call.segments)
        )
    if answer.status not in DONE:
        assert not answer.writes


def test_damaged_blocks_of_otherwise_good_calls() -> None:
    """R-17: READ refuses a damaged authorization block, or reads as the consumer in it.

    It changes nothing.
    """
    chance = Random(17)
    partition = make_partition(objects=OBJECTS)
    engine = HypervisorCalls(partition)
    before = picture(partition)
    for _ in range(3000):
        block = bytearray(auth_block(1))
        for _ in range(chance.randint(1, 3)):
            block[chance.randrange(len(block))] ^= 1 << chance.randrange(8)
        segments = (
            Segment(PAGE, len(block), 1, bytes(block)),
            Segment(2 * PAGE, 5, 1, b"plain"),
            Segment(3 * PAGE, 64, 2, b""),
        )
        call = HCall(7, int(Opcode.READ_OBJECT), (PAGE, 2 * PAGE, 5, 3 * PAGE, 64, 0, 0, 0, 0), segments)
        answer = engine.execute(call)
        version, consumer, reserved, length = struct.unpack(">BB12sH", block)
        sound = version == 1 and not any(reserved) and consumer in (1, 2, 3) and not length
        allowed = (
            {Status.H_SUCCESS if consumer == 1 else Status.H_NOT_FOUND} if sound else {Status.H_PARAMETER}
        )
        assert answer.status in allowed
    assert picture(partition) == before
