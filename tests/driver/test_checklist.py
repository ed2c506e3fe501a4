"""R-73: Linux's list of needs from a keystore, item by item, shown with every version of the driver.

The numbers are those of the project's list; spec/linux.md has the same facts. In released kernels nothing
calls item 12 (list labels) and item 13 (revocation). Item 15 (`hcall-pks`) needs a whole machine.
"""

import errno
from collections.abc import Iterable

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.levels import KEYSTORE_LEVELS
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, set_password, write_object
from tests.driver import fdt
from tests.driver.driver import FIRMWARE, LINUX, Answered, Driver
from tests.driver.hypervisor import Machine, Scripted
from tests.driver.model import AUDIT, ENFORCE, WORLD

AUTHORITY = -errno.EPERM


def last(driver: Driver, opcode: int) -> Answered:
    """Return the newest call of the driver with this opcode."""
    return next(call for call in reversed(driver.calls) if call.opcode == opcode)


def statuses(calls: Iterable[Answered], opcode: int) -> list[int]:
    return [call.status for call in calls if call.opcode == opcode]


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
@pytest.mark.parametrize("kbytes", [4, 64])
def test_1_the_config_block_passes_the_sanity_tests(build, load, level, kbytes):
    """Line 1: GET_CONFIG accepts the lengths 512 and 520.

    The figures of every level pass the driver's four tests.
    """
    driver = load(build, Scripted(Machine(level, kbytes)))
    assert driver.init() == 0
    asked = last(driver, Opcode.GET_CONFIG)
    assert asked.arguments[1] == (520 if build.kernel >= (7, 0) else 512)
    assert asked.written == asked.arguments[1]
    assert driver.config("maxpwsize") >= 32
    assert 255 <= driver.config("maxobjectlabelsize") <= 0x7FFF
    assert driver.config("totalsize") == kbytes * 1024
    if driver.config("version") >= 3 and driver.config("maxlargeobjectsize") >= 65536:
        assert driver.config("maxobjectsize") == 0xFFFF
    assert not [line for severity, line in driver.log if severity == 3]


def test_2_the_password_fills_its_buffer(build, boot, load):
    """Line 2: GEN_PASSWORD writes exactly r7 bytes. A second one in the same IPL returns H_IN_USE."""
    driver = load(build)
    assert driver.init() == 0
    made = last(driver, Opcode.GEN_PASSWORD)
    assert made.arguments[:2] == (3, 0)
    assert made.arguments[3] == made.written == driver.config("maxpwsize")
    second = load(build)
    assert second.init() == 0
    refused = last(second, Opcode.GEN_PASSWORD)
    assert (refused.status, refused.written) == (Status.H_IN_USE, 0)


def test_3_the_password_lives_as_long_as_the_ipl(newer, boot, load, machine):
    """Line 3: the password stays valid after kexec, and is invalid after an IPL."""
    tree, old = fdt.make(), boot(newer)
    assert old.write(b"name", b"data") == 0
    assert old.populate(tree) == 0
    new = load(newer)
    new.early_init(tree)
    assert new.init() == 0
    assert new.read(b"name", 4).data == b"data"
    machine.ipl()
    assert new.read(b"name", 4).error == AUTHORITY
    assert boot(newer).read(b"name", 4).data == b"data"


@pytest.mark.parametrize("consumer", [1, 2])
def test_4_other_consumers_objects_need_no_password(build, boot, machine, consumer):
    """Line 4: without a password the driver reads world-readable objects of consumers 1 and 2."""
    machine.do(write_object(Authorization(consumer), b"SB_VERSION", b"\1", WORLD))
    machine.do(write_object(Authorization(consumer), b"hidden", b"\1"))
    machine.do(set_password(consumer, b"of that consumer"))
    driver = boot(build)
    assert driver.read(b"SB_VERSION", 1, owner=consumer).data == b"\1"
    assert last(driver, Opcode.READ_OBJECT).arguments[2] == len("SB_VERSION")
    assert driver.read(b"hidden", 1, owner=consumer).error == AUTHORITY


def test_5_nothing_is_overwritten(build, boot):
    """Line 5: if the label exists, WRITE returns H_RESOURCE and the object is unchanged."""
    driver = boot(build)
    assert driver.write(b"name", b"first") == 0
    assert driver.write(b"name", b"other") == -errno.EEXIST
    assert last(driver, Opcode.WRITE_OBJECT).status == Status.H_RESOURCE
    assert driver.read(b"name", 5).data == b"first"


def test_6_a_read_tells_size_and_policy(build, boot, load):
    """Line 6: READ returns size and policy in r4 and r5. If the policy denied it, r5 has the policy."""
    machine = Machine(secure_boot=1)
    driver = boot(build, Scripted(machine))
    assert driver.write(b"name", b"x" * 4000, policy=AUDIT) == 0
    assert driver.read(b"name", 4000).size == 4000
    found = last(driver, Opcode.READ_OBJECT)
    assert found.registers[:2] == (4000, AUDIT)
    assert found.registers[0] <= found.arguments[4]
    machine.system.set_attributes("lpar1", {"secure_boot": machine.partition.secure_boot.OFF})
    machine.ipl()
    driver = boot(build, Scripted(machine))
    assert driver.read(b"name", 4000).error == AUTHORITY
    assert last(driver, Opcode.READ_OBJECT).registers[:2] == (0, AUDIT)
    locked = load(build, Scripted(machine))
    assert locked.init() == 0
    assert locked.read(b"name", 4000).error == AUTHORITY
    assert last(locked, Opcode.READ_OBJECT).registers[:2] == (0, 0)


def test_7_what_is_missing_is_not_found(build, boot):
    """Line 7: READ of a missing object returns H_NOT_FOUND, also during the boot."""
    driver = boot(build)
    assert driver.read(b"SB_VERSION", 1, owner=FIRMWARE).error == -errno.ENOENT
    assert driver.read(b"name", 1).error == -errno.ENOENT
    assert driver.remove(b"name") == -errno.ENOENT
    assert driver.read(b"name", 1, os=LINUX).error == -errno.ENOENT


@pytest.mark.parametrize("flush_after", [0, 10_000, 4_000_000])
def test_8_a_confirmation_is_truthful_and_never_busy(build, boot, machine, flush_after):
    """Line 8: CONFIRM returns r4 = 0 while a change is pending, then 1.

    After a removal it returns H_NOT_FOUND with 1.
    """
    machine.flush_after = flush_after
    driver = boot(build)
    for act, end in ((lambda: driver.write(b"name", b"x"), 0), (lambda: driver.remove(b"name"), -7)):
        machine.clock = 0
        driver.calls.clear()
        assert act() == 0
        asked = [call for call in driver.calls if call.opcode == Opcode.CONFIRM_OBJECT_FLUSHED]
        answers = [(call.status, call.registers[0]) for call in asked]
        assert answers == [(0, 0)] * (flush_after // 10_000) + [(end, 1)]


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("policy, wanted", [(AUDIT, 1), (ENFORCE, 2), (AUDIT | ENFORCE, 2)])
def test_policies_of_secure_boot_as_the_driver_meets_them(build, boot, mode, policy, wanted):
    """R-17: if a policy requires another secure-boot mode, the object can neither be written nor read."""
    driver = boot(build, Scripted(Machine(secure_boot=mode)))
    expected = 0 if mode >= wanted else AUTHORITY
    assert driver.write(b"name", b"x", policy=policy) == expected
    assert driver.read(b"name", 1).error == (expected and -errno.ENOENT)


def test_14_used_space_moves(build, boot, load):
    """Line 14: used space grows and shrinks with the objects. An object that does not fit gives -ENOMEM."""
    driver = load(build, Scripted(Machine(kbytes=4)))
    assert driver.init() == 0
    empty = driver.config("usedspace")
    assert driver.write(b"a", b"x" * 2500) == 0
    one = driver.config("usedspace")
    assert one > empty + 2500
    assert driver.write(b"b", b"x" * 2500) == -errno.ENOMEM
    assert driver.config("usedspace") == one
    assert driver.remove(b"a") == 0
    assert driver.config("usedspace") == empty
    assert driver.write(b"b", b"x" * 2500) == 0
