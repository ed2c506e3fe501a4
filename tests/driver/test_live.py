"""R-73: Linux's driver with a real server process, over its Unix socket and the blocking client.

The driver really sleeps between two polls, as in a kernel; flushes go to a real disk.
"""

import errno
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from hcall_client.errors import SessionEnded
from hcall_client.guests.linux import LINUX_7_0
from swpks.testing import ServerProcess
from tests.driver.build import Build
from tests.driver.driver import FIRMWARE, Driver
from tests.driver.model import Model

pytestmark = pytest.mark.process

DISK = b"/default/pri\0"


def really_sleep(microseconds: int) -> None:
    """Sleep for real, as a kernel does between two polls."""
    time.sleep(microseconds / 1_000_000)


@contextmanager
def booted(build: Build, server: ServerProcess, name: str = "lpar1") -> Iterator[Driver]:
    """Yield a driver that has started, in a session with a partition of the server."""
    with server.connect_blocking(name) as channel:
        driver = Driver(build, channel, sleep=really_sleep)
        try:
            assert driver.init() == 0
            yield driver
        finally:
            driver.close()


def test_a_key_survives_ipl_and_sigkill(newest, swpks_server):
    """R-21: a confirmed write survives IPL and SIGKILL. R-04: each start has a new password."""
    with booted(newest, swpks_server) as driver:
        assert driver.write(DISK, b"the disk's key", policy=0x08000000) == 0
        assert driver.write(b"short-lived", b"data", policy=0x02000000) == 0
        swpks_server.ipl()
        with pytest.raises(SessionEnded, match="IPL or power-off"):
            driver.read(DISK, 64)
    with booted(newest, swpks_server) as driver:
        assert driver.read(DISK, 64).data == b"the disk's key"
        assert driver.read(b"short-lived", 64).error == -errno.ENOENT
        assert driver.write(b"second", b"more") == 0
        swpks_server.kill()
    swpks_server.start()
    with booted(newest, swpks_server) as driver:
        assert driver.read(DISK, 64).data == b"the disk's key"
        assert driver.read(b"second", 64).data == b"more"
        assert driver.remove(DISK) == 0
        swpks_server.kill()
    swpks_server.start()
    with booted(newest, swpks_server) as driver:
        assert driver.read(DISK, 64).error == -errno.ENOENT


@pytest.mark.swpks_server(partitions=["a:64", "b:64"], options=["--firmware", "FW950"])
def test_an_old_level_and_two_partitions(newest, swpks_server):
    """R-01, R-74: FW950 has no signed updates and config version 1; each partition has its own store."""
    with booted(newest, swpks_server, "a") as a, booted(newest, swpks_server, "b") as b:
        assert a.write(DISK, b"a's") == 0
        assert b.write(DISK, b"b's") == 0
        assert (a.read(DISK, 64).data, b.read(DISK, 64).data) == (b"a's", b"b's")
        assert a.config("version") == 1
        if a.knows("plpks_signed_update_var"):
            assert a.signed_update(b"P\0K\0", b"payload") == -errno.ENXIO
        assert a.read(b"SB_VERSION", 1, owner=FIRMWARE).error == -errno.ENOENT


def test_busy_answers_of_a_fault_plan(newest, swpks_server):
    """R-75: with a fault plan, each busy call returns -EBUSY, and the driver does not repeat it.

    A busy CONFIRM ends the driver's poll.
    """
    plan = [f"{call}=H_BUSY" for call in ("WRITE_OBJECT", "READ_OBJECT", "REMOVE_OBJECT")]
    with booted(newest, swpks_server) as driver:
        swpks_server.set_faults(*plan, "CONFIRM_OBJECT_FLUSHED=H_BUSY")
        assert driver.write(DISK, b"key") == -errno.EBUSY
        assert driver.write(DISK, b"key") == LINUX_7_0.poll_result(-errno.EBUSY) == -errno.EEXIST
        assert driver.read(DISK, 3).error == -errno.EBUSY
        assert driver.read(DISK, 3).data == b"key"
        assert driver.remove(DISK) == -errno.EBUSY
        assert driver.remove(DISK) == 0


@pytest.mark.swpks_server(options=["--confirm-wait", "40"])
def test_a_guest_that_polls_works_with_a_server_that_waits(newest, swpks_server):
    """R-21: with `--confirm-wait` the server answers the driver's first poll when the change is durable."""
    with booted(newest, swpks_server) as driver:
        for n in range(5):
            assert driver.write(b"%d" % n, b"data") == 0
            assert driver.remove(b"%d" % n) == 0
        assert driver.write(DISK, b"key") == 0
        asked = [call for call in driver.calls if call.opcode == Opcode.CONFIRM_OBJECT_FLUSHED]
        assert len(asked) == 11, "one for each change"
        swpks_server.kill()
    swpks_server.start()
    with booted(newest, swpks_server) as driver:
        assert driver.read(DISK, 64).data == b"key"
        assert driver.read(b"4", 64).error == -errno.ENOENT


@pytest.mark.swpks_server(partitions=["lpar1:8"])
def test_random_writes_reads_and_removes(build, swpks_server):
    """R-73: over a socket the driver answers as the model does; confirmed changes are durable."""
    # A fixed seed gives the same calls in every run.
    chance = random.Random(build.package)
    with booted(build, swpks_server) as driver:
        model = Model(driver.config("totalsize"), driver.config("usedspace"), driver.config("objoverhead"))
        for _ in range(150):
            name, size = chance.choice([b"a", b"b", b"c", b"d"]), chance.choice([1, 100, 3000])
            kind = chance.choice(["write", "read", "remove"])
            if kind == "write":
                policy = chance.choice([0, 0x08000000, 0x02000000, 0x10000000, 0x40000000])
                data = chance.randbytes(size)
                assert driver.write(name, data, policy=policy) == model.write(name, data, policy)
            elif kind == "read":
                error, thing = model.read(name)
                found = driver.read(name, 4000)
                assert (found.error, found.data) == (error, thing.data if thing else b"")
            else:
                assert driver.remove(name) == model.remove(name)
            assert driver.config("usedspace") == model.used
        confirmed = [call.status for call in driver.calls if call.opcode == Opcode.CONFIRM_OBJECT_FLUSHED]
        assert confirmed
        assert set(confirmed) <= {Status.H_SUCCESS, Status.H_NOT_FOUND}
    assert model.things
