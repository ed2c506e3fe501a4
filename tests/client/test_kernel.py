"""The emulated kernel acts as Linux's driver does: initialisation, errno, flush poll, kexec."""

import errno

import pytest
import trio

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, HcallError, read_object, set_password, write_object
from hcall_client.guests import linux
from hcall_client.guests.kernel import (
    INITIALISED,
    NOT_SUPPORTED,
    PASSWORD_IN_USE,
    PASSWORD_PROPERTY,
    LinuxKernel,
    Name,
)
from hcall_client.guests.linux import LinuxError
from tests.client.engine import Engine

KEY = Name("sed-opal", "disk")


class Flushing(Engine):
    """An engine that flushes after some polls, or gives other answers to polls."""

    def __init__(self, polls: int = 0, status: int | None = None, **options) -> None:
        super().__init__(**options)
        self.polls = polls
        self.status = status

    async def call(self, request):
        if request.opcode == Opcode.CONFIRM_OBJECT_FLUSHED:
            if self.status is not None:
                self.opcodes.append(request.opcode)
                raise HcallError(self.status, request.opcode)
            self.polls -= 1
            if self.polls < 0:
                self.flush()
        return await super().call(request)


async def started(engine, driver=linux.LINUX_7_0):
    kernel = LinuxKernel(engine, driver)
    await kernel.init()
    return kernel


async def test_initialisation_makes_the_longest_password():
    """R-05: The kernel calls GET_CONFIG, then GEN_PASSWORD with the maximum length, as Linux does."""
    engine = Engine()
    kernel = await started(engine)
    assert engine.opcodes == [Opcode.GET_CONFIG, Opcode.GEN_PASSWORD]
    assert len(kernel._authorization.password) == 64
    assert kernel.messages == [INITIALISED]
    assert repr(kernel) == "LinuxKernel(Linux 7.0, with password)"


@pytest.mark.parametrize("driver,size", [(linux.LINUX_7_0, 520), (linux.LINUX_6_19, 512)])
async def test_the_config_block_has_the_versions_length(driver, size):
    lengths = []

    class Watched(Engine):
        async def call(self, request):
            lengths.append(request.registers[1])
            return await super().call(request)

    await started(Watched(), driver)
    assert lengths[0] == size


async def test_no_keystore():
    """R-35: If the keystore is off, GET_CONFIG fails and the driver reports that."""
    engine = Engine(kbytes=0)
    kernel = LinuxKernel(engine)
    with pytest.raises(LinuxError) as caught:
        await kernel.init()
    assert caught.value.errno == errno.ENXIO
    assert kernel.messages == [NOT_SUPPORTED]


async def test_limits_that_make_no_sense(monkeypatch):
    monkeypatch.setattr(linux, "MIN_TOTAL_SIZE", 1 << 20)
    kernel = LinuxKernel(Engine())
    with pytest.raises(LinuxError, match="total size"):
        await kernel.init()
    assert not kernel.has_password


async def test_other_failures_of_the_password_stop_the_driver():
    class Failing(Engine):
        async def call(self, request):
            if request.opcode == Opcode.GEN_PASSWORD:
                raise HcallError(Status.H_ABORTED, request.opcode)
            return await super().call(request)

    with pytest.raises(LinuxError) as caught:
        await started(Failing())
    assert caught.value.errno == errno.EIO


async def test_write_polls_until_flushed(autojump_clock):
    """R-20: The kernel calls WRITE, then CONFIRM every 10 ms until the object is durable."""
    engine = Flushing(polls=7)
    kernel = await started(engine)
    await kernel.write(KEY, b"key", Policy.PWSET)
    assert engine.opcodes.count(Opcode.CONFIRM_OBJECT_FLUSHED) == 8
    assert trio.current_time() == pytest.approx(0.07)
    assert await kernel.read(KEY) == (b"key", Policy.PWSET)


async def test_remove_ends_with_not_found_and_one(autojump_clock):
    """R-20: the driver waits for pending removals; H_NOT_FOUND with 1 is their normal end."""
    engine = Flushing()
    kernel = await started(engine)
    await kernel.write(KEY, b"key")
    engine.polls = 3
    await kernel.remove(KEY)
    assert trio.current_time() == pytest.approx(0.03)
    with pytest.raises(LinuxError) as caught:
        await kernel.read(KEY)
    assert (caught.value.errno, caught.value.status) == (errno.ENOENT, Status.H_NOT_FOUND)


@pytest.mark.parametrize(
    "driver,expected", [(linux.LINUX_7_0, errno.EINVAL), (linux.WITHOUT_WARTS, errno.ETIMEDOUT)]
)
async def test_the_poll_gives_up_after_five_seconds(autojump_clock, driver, expected):
    """R-23: A flush that never ends is a timeout after five seconds.

    Linux's second conversion makes it -EINVAL.
    """
    engine = Flushing(polls=10_000)
    kernel = await started(engine, driver)
    with pytest.raises(LinuxError) as caught:
        await kernel.write(KEY, b"key")
    assert caught.value.errno == expected
    assert engine.opcodes.count(Opcode.CONFIRM_OBJECT_FLUSHED) == 500
    assert trio.current_time() == pytest.approx(5.0)


@pytest.mark.parametrize(
    "status,wart,meant",
    [
        (Status.H_NOT_FOUND, errno.ENXIO, errno.ENOENT),
        (Status.H_BUSY, errno.EEXIST, errno.EBUSY),
        (Status.H_AUTHORITY, errno.EINVAL, errno.EPERM),
    ],
)
async def test_errors_end_the_poll_at_once(autojump_clock, status, wart, meant):
    for driver, expected in ((linux.LINUX_7_0, wart), (linux.WITHOUT_WARTS, meant)):
        kernel = await started(Flushing(status=status), driver)
        with pytest.raises(LinuxError) as caught:
            await kernel.write(KEY, b"key")
        assert caught.value.errno == expected
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "name,data,policy",
    [
        (KEY, b"", 0),
        (KEY, bytes(4001), 0),
        (Name("x", bytes(240)), b"x", 0),
        (Name("x", ""), b"x", 0),
        (KEY, b"x", Policy.SIGNEDUPDATE),
        (KEY, b"x", Policy.WRAPPINGKEY),
    ],
)
async def test_what_the_driver_refuses_itself(name, data, policy):
    """The driver itself refuses these calls, so the hypervisor never receives them."""
    engine = Engine()
    kernel = await started(engine)
    with pytest.raises(LinuxError) as caught:
        await kernel.write(name, data, policy)
    assert caught.value.errno == errno.EINVAL
    assert engine.opcodes[-1] == Opcode.GEN_PASSWORD


async def test_errno_of_refusals(autojump_clock):
    """R-08: The kernel returns refusals as Linux does: EEXIST, ENOMEM, ENOENT and others."""
    kernel = await started(Flushing(kbytes=4))
    await kernel.write(KEY, b"one")
    for name, data, expected in ((KEY, b"two", errno.EEXIST), (Name("", "big"), bytes(4000), errno.ENOMEM)):
        with pytest.raises(LinuxError) as caught:
            await kernel.write(name, data)
        assert caught.value.errno == expected
        assert isinstance(caught.value, OSError)
    with pytest.raises(LinuxError, match="remove: ENOENT"):
        await kernel.remove(Name("", "nothing"))


async def test_objects_of_the_other_consumers():
    """R-11: world-readable objects of firmware and boot loader are read without a password."""
    engine = Engine()
    kernel = await started(engine)
    assert not await kernel.dynamic_keys()
    for owner in (1, 2):
        engine.do(write_object(Authorization(owner), b"SB_VERSION", b"\1", Policy.WORLDREADABLE))
    assert await kernel.dynamic_keys()
    assert (await kernel.read_boot_loader(b"SB_VERSION")).data == b"\1"
    engine.do(set_password(1, b"p" * 32))
    with pytest.raises(LinuxError, match="EPERM"):
        await kernel.read_firmware(b"nothing")


async def test_other_errors_of_sb_version_are_told():
    engine = Engine()
    kernel = await started(engine)
    engine.system.power_off("lpar1")
    with pytest.raises(LinuxError, match="EIO"):
        await kernel.dynamic_keys()


async def test_used_space_is_asked_for_anew(autojump_clock):
    """R-07: sysfs shows the current used space."""
    kernel = await started(Flushing())
    before = await kernel.used_space()
    await kernel.write(KEY, bytes(100))
    assert await kernel.used_space() == before + 100 + len(KEY.label) + 32


# kexec


async def test_kexec_hands_the_password_on(autojump_clock):
    """R-06: kexec is no IPL. The next kernel takes the password from the device tree and requests none."""
    engine = Flushing()
    old = await started(engine)
    await old.write(KEY, b"key")
    handover = old.kexec()
    assert len(handover.chosen[PASSWORD_PROPERTY]) == 64
    assert repr(handover) == "KexecHandover(['ibm,plpks-pw'])"
    new = await LinuxKernel.from_kexec(engine, handover)
    assert engine.opcodes.count(Opcode.GEN_PASSWORD) == 1
    assert (await new.read(KEY)).data == b"key"
    assert handover.chosen == {}
    assert not old.has_password
    with pytest.raises(LinuxError, match="EPERM"):
        await old.read(KEY)


async def test_an_old_kexec_meets_in_use(autojump_clock):
    """R-06: Without the device-tree property the next kernel has no password.

    Most of its calls are refused.
    """
    engine = Flushing()
    old = await started(engine)
    await old.write(KEY, b"key")
    new = await LinuxKernel.from_kexec(engine, old.kexec(file=False))
    assert new.messages == [PASSWORD_IN_USE, INITIALISED]
    assert not new.has_password
    with pytest.raises(LinuxError) as caught:
        await new.read(KEY)
    assert caught.value.errno == errno.EPERM


async def test_the_password_does_not_outlive_an_ipl(autojump_clock):
    """R-04: after an IPL a password that kexec passed on is invalid."""
    engine = Flushing()
    old = await started(engine)
    await old.write(KEY, b"key")
    handover = old.kexec()
    engine.ipl()
    new = await LinuxKernel.from_kexec(engine, handover)
    with pytest.raises(LinuxError, match="EPERM"):
        await new.read(KEY)
    fresh = await started(engine)
    assert (await fresh.read(KEY)).data == b"key"
    with pytest.raises(HcallError):
        engine.do(read_object(Authorization(Consumer.OPERATING_SYSTEM), KEY.label))
