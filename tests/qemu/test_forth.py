"""The firmware's Forth text against the engine: services, lock and hand-over, without a machine."""

from __future__ import annotations

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.frames import HReturn
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, get_config, set_password, write_object
from hcall_client.errors import HcallError
from hcall_client.guests.authvar import variable_label, variable_policy
from hcall_client.guests.labels import SB_VERSION
from hcall_client.marshal import deliver, marshal
from swpks.qemu.firmware import forth
from tests.client.engine import Engine
from tests.qemu.mini_forth import MiniForth, Program

FREE, BUFFER, LABEL = 0x40000, 0x80000, 0x90000
WORD = (1 << 64) - 1
FIRMWARE = Authorization(Consumer.FIRMWARE)
BOOT_LOADER = Authorization(Consumer.BOOT_LOADER)


class Memory:
    """The memory of a guest, as `marshal` uses it."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 20)

    def holds(self, address: int, length: int) -> bool:
        return address + length <= len(self.bytes)

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.bytes[address : address + length])

    def write(self, address: int, data: bytes) -> None:
        self.bytes[address : address + len(data)] = data


class Slof:
    """Firmware with the text in it, over an engine; `busy` answers come first."""

    def __init__(self, kbytes: int = 64) -> None:
        self.engine = Engine(kbytes=kbytes)
        self.memory = Memory()
        self.forth = MiniForth(self.memory.bytes, FREE)
        self.busy = 0
        self.calls: list[tuple[int, int]] = []
        self.page = self.interpret(forth.BASE)

    def interpret(self, text: str) -> int:
        """Run a text; return the one number that it leaves."""
        self._drive(self.forth.run(text))
        assert len(self.forth.stack) == 1
        return self.forth.stack.pop()

    def call(self, service: str, *arguments: int) -> list[int]:
        """Call a client service; return its results."""
        self.forth.stack += arguments
        self._drive(self.forth.call(service))
        results, self.forth.stack[:] = list(self.forth.stack), []
        return results

    def _drive(self, program: Program) -> None:
        try:
            opcode, *registers = next(program)
            while True:
                opcode, *registers = program.send(self._answer(opcode, registers))
        except StopIteration:
            pass

    def _answer(self, opcode: int, registers: list[int]) -> tuple[int, int, int]:
        if opcode not in CALLS:
            self.calls.append((opcode, 0))
            return 0, 0, 0
        if self.busy:
            self.busy -= 1
            # A busy answer overwrites r4 and r5 too. So the caller has to store its arguments elsewhere.
            return Status.H_BUSY, 0, 0
        found: HReturn = self.engine.do(marshal(opcode, registers, self.memory))
        deliver(found, self.memory)
        self.calls.append((opcode, found.status))
        return found.status & WORD, found.registers[0], found.registers[1]

    def put(self, label: bytes) -> tuple[int, int]:
        """Put a label into memory; return its address and length."""
        self.memory.write(LABEL, label)
        return LABEL, len(label)

    def provide(self, consumer: Consumer, label: bytes, policy: int, data: bytes) -> None:
        """Store an object as the platform does: without an h-call and its checks."""
        keystore = self.engine.partition.keystore
        assert keystore
        keystore.contents.provide(consumer, label, policy, data)

    def provide_variable(self, name: str, data: bytes) -> None:
        self.provide(Consumer.OPERATING_SYSTEM, variable_label(name), variable_policy(name), data)

    @property
    def password(self) -> bytes:
        """The bytes of the page in which the password of consumer 1 is."""
        return self.memory.read(self.page + forth.PASSWORD, forth.LONGEST_PASSWORD)


@pytest.fixture
def slof() -> Slof:
    """Firmware with a keystore, locked, with its services."""
    firmware = Slof()
    firmware.provide(Consumer.FIRMWARE, SB_VERSION, Policy.WORLDREADABLE, b"\x01")
    firmware.provide(Consumer.FIRMWARE, b"private", 0, b"of firmware")
    assert firmware.interpret(forth.GET_CONFIG) == Status.H_SUCCESS
    assert firmware.interpret(forth.LOCK) == Status.H_SUCCESS
    assert firmware.interpret(forth.SERVICES) == 0
    return firmware


def refused(slof: Slof, who: Authorization) -> int:
    """Return the status of a write by a consumer without a password."""
    with pytest.raises(HcallError) as caught:
        slof.engine.do(write_object(who, b"label", b"data"))
    return caught.value.status


def test_the_sizes_of_the_page_fit() -> None:
    """No place in the page overlaps the next one, and the machine code fits into what is flushed."""
    assert len(forth.MACHINE_CODE) * 4 <= forth.CODE_ROOM
    assert max(len(variable_label(name)) for name in forth.VARIABLES.values()) <= forth.LABEL_ROOM
    assert forth.REGISTERS + 8 * 10 <= forth.RESULTS <= forth.CODE - 8 * 3
    assert len(" ".join(forth.BASE.split())) < 0x1000


def test_firmware_locks_its_objects(slof: Slof) -> None:
    """R-77: the password of consumer 1 is generated by an h-call of firmware, and needed from then on."""
    assert [opcode for opcode, _ in slof.calls] == [Opcode.GET_CONFIG, Opcode.GEN_PASSWORD]
    assert refused(slof, FIRMWARE) == Status.H_AUTHORITY
    assert any(slof.password)


def test_the_largest_object(slof: Slof) -> None:
    """`pks-max-object-size` is the field of the config block."""
    assert slof.call("pks-max-object-size") == [slof.engine.do(get_config()).max_object_size]


def test_firmware_reads_with_its_password(slof: Slof) -> None:
    """`pks-read-object` returns length, policy and status; objects of firmware are read with its password."""
    for label, data in ((SB_VERSION, b"\x01"), (b"private", b"of firmware")):
        length, policy, status = slof.call("pks-read-object", 1, *slof.put(label), BUFFER, 100)
        assert (length, status) == (len(data), Status.H_SUCCESS)
        assert bool(policy & Policy.WORLDREADABLE) == (label == SB_VERSION)
        assert slof.memory.read(BUFFER, len(data)) == data


def test_an_absent_object(slof: Slof) -> None:
    """If an object is absent or too large, the boot loader gets the status of the h-call unchanged."""
    assert slof.call("pks-read-object", 1, *slof.put(b"absent"), BUFFER, 100) == [0, 0, Status.H_NOT_FOUND]
    assert slof.call("pks-read-object", 1, *slof.put(b"private"), BUFFER, 3) == [0, 0, Status.H_TOO_BIG]


@pytest.mark.parametrize("number,name", list(forth.VARIABLES.items()))
def test_a_variable_comes_without_its_header(slof: Slof, number: int, name: str) -> None:
    """`pks-read-sbvar` returns bare signature lists: no version and no time before them."""
    lists = f"signature lists of {name}".encode()
    slof.provide_variable(name, bytes(forth.STORED_HEADER) + lists)
    assert slof.call("pks-read-sbvar", 0, number, BUFFER, 0xFFFF) == [len(lists), 0]
    assert slof.memory.read(BUFFER, len(lists) + 1) == lists + b"\0"


def test_a_small_buffer_is_not_overrun(slof: Slof) -> None:
    """A variable that does not fit answers H_TOO_BIG, and changes nothing behind the loader's buffer."""
    slof.provide_variable("db", bytes(forth.STORED_HEADER) + b"signature lists")
    assert slof.call("pks-read-sbvar", 0, 1, BUFFER, 14) == [0, Status.H_TOO_BIG]
    assert not any(slof.memory.read(BUFFER, 32))


@pytest.mark.parametrize("flags,number", [(1, 1), (0, 0), (0, 3), (0xFFFFFFFF, 2)])
def test_wrong_arguments_of_a_variable(slof: Slof, flags: int, number: int) -> None:
    """Flags other than 0, and unknown variables, are refused without an h-call."""
    made = len(slof.calls)
    assert slof.call("pks-read-sbvar", flags, number, BUFFER, 100) == [0, Status.H_PARAMETER]
    assert len(slof.calls) == made


def test_an_absent_variable(slof: Slof) -> None:
    assert slof.call("pks-read-sbvar", 0, 2, BUFFER, 100) == [0, Status.H_NOT_FOUND]


def test_a_busy_keystore_is_asked_again(slof: Slof) -> None:
    """Firmware repeats a call that is answered H_BUSY, with the same arguments."""
    slof.busy = 3
    assert slof.call("pks-read-object", 1, *slof.put(SB_VERSION), BUFFER, 100)[-1] == Status.H_SUCCESS
    assert slof.busy == 0


def test_the_hand_over_blanks_the_password(slof: Slof) -> None:
    """R-77: `quiesce` erases the page's password before the kernel gets the memory; consumer 2 stays open."""
    slof.call("pks-read-object", 1, *slof.put(SB_VERSION), BUFFER, 100)
    assert slof.call("quiesce") == []
    assert slof.calls[-1] == (forth.HAND_OVER, 0)
    assert not any(slof.memory.read(slof.page, forth.LABELS))
    slof.engine.do(write_object(BOOT_LOADER, b"label", b"data"))


def test_the_boot_loader_can_be_locked(slof: Slof) -> None:
    """R-77: with LOCK_LOADER the hand-over also generates a password of consumer 2, which is kept nowhere."""
    assert slof.interpret(forth.LOCK_LOADER) == 0
    slof.engine.do(write_object(BOOT_LOADER, b"label", b"data"))
    slof.call("quiesce")
    assert refused(slof, BOOT_LOADER) == Status.H_AUTHORITY
    assert not any(slof.memory.read(slof.page, forth.LABELS))
    slof.engine.do(set_password(Consumer.OPERATING_SYSTEM, bytes(32)))


def test_a_partition_without_a_keystore() -> None:
    """Without a keystore, GET_CONFIG returns the engine's status. Firmware then installs no services."""
    assert Slof(kbytes=0).interpret(forth.GET_CONFIG) == Status.H_FUNCTION
