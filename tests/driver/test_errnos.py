"""R-73: the errno that Linux's driver itself returns for every status.

`hcall_client.guests.linux` has the same mapping as data; both are compared with the real code here. Each test
goes through all statuses, and through undefined numbers.
"""

import errno

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from hcall_client.guests.linux import LINUX_6_19, LINUX_7_0
from tests.driver.build import Build
from tests.driver.driver import BOOT_LOADER, FIRMWARE, SYSTEM
from tests.driver.hypervisor import Script

UNKNOWN = (-8, -76, -79, -256, -511, -1000, 2, 9906, 0x7FFF_FFFF)
FAILURES = [*(int(status) for status in Status if status), *UNKNOWN]
NO_MEMORY = 16
"""The result of the kernel's allocator for a size of 0."""
LONG_BUSY = range(9900, 9906)
BUSY = (Status.H_BUSY, *LONG_BUSY)
NOT_BUSY = [status for status in FAILURES if status not in BUSY]


def errno_of(build: Build, status: int) -> int:
    """Return the errno of this driver for a status. The driver of 2022 does not know long busy statuses."""
    if build.of_2022 and status in LONG_BUSY:
        return -errno.EINVAL
    return (LINUX_7_0 if build.kernel >= (7, 0) else LINUX_6_19).to_errno(status)


def all_of(build: Build, statuses: list[int]) -> dict[int, int]:
    return {status: errno_of(build, status) for status in statuses}


def test_the_start(build, load, hypervisor):
    """If GET_CONFIG fails, the start fails. If GEN_PASSWORD fails, it fails too, except with H_IN_USE."""
    for opcode in (Opcode.GET_CONFIG, Opcode.GEN_PASSWORD):
        results = {}
        for status in FAILURES:
            hypervisor.next(opcode, Script(status))
            driver = load(build)
            results[status] = driver.init()
            assert driver.allocated == 0
        expected = all_of(build, FAILURES)
        if opcode is Opcode.GEN_PASSWORD:
            expected[Status.H_IN_USE] = 0
        assert results == expected


def test_write_and_remove(build, boot, hypervisor):
    """WRITE and REMOVE return the errno of the status. The driver does not repeat a busy call."""
    driver = boot(build)
    for opcode, act in (
        (Opcode.WRITE_OBJECT, lambda: driver.write(b"name", b"data")),
        (Opcode.REMOVE_OBJECT, lambda: driver.remove(b"name")),
    ):
        results = {}
        for status in FAILURES:
            hypervisor.next(opcode, Script(status))
            results[status] = act()
        assert results == all_of(build, FAILURES)
        assert driver.opcodes() == [opcode] * len(FAILURES)
    assert driver.slept == 0


@pytest.mark.parametrize("owner", [FIRMWARE, BOOT_LOADER, SYSTEM])
def test_read(build, boot, hypervisor, owner):
    """If READ fails, the caller's size and policy are unchanged, whatever r4 and r5 contain."""
    driver = boot(build)
    results = {}
    for status in FAILURES:
        hypervisor.next(Opcode.READ_OBJECT, Script(status, (77, 0x00800002)))
        found = driver.read(b"name", 5, owner=owner)
        assert (found.size, found.data, found.policy) == (5, b"", 0)
        results[status] = found.error
    assert results == all_of(build, FAILURES)


def test_signed_update(newer, boot, hypervisor):
    driver = boot(newer)
    results = {}
    for status in NOT_BUSY:
        hypervisor.next(Opcode.SIGNED_UPDATE, Script(status))
        results[status] = driver.signed_update(b"P\0K\0", b"payload")
    assert results == all_of(newer, NOT_BUSY)
    assert driver.opcodes() == [Opcode.SIGNED_UPDATE] * len(NOT_BUSY)


def test_generating_the_wrapping_key(newest, boot, hypervisor):
    """If the key exists already, the driver reports success.

    It would do so for H_IN_USE too, which no hypervisor returns.
    """
    driver = boot(newest)
    results = {}
    for status in FAILURES:
        hypervisor.next(Opcode.GEN_KEY, Script(status))
        results[status] = driver.gen_wrapping_key()
    assert results == all_of(newest, FAILURES) | {Status.H_RESOURCE: 0, Status.H_IN_USE: 0}
    assert driver.opcodes() == [Opcode.GEN_KEY] * len(FAILURES)


def test_wrapping_and_unwrapping(newest, boot, hypervisor):
    """H_BAD_DATA, H_UNSUPPORTED and an invalid key are all -EINVAL in Linux; no buffer leaks."""
    driver = boot(newest)
    for opcode, act in (
        (Opcode.WRAP_OBJECT, lambda: driver.wrap(b"secret")),
        (Opcode.UNWRAP_OBJECT, lambda: driver.unwrap(bytes(1056))),
    ):
        results = {}
        for status in NOT_BUSY:
            hypervisor.next(opcode, Script(status))
            results[status], data = act()
            assert data == b""
        assert results == all_of(newest, NOT_BUSY)
    assert driver.allocated == 1


def test_a_blob_shorter_than_its_header(newest, boot):
    """A quirk: the driver subtracts 1024 from the blob's length without a check.

    So UNWRAP gets an output length of 4 GiB, and no buffer. A keystore that used this length would write
    over the guest's low memory.
    """
    driver = boot(newest)
    assert driver.unwrap(bytes(1023)) == (-errno.EINVAL, b"")
    assert driver.calls[-1].written == 0
    *_, address, length, token = driver.calls[-1].arguments
    assert (address, length, token) == (NO_MEMORY, (1 << 32) - 1, 0)
