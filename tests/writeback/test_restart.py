"""The same state folder is assembled again with the same settings, also after damage to one record."""

from pathlib import Path

import trio

from hcall_server.machine.machine import Machine
from hcall_server.nvram.names import partition_name
from hcall_server.service.settings import PartitionSettings, Settings
from tests.guest import Chance, Guest
from tests.service.folder import assembled

WISHES = Settings(partition=tuple(PartitionSettings.of(f"lpar{n}", 8) for n in (1, 2, 3)))


async def live(machine: Machine) -> None:
    """Make each change of the start and of the guests durable."""
    for partition in machine.system.partitions.values():
        if not partition.refused:
            guest = Guest(partition)
            guest.ipl()
            guest.write(3, b"label", partition.name.encode())
        machine.encryptor.changed(partition)
    assert await machine.encryptor.flush()


def test_a_damaged_partition_does_not_stop_the_others_from_starting(tmp_path: Path) -> None:
    """R-22: Of three partitions in settings and NVRAM, the damaged one is refused. The other two serve."""
    with assembled(tmp_path, WISHES, Chance()) as machine:
        trio.run(live, machine)
        record = partition_name(machine.system.find("lpar2").profile.uuid)
        blob = machine.nvram.load()[record]
        machine.nvram.commit({record: blob[:-1] + bytes([blob[-1] ^ 1])})
    with assembled(tmp_path, WISHES, Chance(b"again")) as again:
        refused = [each for each in again.system.partitions.values() if each.refused]
        assert [each.number for each in refused] == [2]
        assert not again.encryptor.pending
        trio.run(live, again)
        for number in (1, 3):
            partition = again.system.by_number(number)
            assert partition is not None
            assert Guest(partition).read(3, b"label").written == b"lpar%d" % number
        again.nvram.commit({record: blob})
    with assembled(tmp_path, WISHES, Chance(b"whole")) as whole:
        assert not any(each.refused for each in whole.system.partitions.values())
        assert [each.number for each in whole.system.partitions.values()] == [1, 2, 3]


def test_wrapping_keys_and_their_revocation_outlive_the_server(tmp_path: Path) -> None:
    """R-71, R-72, R-21: After a restart, a revoked key is still revoked.

    After UNREVOKE, old objects unwrap.
    """
    settings = Settings(firmware="NEXT", partition=(PartitionSettings.of("lpar1", 8),))
    with assembled(tmp_path, settings, Chance()) as machine:
        partition = machine.system.find("lpar1")
        partition.power_on()
        guest = Guest(partition)
        guest.set_password(3, b"password")
        assert guest.gen_key(3, b"key", password=b"password").status == 0
        wrapped = guest.wrap(3, b"key", b"secret", password=b"password").written
        assert guest.revoke(3, b"key", password=b"password").r4 == 0x0080_0002
        trio.run(live, machine)
    with assembled(tmp_path, settings, Chance(b"again")) as again:
        guest = Guest(again.system.find("lpar1"))
        guest.ipl()
        guest.set_password(3, b"password")
        assert guest.read(3, b"key", password=b"password").r5 == 0x0080_0002
        assert guest.unwrap(3, wrapped, password=b"password").status == -10
        assert guest.unrevoke(3, b"key", password=b"password").r4 == 0x0080_0000
        assert guest.unwrap(3, wrapped, password=b"password").written == b"secret"
