"""R-73, R-23: how long Linux's driver waits, on a virtual clock: flush poll, busy answers, quirks."""

import errno

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from hcall_client.guests.linux import LINUX_7_0, poll_step
from tests.driver.driver import Driver
from tests.driver.hypervisor import Script
from tests.driver.test_errnos import BUSY, FAILURES, errno_of

INTERVAL = int(LINUX_7_0.poll_interval * 1_000_000)
LIMIT = int(LINUX_7_0.poll_limit * 1_000_000)
PK = "PK".encode("utf-16-le")
FLUSHED, PENDING = Script(0, (1,)), Script(0, (0,))


def write(driver: Driver) -> int:
    return driver.write(b"name", b"data")


def remove(driver: Driver) -> int:
    return driver.remove(b"name")


def pairs(status: int, flushed: int) -> Script:
    return Script(status, (flushed,))


@pytest.mark.parametrize("asked", [1, 2, 499, 500])
@pytest.mark.parametrize("act", [write, remove])
def test_the_poll_asks_until_it_is_flushed(build, boot, hypervisor, act, asked):
    """The driver polls every 10 ms, at most 500 times; the 500th answer still counts."""
    driver = boot(build)
    opcode = Opcode.WRITE_OBJECT if act is write else Opcode.REMOVE_OBJECT
    hypervisor.next(opcode, Script(0))
    hypervisor.next(Opcode.CONFIRM_OBJECT_FLUSHED, *[PENDING] * (asked - 1), FLUSHED)
    assert act(driver) == 0
    assert driver.opcodes() == [opcode, *[Opcode.CONFIRM_OBJECT_FLUSHED] * asked]
    assert driver.slept == (asked - 1) * INTERVAL


@pytest.mark.parametrize("flushed", [0, 2, 0x100, 0xFF])
@pytest.mark.parametrize("act", [write, remove])
def test_a_flush_that_never_comes(build, boot, hypervisor, act, flushed):
    """Quirks: after a time-out the driver returns -EINVAL, not -ETIMEDOUT.

    The driver of 2022 returns success.
    """
    driver = boot(build)
    hypervisor.next(Opcode.REMOVE_OBJECT, Script(0))
    hypervisor.always(Opcode.CONFIRM_OBJECT_FLUSHED, pairs(0, flushed))
    wart = LINUX_7_0.poll_result(-errno.ETIMEDOUT)
    assert wart == -errno.EINVAL
    assert act(driver) == (0 if build.of_2022 else wart)
    assert driver.slept == LIMIT
    assert driver.opcodes().count(Opcode.CONFIRM_OBJECT_FLUSHED) == LIMIT // INTERVAL


@pytest.mark.parametrize("act", [write, remove])
def test_every_error_during_the_poll(build, boot, hypervisor, act):
    """A quirk: during the poll, the driver converts an errno a second time.

    It never repeats a poll after an error.
    """
    driver = boot(build)
    hypervisor.always(Opcode.WRITE_OBJECT, Script(0))
    hypervisor.always(Opcode.REMOVE_OBJECT, Script(0))
    results, expected = {}, {}
    for status in FAILURES:
        for flushed in (0, 1, 0x101):
            hypervisor.next(Opcode.CONFIRM_OBJECT_FLUSHED, pairs(status, flushed))
            results[status, flushed] = act(driver)
            ended = poll_step(status, flushed)
            assert ended is not None
            expected[status, flushed] = LINUX_7_0.poll_result(errno_of(build, ended))
    assert results == expected
    assert results[Status.H_NOT_FOUND, 1] == 0
    assert results[Status.H_NOT_FOUND, 0] == -errno.ENXIO
    assert results[Status.H_BUSY, 0] == -errno.EEXIST
    assert results[Status.H_AUTHORITY, 0] == -errno.EINVAL
    assert driver.slept == 0


def test_generating_a_key_takes_some_failures_for_success(newest, boot, hypervisor):
    """A quirk: during the poll after GEN_KEY, a busy answer counts as "the key exists already"."""
    driver = boot(newest)
    hypervisor.always(Opcode.GEN_KEY, Script(0))
    results = {}
    for status in (Status.H_BUSY, Status.H_NOT_FOUND, Status.H_AUTHORITY, Status.H_RESOURCE):
        hypervisor.next(Opcode.CONFIRM_OBJECT_FLUSHED, pairs(status, 0))
        results[status] = driver.gen_wrapping_key()
    assert results == {
        Status.H_BUSY: 0,
        Status.H_NOT_FOUND: -errno.ENXIO,
        Status.H_AUTHORITY: -errno.EINVAL,
        Status.H_RESOURCE: -errno.EINVAL,
    }
    hypervisor.always(Opcode.CONFIRM_OBJECT_FLUSHED, PENDING)
    assert driver.gen_wrapping_key() == -errno.EINVAL
    assert driver.slept == LIMIT


def test_a_signed_update_reports_its_poll_as_it_was(newer, boot, hypervisor):
    """A signed update returns the errno of its poll unchanged: the driver does not convert it again."""
    driver = boot(newer)
    hypervisor.always(Opcode.SIGNED_UPDATE, Script(0))
    results = {}
    for status in FAILURES:
        hypervisor.next(Opcode.CONFIRM_OBJECT_FLUSHED, pairs(status, 0))
        results[status] = driver.signed_update(PK, b"payload")
    assert results == {status: errno_of(newer, status) for status in FAILURES}
    hypervisor.always(Opcode.CONFIRM_OBJECT_FLUSHED, PENDING)
    assert driver.signed_update(PK, b"payload") == -errno.ETIMEDOUT
    assert driver.slept == LIMIT


HINTS = dict(zip(BUSY, (1, 1, 10, 100, 1000, 10_000, 100_000), strict=True))


@pytest.mark.parametrize("busy", BUSY)
def test_a_busy_signed_update_goes_on_with_its_token(newer, boot, hypervisor, busy):
    """After a busy status the driver sleeps for the time in the status, then repeats the call.

    The token of the repeated call is r4 of the busy answer.
    """
    driver = boot(newer)
    hypervisor.next(Opcode.SIGNED_UPDATE, Script(busy, (0x1234_5678_9ABC_DEF0,)), Script(0, (0xDEAD,)))
    hypervisor.next(Opcode.CONFIRM_OBJECT_FLUSHED, FLUSHED)
    gives_up = HINTS[busy] >= 5000
    assert driver.signed_update(PK, b"payload", 1) == (-errno.EBUSY if gives_up else 0)
    updates = [call.arguments for call in driver.calls if call.opcode == Opcode.SIGNED_UPDATE]
    first, *more = updates
    assert first[-1] == 0
    assert first[4] == 1
    assert more == ([] if gives_up else [(*first[:-1], 0x1234_5678_9ABC_DEF0)])
    assert driver.slept == HINTS[busy] * 1000


@pytest.mark.parametrize("busy", BUSY)
def test_a_signed_update_that_stays_busy(newer, boot, hypervisor, busy):
    """As soon as its sleeps reach 5 s, the driver returns -EBUSY, and does not poll."""
    driver = boot(newer)
    hypervisor.always(Opcode.SIGNED_UPDATE, Script(busy, (7,)))
    assert driver.signed_update(PK, b"payload") == -errno.EBUSY
    assert driver.slept == max(5_000_000, HINTS[busy] * 1000)
    assert driver.opcodes() == [Opcode.SIGNED_UPDATE] * max(1, 5000 // HINTS[busy])


@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("opcode", [Opcode.WRAP_OBJECT, Opcode.UNWRAP_OBJECT])
def test_wrapping_repeats_at_once_and_without_end(newest, boot, hypervisor, opcode, busy):
    """The driver repeats a busy call without sleep or limit.

    So our keystore is busy only with a fault plan.
    """
    driver = boot(newest)
    hypervisor.next(opcode, *[Script(busy, (n + 1,)) for n in range(300)], Script(Status.H_ABORTED))
    wrap = opcode is Opcode.WRAP_OBJECT
    assert (driver.wrap(b"secret") if wrap else driver.unwrap(bytes(1056))) == (-errno.EIO, b"")
    assert [call.arguments[-1] for call in driver.calls] == list(range(301))
    assert len({call.arguments[:-1] for call in driver.calls}) == 1
    assert driver.slept == 0


@pytest.mark.parametrize("flush_after", [0, 30_000, 4_990_000])
def test_the_engine_flushes_in_time(build, boot, machine, flush_after):
    """R-23: if a flush takes less than 5 s, the driver succeeds, without a busy status."""
    machine.flush_after = flush_after
    driver = boot(build)
    assert write(driver) == 0
    assert driver.slept == flush_after
    machine.flush_after *= 2
    assert remove(driver) == 0
    assert driver.slept == 2 * flush_after
    assert {call.status for call in driver.calls} <= {Status.H_SUCCESS, Status.H_NOT_FOUND}


def test_nvram_that_stays_full(newer, boot, machine):
    """R-75: if NVRAM stays full, a change is in memory but never confirmed. The driver returns a failure."""
    driver = boot(newer)
    machine.flush_after = None
    assert write(driver) == -errno.EINVAL
    assert driver.read(b"name", 4).data == b"data"
    assert remove(driver) == -errno.EINVAL
    assert driver.read(b"name", 4).error == -errno.ENOENT
