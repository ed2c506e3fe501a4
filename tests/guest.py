"""The guest's part of an h-call, without `hcall_client`: guest memory, registers, and the parsed answer.

So a mistake in `hcall_client` cannot hide one in the server.  The memory of every argument begins at a
page. The test finds it by the argument's register.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from hcall_abi.arguments import Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.console import AT_FIRST
from hcall_abi.frames import HCall, HReturn, Segment
from hcall_abi.levels import LEVELS
from hcall_server.hcalls.answers import Calls
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.hcalls.refusals import Refusal
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.keystore.store import Entropy
from hcall_server.platform.attributes import wished
from hcall_server.platform.partition import Partition
from hcall_server.platform.profile import PartitionProfile

FIRMWARE, BOOT_LOADER, SYSTEM = 1, 2, 3
CONSUMERS = (FIRMWARE, BOOT_LOADER, SYSTEM)
OVERHEAD = 32
WRAPPING = 0x0080_0000
TAG = 0xC0FFEE
IN, OUT, BOTH = 1, 2, 3


class Chance:
    """Entropy that is the same in every run."""

    def __init__(self, seed: bytes = b"") -> None:
        self._seed, self._count = seed, 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(self._seed + self._count.to_bytes(8, "big")).digest(length)


ALL_CALLS = {"keystore_signed_updates": 1, "keystore_signed_updates_without_verification": 1}


def make_partition(
    level: str = "FW1110",
    kbytes: int = 64,
    *,
    objects: Iterable[StoredObject] | None = None,
    mode: int = 0,
    running: bool = True,
    strict: bool = True,
    strict_updates: bool = False,
    number: int = 1,
    attributes: Mapping[str, int] = ALL_CALLS,
    entropy: Entropy | None = None,
) -> Partition:
    """Return a partition in its first IPL, in secure-boot `mode`, with these `objects` in its NVRAM.

    With the default `attributes` it has every call of its level, and accepts a PK without a signature.
    """
    numbers = {"keystore_kbytes": kbytes, "secure_boot": mode, **attributes}
    profile = PartitionProfile(
        number=number,
        name=f"lpar{number}",
        uuid=UUID(int=number, version=4),
        access_key=bytes(32),
        attributes=AT_FIRST.with_numbers(numbers),
        auto_start=False,
    )
    chance = entropy or Chance(bytes([number]))
    partition = Partition(profile, LEVELS[level], chance, strict_memory=strict, strict_updates=strict_updates)
    if running:
        partition.power_on()
    # The store is filled after the IPL, because an IPL removes TRANSIENT objects.
    if objects is not None:
        partition.keystore = partition._new_keystore(StoreImage.of(1, objects))
    return partition


def console_sets(partition: Partition, changes: Mapping[str, int]) -> None:
    """Set attributes as the console does, without the console's rules."""
    partition.change(wished(partition.attributes, changes))


def auth_block(consumer: int, password: bytes = b"", *, version: int = 1, length: int | None = None) -> bytes:
    """Return an authorization block. `length` replaces the real length of the password."""
    return struct.pack(">BB12xH", version, consumer, len(password) if length is None else length) + password


class Place(NamedTuple):
    """Where an argument is: the address of its memory, the name of its length argument, its kind."""

    address: int
    length: str | None
    kind: Kind


PLACES = {
    opcode: {arg.name: Place(arg.register << 20, arg.length, arg.kind) for arg in spec.args}
    for opcode, spec in CALLS.items()
}


class Layout:
    """The registers and memory segments of an h-call, by the names of its arguments."""

    def __init__(self, opcode: Opcode) -> None:
        self.opcode = opcode
        self.places = PLACES[opcode]
        self.registers = dict.fromkeys(self.places, 0)
        self.memory: dict[str, Segment] = {}

    def readable(self, name: str, data: bytes, address: int | None = None) -> None:
        """Put `data` into guest memory, and its address into the register of this argument."""
        at = self.places[name].address if address is None else address
        self._place(name, Segment(at, len(data), IN, data))

    def writable(self, name: str, length: int, address: int | None = None) -> None:
        """Put an output buffer into guest memory, and its address into the register of this argument."""
        at = self.places[name].address if address is None else address
        self._place(name, Segment(at, length, OUT, b""))

    def frame(self) -> HCall:
        """Return the frame of the call, as the data channel passes it to the machine."""
        registers = (*self.registers.values(), 0, 0, 0, 0, 0, 0, 0, 0)[:9]
        segments = tuple([segment for segment in self.memory.values() if segment.length])
        return HCall(TAG, int(self.opcode), registers, segments)

    def _place(self, name: str, segment: Segment) -> None:
        self.memory[name] = segment
        self.registers[name] = segment.address
        length = self.places[name].length
        if length is not None:
            self.registers[length] = segment.length


def lay_out(opcode: Opcode, **values: int | bytes) -> Layout:
    """Return the layout of a call. Bytes are an input buffer; a number is a length or a register's value."""
    layout = Layout(opcode)
    for name, value in values.items():
        if isinstance(value, bytes):
            layout.readable(name, value)
        elif layout.places[name].kind.writable:
            layout.writable(name, value)
        else:
            layout.registers[name] = value
    return layout


class Answer(NamedTuple):
    """The answer to a call: r3, r4, r5 and the bytes that it wrote into the output buffer."""

    status: int
    r4: int = 0
    r5: int = 0
    written: bytes = b""


class Config(NamedTuple):
    """The fields of a config block."""

    version: int
    flags: int
    overhead: int
    password: int
    label: int
    object: int
    total: int
    used: int
    policies: int
    large: int = 0
    algorithms: int = 0
    wrapping: int = 0


def parse_config(block: bytes) -> Config:
    """Parse a config block of 24 to 520 bytes; a field beyond its end is 0."""
    version, flags, *rest = struct.unpack(">BBxxHHHHIIIIQQ476x", block.ljust(520, b"\0"))
    return Config(version, flags, *rest)


def parse_labels(listed: bytes) -> list[bytes]:
    """Parse a label list."""
    labels = []
    while listed:
        end = 2 + int.from_bytes(listed[:2], "big")
        labels.append(listed[2:end])
        assert len(listed) >= end
        listed = listed[end:]
    return labels


class Guest:
    """A guest that makes h-calls to a partition. `refusals` has the refusals that the log would report."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.refusals: list[Refusal] = []
        self._calls: Calls = HypervisorCalls(partition, lambda refusal, opcode: self.refusals.append(refusal))

    def send(self, call: HCall) -> Answer:
        """Execute the frame of a call; return the answer."""
        answer: HReturn = self._calls.execute(call)
        assert answer.tag == call.tag
        assert len(answer.registers) == 9
        assert not any(answer.registers[2:])
        assert len(answer.writes) <= 1
        written = b"".join(data for _, data in answer.writes)
        return Answer(answer.status, answer.registers[0], answer.registers[1], written)

    def do(self, opcode: Opcode, **values: int | bytes) -> Answer:
        """Make a call with these arguments."""
        return self.send(lay_out(opcode, **values).frame())

    def config(self, length: int = 520) -> Config:
        """Call GET_CONFIG; the test fails if the call is refused."""
        status, _, _, block = self.do(Opcode.GET_CONFIG, config=length)
        assert (status, len(block)) == (0, min(length, 520))
        return parse_config(block)

    def set_password(self, consumer: int, password: bytes) -> Answer:
        """Call SET_PASSWORD."""
        return self.do(Opcode.SET_PASSWORD, consumer=consumer, password=password)

    def gen_password(self, consumer: int, length: int = 32) -> Answer:
        """Call GEN_PASSWORD; the password is in `written`."""
        return self.do(Opcode.GEN_PASSWORD, consumer=consumer, password=length)

    def write(
        self, consumer: int, label: bytes, data: bytes, *, policy: int = 0, password: bytes = b""
    ) -> Answer:
        """Call WRITE_OBJECT."""
        auth = auth_block(consumer, password)
        return self.do(Opcode.WRITE_OBJECT, authorization=auth, label=label, policy=policy, data=data)

    def read(self, consumer: int, label: bytes, *, room: int = 0xFFFF, password: bytes = b"") -> Answer:
        """Call READ_OBJECT."""
        return self.do(
            Opcode.READ_OBJECT, authorization=auth_block(consumer, password), label=label, data=room
        )

    def remove(self, consumer: int, label: bytes, *, password: bytes = b"") -> Answer:
        """Call REMOVE_OBJECT."""
        return self.do(Opcode.REMOVE_OBJECT, authorization=auth_block(consumer, password), label=label)

    def confirm(self, consumer: int, label: bytes, *, password: bytes = b"") -> Answer:
        """Call CONFIRM_OBJECT_FLUSHED."""
        auth = auth_block(consumer, password)
        return self.do(Opcode.CONFIRM_OBJECT_FLUSHED, authorization=auth, label=label)

    def labels(self, consumer: int, *, token: int = 0, room: int = 4096, password: bytes = b"") -> Answer:
        """Call GET_OBJECTLABELS once."""
        auth = auth_block(consumer, password)
        return self.do(Opcode.GET_OBJECTLABELS, authorization=auth, token=token, labels=room)

    def all_labels(self, consumer: int, *, room: int = 4096, password: bytes = b"") -> list[bytes]:
        """Return all labels, by as many calls of GET_OBJECTLABELS as needed."""
        found: list[bytes] = []
        status, token = 18, 0
        while status == 18:
            status, count, token, listed = self.labels(consumer, token=token, room=room, password=password)
            part = parse_labels(listed)
            assert status in {0, 18}
            assert count == len(part)
            assert bool(token) == (status == 18)
            found += part
        return found

    def gen_key(
        self, consumer: int, label: bytes, *, policy: int = WRAPPING, length: int = 32, password: bytes = b""
    ) -> Answer:
        """Call GEN_KEY. The key is in `written`, except for a wrapping key."""
        values = {"authorization": auth_block(consumer, password), "label": label, "policy": policy}
        layout = lay_out(Opcode.GEN_KEY, **values)  # type: ignore[arg-type]
        if policy & WRAPPING:
            layout.registers["key_length"] = length
        else:
            layout.writable("key", length)
        return self.send(layout.frame())

    def wrap(
        self,
        consumer: int,
        label: bytes,
        data: bytes,
        *,
        flags: int = 0x1000_0000_0000_0001,
        token: int = 0,
        password: bytes = b"",
    ) -> Answer:
        """Call WRAP_OBJECT with an output buffer of the exact size."""
        return self.do(
            Opcode.WRAP_OBJECT,
            authorization=auth_block(consumer, password),
            label=label,
            flags=flags,
            input=data,
            output=len(data) + 1024,
            token=token,
        )

    def unwrap(self, consumer: int, wrapped: bytes, *, token: int = 0, password: bytes = b"") -> Answer:
        """Call UNWRAP_OBJECT with an output buffer of the exact size."""
        auth, room = auth_block(consumer, password), max(0, len(wrapped) - 1024)
        return self.do(Opcode.UNWRAP_OBJECT, authorization=auth, input=wrapped, output=room, token=token)

    def revoke(self, consumer: int, label: bytes, *, flags: int = 0, password: bytes = b"") -> Answer:
        """Call REVOKE_OBJECT."""
        auth = auth_block(consumer, password)
        return self.do(Opcode.REVOKE_OBJECT, authorization=auth, label=label, flags=flags)

    def unrevoke(self, consumer: int, label: bytes, *, flags: int = 0, password: bytes = b"") -> Answer:
        """Call UNREVOKE_OBJECT."""
        auth = auth_block(consumer, password)
        return self.do(Opcode.UNREVOKE_OBJECT, authorization=auth, label=label, flags=flags)

    def flush(self) -> None:
        """Make all changes durable, as write-behind does."""
        store = self.partition.keystore
        assert store is not None
        store.contents.mark_flushed(store.contents.generation)

    def ipl(self, mode: int = 0) -> None:
        """Restart the partition."""
        console_sets(self.partition, {"secure_boot": mode})
        (self.partition.ipl if self.partition.running else self.partition.power_on)()
