"""R-71: Linux's trusted keys: the newest driver makes the wrapping key, wraps and unwraps."""

import errno

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import SecureBoot
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, revoke_object, unrevoke_object
from hcall_client.guests.labels import os_label
from tests.driver import fdt
from tests.driver.driver import LINUX, Driver
from tests.driver.hypervisor import Machine, Scripted
from tests.driver.model import BLOB_HEADER, KEY_NAME, WRAPPING
from tests.driver.test_checklist import last, statuses

SECRET = bytes(range(32))
WRAPPER = b"PLPKSWR"
LARGEST = 0xFFFF


def remove_key(driver: Driver) -> int:
    return driver.remove(KEY_NAME, component=WRAPPER, os=LINUX)


def test_10_busy_wrapping_goes_on_with_its_token(newest, boot, machine):
    """Line 10: with a fault plan, a busy answer has a token in r4. The driver repeats the call at once."""
    driver = boot(newest)
    assert driver.gen_wrapping_key() == 0
    machine.set_faults("WRAP_OBJECT=H_LONG_BUSY_ORDER_1_SEC,times=3", "UNWRAP_OBJECT=H_BUSY,times=2")
    error, blob = driver.wrap(SECRET)
    assert error == 0
    assert driver.unwrap(blob) == (0, SECRET)
    for opcode, busy in ((Opcode.WRAP_OBJECT, [9903] * 3), (Opcode.UNWRAP_OBJECT, [1] * 2)):
        calls = [call for call in driver.calls if call.opcode == opcode]
        assert [call.status for call in calls] == [*busy, 0]
        tokens = [call.registers[0] for call in calls]
        assert all(tokens[:-1])
        assert [call.arguments[-1] for call in calls] == [0, *tokens[:-1]]


@pytest.mark.parametrize("size", [1, 32, 128, 4095, 4096, LARGEST])
def test_10_a_blob_is_exactly_1024_bytes_longer(newest, boot, size):
    """Line 10: WRAP returns the input's length + 1024 in r5.

    UNWRAP accepts a buffer of the blob's length - 1024.
    """
    driver = boot(newest)
    assert driver.gen_wrapping_key() == 0
    data = bytes(n % 251 for n in range(size))
    error, blob = driver.wrap(data)
    assert (error, len(blob)) == (0, size + BLOB_HEADER)
    assert last(driver, Opcode.WRAP_OBJECT).registers[:2] == (0, size + BLOB_HEADER)
    assert data[:64] not in blob or size < 8
    assert driver.unwrap(blob) == (0, data)
    unwrapped = last(driver, Opcode.UNWRAP_OBJECT)
    assert unwrapped.arguments[5] == unwrapped.written == size
    assert driver.wrap(data)[1] != blob


def test_11_the_wrapping_key(newest, boot):
    """Line 11: the driver makes the key with r8 = 0 and r9 = 32, and finds it on a second start.

    The key is never written to guest memory.
    """
    driver = boot(newest)
    for status in (Status.H_SUCCESS, Status.H_RESOURCE):
        assert driver.gen_wrapping_key() == 0
        made = last(driver, Opcode.GEN_KEY)
        assert (made.status, made.arguments[3:], made.written) == (status, (WRAPPING, 0, 32), 0)
    assert statuses(driver.calls, Opcode.CONFIRM_OBJECT_FLUSHED) == [0]
    assert driver.read(KEY_NAME, 32, component=WRAPPER, os=LINUX).error == -errno.EPERM
    assert last(driver, Opcode.READ_OBJECT).registers[:2] == (0, WRAPPING)


def test_13_revocation_is_seen_at_once(newest, boot):
    """Line 13: a revoked key can't be used, and r5 of READ has the reason.

    No released kernel revokes a key, so the test itself does.
    """
    machine = Machine("NEXT")
    driver = boot(newest, Scripted(machine))
    assert driver.gen_wrapping_key() == 0
    _, blob = driver.wrap(SECRET)
    tree = fdt.make()
    assert driver.populate(tree) == 0
    owner = Authorization(3, fdt.password(tree) or b"")
    label = os_label(WRAPPER, KEY_NAME)
    machine.do(revoke_object(owner, label))
    assert driver.wrap(SECRET) == driver.unwrap(blob) == (-errno.EPERM, b"")
    assert driver.read(KEY_NAME, 32, component=WRAPPER, os=LINUX).error == -errno.EPERM
    assert last(driver, Opcode.READ_OBJECT).registers[1] == WRAPPING | Policy.REVOKED
    machine.do(unrevoke_object(owner, label))
    assert driver.unwrap(blob) == (0, SECRET)


@pytest.mark.parametrize("flags, wanted", [(0, 0), (1, 1), (2, 2)])
def test_the_policy_of_a_blob_counts_when_it_is_unwrapped(newest, boot, machine, flags, wanted):
    """R-17: a blob can be wrapped in any secure-boot mode, but unwrapped only in the mode in its flags."""
    driver = boot(newest)
    assert driver.gen_wrapping_key() == 0
    error, blob = driver.wrap(SECRET, flags)
    assert error == 0
    for mode in SecureBoot:
        machine.system.set_attributes("lpar1", {"secure_boot": mode})
        machine.ipl()
        opened = boot(newest).unwrap(blob)
        assert opened == ((0, SECRET) if mode >= wanted else (-errno.EPERM, b""))


def test_a_new_key_of_the_same_name_opens_nothing(newest, boot):
    """R-71: if a key is removed, its blobs are lost. A new key with the same label does not open them."""
    driver = boot(newest)
    assert driver.wrap(SECRET) == (-errno.ENOENT, b"")
    assert driver.gen_wrapping_key() == 0
    _, blob = driver.wrap(SECRET)
    assert remove_key(driver) == 0
    assert driver.unwrap(blob) == driver.wrap(SECRET) == (-errno.ENOENT, b"")
    assert driver.gen_wrapping_key() == 0
    assert driver.unwrap(blob) == (-errno.ENOENT, b"")
    assert last(driver, Opcode.UNWRAP_OBJECT).status == Status.H_NOT_FOUND


def test_an_object_that_took_the_label_is_no_key(newest, boot):
    """A quirk: if GEN_KEY returns H_RESOURCE, the driver reports success, even if the object is no key."""
    driver = boot(newest)
    assert driver.write(KEY_NAME, b"x" * 32, component=WRAPPER, os=LINUX) == 0
    assert driver.gen_wrapping_key() == 0
    assert driver.wrap(SECRET) == (-errno.EINVAL, b"")
    assert last(driver, Opcode.WRAP_OBJECT).status == Status.H_INVALID_KEY


def test_blobs_that_never_were(newest, boot):
    """For an empty, cut, longer or foreign blob, the driver returns -EINVAL, and no byte is written."""
    driver = boot(newest)
    assert driver.gen_wrapping_key() == 0
    _, blob = driver.wrap(SECRET)
    for bad in (
        bytes(1056),
        b"\xff" * 1056,
        blob[:-1],
        blob + b"\0",
        blob[:1025],
        blob[:1024],
        blob[:1023],
        b"x",
    ):
        assert driver.unwrap(bad) == (-errno.EINVAL, b"")
        assert last(driver, Opcode.UNWRAP_OBJECT).written == 0
    assert driver.unwrap(blob) == (0, SECRET)


def test_a_level_without_wrapping(newest, boot):
    """R-74: before FW1110 the config block has no wrapping features. A wrapping call returns H_FUNCTION."""
    driver = boot(newest, Scripted(Machine("FW1060")))
    assert not driver.number("plpks_wrapping_is_supported")
    assert driver.wrap(SECRET) == driver.unwrap(bytes(1056)) == (-errno.ENXIO, b"")


def test_trusted_keys_survive_kexec_and_ipl(newest, boot, load, machine):
    """R-71: a blob can be unwrapped after kexec and IPL, because its key stays in the keystore."""
    old = boot(newest)
    assert old.gen_wrapping_key() == 0
    _, blob = old.wrap(SECRET)
    tree, new = fdt.make(), load(newest)
    assert old.populate(tree) == 0
    new.early_init(tree)
    assert new.init() == 0
    assert new.unwrap(blob) == (0, SECRET)
    machine.ipl()
    fresh = boot(newest)
    assert fresh.unwrap(blob) == (0, SECRET)
    locked = load(newest)
    assert locked.init() == 0
    assert locked.unwrap(blob) == (-errno.EPERM, b"")
