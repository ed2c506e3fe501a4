"""Firmware, boot loader and kernel against the real engine: locks, published keys, the order of the boot."""

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, HcallError, read_object, remove_object, write_object
from hcall_client.guests.boot import boot
from hcall_client.guests.boot_loader import BootLoader
from hcall_client.guests.firmware import PartitionFirmware
from hcall_client.guests.kernel import LinuxKernel, Name
from hcall_client.guests.labels import SB_VERSION
from tests.client.engine import Engine

STAGES = [PartitionFirmware, BootLoader]


@pytest.fixture
def engine():
    return Engine()


@pytest.mark.parametrize("stage_type", STAGES)
async def test_a_stage_locks_its_own_objects_only(engine, stage_type):
    """R-03, R-04: Before a stage locks its objects, every guest can use them. Afterwards only the stage can.

    The objects of other stages are untouched.
    """
    stage = stage_type(engine)
    other = STAGES[1 - STAGES.index(stage_type)](engine)
    await stage.write(b"secret", b"content")
    assert engine.do(read_object(Authorization(stage.consumer), b"secret")).data == b"content"
    await stage.lock()
    assert (stage.locked, other.locked) == (True, False)
    with pytest.raises(HcallError, match="H_AUTHORITY"):
        await other.read(b"secret", owner=stage.consumer)
    assert (await stage.read(b"secret")).data == b"content"
    await other.write(b"secret", b"another's")
    assert (await stage.read(b"secret")).data == b"content"
    with pytest.raises(HcallError, match="H_IN_USE"):
        await stage.lock()


@pytest.mark.parametrize("stage_type", STAGES)
async def test_the_lock_is_gone_at_the_next_ipl(engine, stage_type):
    """R-04: An IPL unsets all passwords and keeps the objects."""
    stage = stage_type(engine)
    await stage.lock()
    await stage.write(b"secret", b"content")
    engine.ipl()
    with pytest.raises(HcallError, match="H_AUTHORITY"):
        await stage.read(b"secret")
    assert (await stage_type(engine).read(b"secret")).data == b"content"


async def test_passwords_are_random_and_as_long_as_can_be(engine):
    """R-05: each stage chooses a random password of the maximum length and passes it to no other stage."""
    stage = PartitionFirmware(engine, lambda size: b"\x5a" * size)
    await stage.lock()
    assert "ZZ" not in repr(stage)
    assert repr(stage) == "PartitionFirmware(locked)"
    engine.do(write_object(Authorization(1, b"\x5a" * 64), b"probe", b"x"))


async def test_sb_version_is_there_for_all(engine):
    """R-11: Every consumer can read SB_VERSION without a password; only firmware writes or removes it."""
    firmware, loader = PartitionFirmware(engine), BootLoader(engine)
    assert not await loader.dynamic_keys()
    assert await firmware.store_sb_version()
    await firmware.lock()
    assert not await firmware.store_sb_version()
    assert await loader.dynamic_keys()
    with pytest.raises(HcallError, match="H_AUTHORITY"):
        engine.do(remove_object(Authorization(Consumer.FIRMWARE), SB_VERSION))
    assert await firmware.store_sb_version(b"\0")
    assert not await loader.dynamic_keys()


async def test_published_keys_are_replaced_not_overwritten(engine):
    """R-08, R-11: A changed key is removed and written again; an equal key stays as it is."""
    loader = BootLoader(engine)
    assert await loader.publish_key(b"db", b"one")
    assert not await loader.publish_key(b"db", b"one")
    assert await loader.publish_key(b"db", b"two")
    assert await PartitionFirmware(engine).read(b"db", owner=2) == (b"two", Policy.WORLDREADABLE)
    assert engine.opcodes.count(Opcode.REMOVE_OBJECT) == 1


async def test_an_immutable_key_stays_as_it_is(engine):
    """R-12: An immutable key is neither overwritten nor removed, also not by its owner."""
    loader = BootLoader(engine)
    await loader.publish_key(b"db", b"one", Policy.IMMUTABLE)
    with pytest.raises(HcallError, match="H_AUTHORITY"):
        await loader.publish_key(b"db", b"two", Policy.IMMUTABLE)
    assert (await loader.read(b"db")).data == b"one"


async def test_stages_list_remove_and_confirm(engine):
    firmware = PartitionFirmware(engine)
    names = {bytes([65 + n]) * 200 for n in range(25)}
    for name in names:
        await firmware.write(name, b"x")
    assert set(await firmware.labels()) == names
    one = names.pop()
    await firmware.remove(one)
    assert await firmware.confirm(one) == (False, True)
    engine.flush()
    assert await firmware.confirm(one) == (True, False)
    assert set(await firmware.labels()) == names


async def test_errors_of_the_boot_loader_are_not_swallowed(engine):
    engine.system.power_off("lpar1")
    with pytest.raises(HcallError, match="H_STATE"):
        await BootLoader(engine).dynamic_keys()


# The chain


async def test_the_boot_locks_one_after_the_other(engine):
    """R-03, R-05: Each stage locks its objects before the next stage runs.

    No stage reaches the objects of another.
    """
    order = []

    async def firmware(stage):
        order.append((stage, stage.locked))
        await stage.write(b"fw", b"firmware's")

    async def loader(stage):
        order.append((stage, stage.locked))
        with pytest.raises(HcallError, match="H_AUTHORITY"):
            await stage.read(b"fw", owner=Consumer.FIRMWARE)
        await stage.write(b"bl", b"boot loader's")

    chain = await boot(engine, firmware=firmware, boot_loader=loader)
    assert order == [(chain.firmware, False), (chain.boot_loader, False)]
    assert (chain.firmware.locked, chain.boot_loader.locked, chain.kernel.has_password) == (True,) * 3
    for owner, label in ((1, b"fw"), (2, b"bl")):
        with pytest.raises(HcallError) as caught:
            engine.do(read_object(Authorization(owner), label))
        assert caught.value.status == Status.H_AUTHORITY
    passwords = {who._authorization.password for who in chain}
    assert len(passwords) == 3


async def test_the_calls_of_a_boot(engine):
    """A boot makes the h-calls of spec/linux.md in that order."""
    await boot(engine)
    names = [Opcode(opcode).name for opcode in engine.opcodes]
    assert names == [
        *("GET_CONFIG", "READ_OBJECT", "WRITE_OBJECT", "GET_CONFIG", "SET_PASSWORD"),
        *("GET_CONFIG", "READ_OBJECT", "GET_CONFIG", "SET_PASSWORD"),
        *("GET_CONFIG", "GEN_PASSWORD"),
    ]


async def test_a_second_boot_needs_an_ipl(engine):
    """R-04: Without an IPL the objects stay locked, so a second boot fails. After an IPL it succeeds."""
    await boot(engine)
    with pytest.raises(HcallError, match="H_IN_USE"):
        await boot(engine)
    engine.ipl()
    chain = await boot(engine)
    assert await chain.kernel.dynamic_keys()


async def test_objects_of_the_last_ipl_are_found_again(engine, autojump_clock):
    """R-04: after an IPL the kernel has another password and the same objects."""
    first = await boot(engine)
    name = Name("sed-opal", "key")
    engine.do(write_for(first.kernel, name))
    engine.ipl()
    second = await boot(engine)
    assert (await second.kernel.read(name)).data == b"disk key"
    assert second.kernel._authorization != first.kernel._authorization
    assert isinstance(second.kernel, LinuxKernel)


def write_for(kernel, name):
    """Write as the kernel does, but without its flush poll, because no encryptor runs here."""
    return write_object(kernel._authorization, name.label, b"disk key")
