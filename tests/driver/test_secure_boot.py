"""R-70: Linux's secure-boot variables, written by the driver's signed updates with real signatures."""

import errno
from dataclasses import dataclass

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.efi import StoredVariable, build_stored
from hcall_abi.statuses import Status
from hcall_abi.variables import FLAG_APPEND, POLICIES, wide
from hcall_client.guests import authvar
from tests.driver.driver import FIRMWARE, LINUX, Driver, Object
from tests.driver.hypervisor import Machine
from tests.driver.test_checklist import last
from tests.guest import console_sets
from tests.secvar.keys import BEFORE, NOW, Holder, contents_of, kek, pk, stranger, update

LATCH = "keystore_signed_updates_without_verification"
DYNAMIC = "linux_dynamic_key_secure_boot"
ARMED = {"keystore_signed_updates": 1, LATCH: 1, DYNAMIC: 1}
LATER = NOW._replace(minute=59)
DENIED, INVALID, MISSING = -errno.EPERM, -errno.EINVAL, -errno.ENOENT
ROOM = 0xFFFF


@dataclass
class Secvar:
    """Update and read a variable as Linux's secvar files do it, with one driver."""

    driver: Driver

    def update(self, name: str, payload: bytes, flags: int = 0, policy: int | None = None) -> int:
        word = authvar.variable_policy(name) if policy is None else policy
        return self.driver.signed_update(wide(name), payload, flags, policy=word)

    def read(self, name: str) -> Object:
        return self.driver.read(wide(name), ROOM, component=None, os=LINUX)

    def enrol(self) -> None:
        """Write the first PK, which needs no signature, and KEK."""
        assert self.update("PK", authvar.payload(BEFORE, b"no PKCS#7", pk().lists)) == 0
        assert self.update("KEK", update("KEK", kek().lists)) == 0


@pytest.fixture
def secvar(newer, boot, machine: Machine) -> Secvar:
    """A `Secvar` with a partition that accepts a first PK."""
    console_sets(machine.partition, ARMED)
    machine.ipl()
    return Secvar(boot(newer))


def stored(holder: Holder) -> bytes:
    return build_stored(StoredVariable(NOW, holder.lists))


def test_the_driver_finds_dynamic_keys(secvar, boot, newer, machine):
    """R-36: the boot finds SB_VERSION only if dynamic keys are on at the console."""
    assert secvar.driver.read(b"SB_VERSION", 1, owner=FIRMWARE).data == b"\1"
    console_sets(machine.partition, ARMED | {LATCH: 0, DYNAMIC: 0})
    machine.ipl()
    assert boot(newer).read(b"SB_VERSION", 1, owner=FIRMWARE).error == MISSING


def test_every_variable_is_enrolled_and_read(secvar, boot, newer, machine):
    """All nine variables are stored with the policies that Linux uses, and can be read, also after an IPL."""
    secvar.enrol()
    for name in list(POLICIES)[2:]:
        assert secvar.update(name, update(name, contents_of(name), kek())) == 0
    machine.ipl()
    after = Secvar(boot(newer))
    for name in list(POLICIES)[1:]:
        found = after.read(name)
        assert (found.error, found.policy) == (0, POLICIES[name])
        assert found.data == build_stored(StoredVariable(NOW, contents_of(name)))


def test_variables_obey_signed_updates_alone(secvar):
    """R-15: WRITE can neither replace a variable nor create one with its policy."""
    secvar.enrol()
    driver = secvar.driver
    assert driver.write(wide("KEK"), b"x", component=b"", os=LINUX) == -errno.EEXIST
    assert driver.write(wide("db"), b"x", component=b"", os=LINUX, policy=0x09000000) == INVALID


def test_what_is_refused_changes_nothing(secvar):
    """If an update is refused, the variable is unchanged.

    Reasons are a wrong signer, an old time, damage, another policy or unknown flags.
    """
    secvar.enrol()
    assert secvar.update("db", update("db", stranger().lists, kek())) == 0
    good = update("db", kek().lists, kek(), time=LATER)
    for payload, flags, policy, expected in (
        (update("db", kek().lists, stranger(), time=LATER), 0, None, DENIED),
        (update("db", kek().lists, kek()), 0, None, DENIED),
        (update("dbx", kek().lists, kek(), time=LATER), 0, None, DENIED),
        (good[:-1] + b"\0", 0, None, DENIED),
        (good[:39], 0, None, INVALID),
        (good, 2, None, INVALID),
        (good, 0, 0x01000000, INVALID),
        (update("KEK", kek().lists, kek(), time=LATER), 0, None, DENIED),
    ):
        assert secvar.update("db", payload, flags, policy) == expected
        assert secvar.read("db").data == stored(stranger())
    assert secvar.update("PK", good, FLAG_APPEND) == INVALID
    assert secvar.update("db", good) == 0


def test_appending(secvar):
    """With flags 1 in the first eight bytes of an auth file, the lists are appended.

    The variable keeps the later one of both times.
    """
    secvar.enrol()
    assert secvar.update("dbx", update("dbx", stranger().lists, kek())) == 0
    more = update("dbx", kek().lists, kek(), time=BEFORE, append=True)
    assert secvar.update("dbx", more, FLAG_APPEND) == 0
    found = secvar.read("dbx").data
    assert found == build_stored(StoredVariable(NOW, stranger().lists + kek().lists))
    assert secvar.update("dbx", more, FLAG_APPEND) == 0
    assert secvar.read("dbx").data == found


@pytest.mark.parametrize("flush_after", [0, 50_000])
def test_deleting_ends_with_not_found_and_flushed(secvar, machine, flush_after):
    """R-12, R-23: an empty update signed by PK deletes a variable. The poll takes H_NOT_FOUND as success."""
    secvar.enrol()
    machine.clock, machine.flush_after = 0, flush_after
    assert secvar.update("KEK", update("KEK", b"", pk(), time=LATER)) == 0
    ended = last(secvar.driver, Opcode.CONFIRM_OBJECT_FLUSHED)
    assert (ended.status, ended.registers[0]) == (Status.H_NOT_FOUND, 1)
    assert secvar.read("KEK").error == MISSING


def test_9_busy_for_less_than_five_seconds(secvar, machine):
    """Line 9: a busy answer has a token. The driver repeats the call with it, and the update is done once."""
    secvar.enrol()
    machine.set_faults("SIGNED_UPDATE=H_LONG_BUSY_ORDER_1_SEC,times=4")
    payload = update("db", stranger().lists, kek())
    assert secvar.update("db", payload) == 0
    assert secvar.driver.slept == 4_000_000
    updates = [call for call in secvar.driver.calls if call.opcode == Opcode.SIGNED_UPDATE][-5:]
    tokens = [call.registers[0] for call in updates]
    assert all(tokens[:-1])
    assert [call.arguments[-1] for call in updates] == [0, *tokens[:-1]]
    assert secvar.read("db").data == stored(stranger())


def test_9_busy_for_too_long(secvar, machine):
    """Line 9: after 5 s of sleep Linux returns -EBUSY. Nothing has changed, and a later attempt succeeds."""
    secvar.enrol()
    machine.set_faults("SIGNED_UPDATE=H_LONG_BUSY_ORDER_100_MSEC,seconds=6")
    payload = update("db", stranger().lists, kek())
    assert secvar.update("db", payload) == -errno.EBUSY
    assert secvar.read("db").error == MISSING
    assert secvar.update("db", payload) == 0
    assert secvar.driver.slept == 6_000_000


def test_without_signed_updates(newer, boot):
    """R-36: without the console's permission, a signed update returns H_FUNCTION.

    No algorithms are listed.
    """
    driver = boot(newer)
    assert Secvar(driver).update("PK", update("PK", pk().lists)) == -errno.ENXIO
    assert driver.config("signedupdatealgorithms") == 0
