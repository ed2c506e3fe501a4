"""The in-process fixture: the whole server over memory streams, used as in other projects."""

import pytest

from hcall_abi.consumers import SecureBoot
from hcall_abi.frames import GoodbyeReason
from hcall_abi.policies import Policy
from hcall_client.calls import (
    Authorization,
    HcallError,
    gen_password,
    read_object,
    remove_object,
    write_object,
)
from hcall_client.errors import OpenRefused, SessionEnded
from hcall_client.following import open_following
from hcall_client.guests.boot import boot
from hcall_client.guests.kernel import LinuxKernel, Name
from swpks.testing import emulated_partition

OS = Authorization(3)
KEY = Name("sed-opal", "disk")


async def test_a_partition_is_ready_to_use(pks_partition):
    """R-07: over the whole stack, the next call reads an object that a call wrote."""
    await pks_partition.channel.call(write_object(OS, b"x", b"data"))
    assert (await pks_partition.channel.call(read_object(OS, b"x"))).data == b"data"
    assert pks_partition.channel.level == "FW1110"
    assert "lpar1" in repr(pks_partition)


@pytest.mark.pks_partition(level="FW950", kbytes=8, name="small")
async def test_a_mark_says_what_it_is_like(pks_partition):
    """R-74: The mark of a test sets the firmware level of its partition."""
    config = await pks_partition.channel.limits()
    assert (config.version, config.total_size, config.max_password_size) == (1, 8192, 32)
    assert (pks_partition.channel.level, pks_partition.partition.name) == ("FW950", "small")


async def test_sessions_of_one_partition_see_the_same_store(pks_partition):
    async with pks_partition.connect() as second:
        await pks_partition.channel.call(write_object(OS, b"x", b"data"))
        assert (await second.call(read_object(OS, b"x"))).data == b"data"


async def test_an_ipl_ends_every_session_and_forgets_passwords(pks_partition):
    """R-04, R-14: An IPL sends GOODBYE 2 to all sessions.

    It removes passwords and transient objects; other objects stay.
    """
    first = pks_partition.channel
    who = await first.call(gen_password(3, 64))
    await first.call(write_object(who, b"stays", b"x"))
    await first.call(write_object(who, b"goes", b"x", Policy.TRANSIENT))
    async with pks_partition.connect() as second:
        channel = await pks_partition.ipl()
        for old in (first, second):
            ended = await old.wait_ended()
            assert isinstance(ended, SessionEnded)
            assert ended.reason == GoodbyeReason.IPL_OR_POWER_OFF
    assert channel is pks_partition.channel
    assert channel.ipl_count == first.ipl_count + 1
    assert (await channel.call(read_object(OS, b"stays"))).data == b"x"
    with pytest.raises(HcallError, match="H_NOT_FOUND"):
        await channel.call(read_object(OS, b"goes"))


async def test_secure_boot_counts_from_the_next_ipl(pks_partition):
    """R-10: an object for secure boot is out of reach until the partition boots in that mode."""
    channel = await pks_partition.ipl(SecureBoot.ENFORCE)
    await channel.call(write_object(OS, b"x", b"y", Policy.OSSECBOOTENFORCE))
    channel = await pks_partition.ipl(SecureBoot.AUDIT)
    with pytest.raises(HcallError) as caught:
        await channel.call(read_object(OS, b"x"))
    assert caught.value.policy == Policy.OSSECBOOTENFORCE
    channel = await pks_partition.ipl(SecureBoot.ENFORCE)
    assert (await channel.call(read_object(OS, b"x"))).data == b"y"


async def test_nothing_is_opened_while_it_is_off(pks_partition):
    await pks_partition.power_off()
    with pytest.raises(OpenRefused, match="NOT_ACTIVATED"):
        async with pks_partition.connect():
            pass
    assert (await pks_partition.ipl()).ended is None


async def test_the_kernel_writes_through_to_nvram(pks_partition):
    """R-20: when the emulated kernel's write returns, the object is durable."""
    chain = await boot(pks_partition.channel)
    await chain.kernel.write(KEY, b"disk key", Policy.PWSET)
    commits = pks_partition.nvram.commits
    assert commits > 0
    keystore = pks_partition.partition.keystore
    assert keystore is not None
    assert keystore.contents.generation == keystore.contents.flushed
    await chain.kernel.remove(KEY)
    assert pks_partition.nvram.commits > commits


async def test_kexec_is_no_ipl(pks_partition):
    """R-06: The password is valid after kexec, and invalid after an IPL."""
    kernel = (await boot(pks_partition.channel)).kernel
    await kernel.write(KEY, b"disk key")
    async with pks_partition.connect() as channel:
        kernel = await LinuxKernel.from_kexec(channel, kernel.kexec())
        assert (await kernel.read(KEY)).data == b"disk key"
        handover = kernel.kexec()
    kernel = await LinuxKernel.from_kexec(await pks_partition.ipl(), handover)
    with pytest.raises(OSError, match="EPERM"):
        await kernel.read(KEY)


async def test_a_pipeline_is_one_batch(pks_partition):
    """Many pending calls, some of them refused, are answered in order."""
    names = [bytes([65 + n % 26]) for n in range(40)]
    results = await pks_partition.channel.pipeline(write_object(OS, name, b"x") for name in names)
    assert [getattr(result, "status", 0) for result in results] == [0] * 26 + [-16] * 14
    removed = await pks_partition.channel.pipeline(remove_object(OS, name) for name in names[:26])
    assert removed == [None] * 26


async def test_a_flush_by_hand():
    async with emulated_partition(flush_delay=60) as partition:
        await partition.channel.call(write_object(OS, b"x", b"y"))
        keystore = partition.partition.keystore
        assert keystore is not None
        assert (keystore.contents.dirty, await partition.flush(), keystore.contents.flushed) == (
            True,
            True,
            1,
        )
    with pytest.raises(RuntimeError, match="not served"):
        partition.connect()


@pytest.mark.pks_partition(confirm_wait=0.04)
async def test_a_confirm_may_wait(pks_partition):
    """The mark sets how many seconds a CONFIRM may wait; without it, none."""
    assert pks_partition.machine.confirm_wait == pytest.approx(0.04)
    async with emulated_partition() as other:
        assert other.machine.confirm_wait == 0.0


async def test_a_failing_test_leaves_nothing_behind():
    """An exception of the test comes out of the fixture's block unchanged. By then the server has ended."""
    with pytest.raises(KeyError):
        async with emulated_partition() as partition:
            raise KeyError(partition)


async def test_a_channel_may_follow_it(pks_partition):
    """Each call of `locate` returns a new connection to the partition."""
    async with open_following(pks_partition.locate) as channel:
        await channel.call(write_object(OS, b"x", b"data"))
        pks_partition.machine.holds.leave(pks_partition.partition)
        assert (await channel.call(read_object(OS, b"x"))).data == b"data"
        assert channel.moves == 1
