"""The programs of the load generator: the frames that it sends, and the answers that it expects.

Both are computed before a measurement starts.  The client library encodes the calls, and the engine of this
process answers them.  The echo server (`bench.echo`) sends these answers, so its frames have the same sizes
as those of swpks.
"""

# Why the frames are computed before
#
# The generator must be cheap beside the server, so it neither encodes nor decodes.  It sends bytes, and
# checks the size and the status of each answer.  So an operation must have the same frames each time.  A READ
# has the same frames each time.  A WRITE does not replace an object, so a unit of writes removes its object
# first.
#
# The answers serve two purposes.  Their sizes are checked, and the echo server sends them.  So the echo moves
# exactly the bytes that swpks moves, and the difference is the work on them.

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hcall_abi.codec import encode
from hcall_abi.consumers import Consumer
from hcall_abi.frames import HCall, Open
from hcall_abi.levels import DEFAULT_LEVEL
from hcall_abi.proof import NO_PROOF
from hcall_abi.statuses import Status
from hcall_client.calls import confirm_object_flushed, read_object, remove_object, set_password, write_object
from hcall_client.request import Authorization, Request
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem

POLL, START, END, LATER, END_IF = 1, 2, 4, 8, 16
"""Flags of a step, as in load.c.

POLL: repeat until r4 is 1.  START: an operation begins.  END: it ends here.  LATER: nap before it.
END_IF: the operation ends here if r4 is 1, and the next step is left out.
"""

OWNER = Authorization(Consumer.OPERATING_SYSTEM, bytes(range(100, 132)))
"""The consumer of all objects here, with its password of 32 bytes: every call is authenticated."""
KBYTES = 64
OBJECT_SIZE = 4000
FILL = [(b"fill-%02d" % n, bytes([n]) * OBJECT_SIZE) for n in range(13)]
"""Objects that make the partition's image nearly 64 KiB, as in a store in use."""
SMALL, LARGE = b"small", b"large one"
OBJECTS = [(SMALL, bytes(64)), (LARGE, bytes(OBJECT_SIZE)), *FILL]
_NUMBER = struct.Struct("=I")


class Step(NamedTuple):
    """Frames of one send; `answers` are the complete frames that answer them, None if unknown.

    `awaited` is the number of answers.  `flags` are START, END and the other constants above this class.
    If END is set, `units` operations end with this step.
    """

    frames: bytes
    awaited: int
    answers: tuple[bytes, ...] | None = None
    flags: int = 0
    units: int = 0


class Program(NamedTuple):
    """The program of a connection: it runs the opening once, the steps over and over, the closing once."""

    opening: tuple[Step, ...]
    steps: tuple[Step, ...]
    closing: tuple[Step, ...] = ()


Workload = list[Program]
"""Programs of connections: connection n runs program n modulo their number."""

OPEN = encode(Open(1, 0, 0, bytes(32), NO_PROOF, "bench"))
SESSION = (Step(b"", 1), Step(OPEN, 1))
"""The opening of a connection: HELLO comes, OPEN is answered."""


def filled_partition(objects: Iterable[tuple[bytes, bytes]] = OBJECTS, kbytes: int = KBYTES) -> Partition:
    """Return a running partition in this process with the objects of the measured partition."""
    system = ManagedSystem(DEFAULT_LEVEL, bytes(16), bytes)
    system.create("bench", kbytes)
    partition = system.power_on("bench")
    calls = HypervisorCalls(partition)
    for request in preparation(objects):
        answer(calls, request.frame(1))
    return partition


def engine() -> HypervisorCalls:
    """Return the object that executes the h-calls of a filled partition."""
    return HypervisorCalls(filled_partition())


def preparation(objects: Iterable[tuple[bytes, bytes]] = OBJECTS) -> list[Request[Any]]:
    """Return the calls that bring a new partition into the state at the start of a measurement."""
    first: list[Request[Any]] = [set_password(OWNER.consumer, OWNER.password)]
    return first + [write_object(OWNER, label, data) for label, data in objects]


def answer(calls: HypervisorCalls, call: HCall) -> bytes:
    """Return the frame that answers a call; RuntimeError when it is refused."""
    returned = calls.execute(call)
    if returned.status not in {Status.H_SUCCESS, Status.H_CONTINUE}:
        raise RuntimeError(f"a call of the benchmark is refused: status {returned.status}")
    return encode(returned)


def step_of(calls: HypervisorCalls, requests: Iterable[Request[Any]], flags: int = START | END) -> Step:
    """Return the step that sends some calls at once; each call is an operation."""
    frames = [request.frame(tag) for tag, request in enumerate(requests, 1)]
    answers = tuple(answer(calls, frame) for frame in frames)
    return Step(b"".join(map(encode, frames)), len(frames), answers, flags, len(frames))


def reads(label: bytes, size: int, depth: int = 1) -> Workload:
    """Return READs of one object, with `depth` calls in flight."""
    step = step_of(engine(), [read_object(OWNER, label, size)] * depth)
    return [Program(SESSION, (step,))]


def writes_and_removes(connections: int = 1) -> Workload:
    """Return WRITEs of a new object of 64 bytes, and a REMOVE after each.

    Each call is an operation.
    """
    calls, workload = engine(), []
    for label in labels(connections):
        write = step_of(calls, [write_object(OWNER, label, bytes(64))])
        workload.append(Program(SESSION, (write, step_of(calls, [remove_object(OWNER, label)]))))
    return workload


def confirmed_writes(connections: int) -> Workload:
    """Return REMOVE, WRITE and CONFIRM in one send, which is one unit.

    If the CONFIRM says "not yet", the client waits for its nap and calls CONFIRM again.
    """
    return _confirmed(connections, START | END_IF)


def polled_writes(connections: int) -> Workload:
    """Return what `confirmed_writes` returns, for a server whose CONFIRM answers at once.

    The first CONFIRM makes the server flush soon.  After any answer to it, the client waits and calls CONFIRM
    again.
    """
    return _confirmed(connections, START)


def _confirmed(connections: int, flags: int) -> Workload:
    calls, workload = engine(), []
    for label in labels(connections):
        write, remove = write_object(OWNER, label, bytes(64)), remove_object(OWNER, label)
        confirm = confirm_object_flushed(OWNER, label)
        first = step_of(calls, [write], 0)
        again = step_of(calls, [remove, write, confirm], flags)._replace(units=1)
        flushed = step_of(calls, [confirm], POLL | END | LATER)
        last = step_of(calls, [remove], 0)
        workload.append(Program((*SESSION, first), (again, flushed._replace(units=1)), (last,)))
    return workload


def labels(count: int) -> list[bytes]:
    """Return the labels of the objects that `count` connections write, one for each connection."""
    return [b"bench-%03d" % n for n in range(count)]


def echoed(workload: Workload) -> Workload:
    """Return the same workload for the echo server, which has no sessions."""
    return [Program((), program.steps) for program in workload]


def answers_by_size(workload: Workload) -> dict[int, bytes]:
    """Return the answers of the echo server, by the size of the request's frame in bytes."""
    found: dict[int, bytes] = {}
    for program in workload:
        for step in program.steps:
            size = len(step.frames) // step.awaited
            expected = (step.answers or (b"",))[0]
            # The echo finds an answer by the size of the request alone: two answers for one size would be
            # ambiguous.
            if len(found.setdefault(size, expected)) != len(expected):
                raise ValueError(f"frames of {size} bytes have answers of two sizes")
    return found


def write_answers(path: Path, answers: dict[int, bytes]) -> None:
    """Write the echo server's table: size of the request, size of the answer, the answer."""
    rows = (_NUMBER.pack(size) + _NUMBER.pack(len(frame)) + frame for size, frame in answers.items())
    path.write_bytes(b"".join(rows))


def write_workload(path: Path, workload: Workload) -> None:
    """Write the load generator's program file; load.c has its layout."""
    parts = [b"SPKL", _NUMBER.pack(len(workload))]
    for program in workload:
        parts += [_NUMBER.pack(len(steps)) for steps in program]
        for step in itertools.chain(*program):
            size = sum(map(len, step.answers or ()))
            numbers = (step.flags, step.awaited, step.units, size, len(step.frames))
            parts += [*map(_NUMBER.pack, numbers), step.frames]
    path.write_bytes(b"".join(parts))
