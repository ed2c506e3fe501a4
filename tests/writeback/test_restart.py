"""The same state folder booted again, with the same wishes, after one record was damaged on SQLite."""

from pathlib import Path

import pytest
import trio

from hcall_server.nvram.names import image_name, profile_name
from hcall_server.service.boot import Booted, boot
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.encryptor import Encryptor
from hcall_server.writeback.worker import InlineWorker
from tests.guest import Chance, Guest

WISHES = Settings(partition=tuple(PartitionSettings(f"lpar{n}", 8) for n in (1, 2, 3)))


async def live(booted: Booted) -> None:
    """Make everything durable that the start and the guests have changed."""
    encryptor = Encryptor(booted.nvram, booted.sealer, InlineWorker())
    encryptor.system_changed(booted.record)
    for partition in booted.system.partitions.values():
        if not partition.refused:
            partition.ipl()
            Guest(partition).write(3, b"label", partition.name.encode())
        encryptor.changed(partition)
    assert await encryptor.flush()


def end(booted: Booted) -> None:
    booted.nvram.close()
    booted.state.close()


@pytest.mark.parametrize("record", [image_name(2), profile_name(2)])
def test_a_damaged_partition_does_not_stop_the_others_from_starting(tmp_path: Path, record: str) -> None:
    """R-22: the settings still ask for all three; two are there, the third is named and left alone."""
    booted = boot(tmp_path, WISHES, Chance())
    trio.run(live, booted)
    blob = booted.nvram.load()[record]
    booted.nvram.commit({record: blob[:-1] + bytes([blob[-1] ^ 1])})
    end(booted)
    again = boot(tmp_path, WISHES, Chance(b"again"))
    refused = [each for each in again.system.partitions.values() if each.refused]
    assert [each.number for each in refused] == [2]
    assert again.touched == []
    trio.run(live, again)
    for number in (1, 3):
        partition = again.system.by_number(number)
        assert partition is not None
        assert Guest(partition).read(3, b"label").written == b"lpar%d" % number
    again.nvram.commit({record: blob})
    end(again)
    whole = boot(tmp_path, WISHES, Chance(b"whole"))
    assert not any(each.refused for each in whole.system.partitions.values())
    assert [each.number for each in whole.system.partitions.values()] == [1, 2, 3]
    end(whole)


def test_wrapping_keys_and_their_revocation_outlive_the_server(tmp_path: Path) -> None:
    """R-71, R-72, R-21: what was wrapped before opens after, once the key is in use again."""
    settings = Settings(firmware="NEXT", partition=(PartitionSettings("lpar1", 8),))
    booted = boot(tmp_path, settings, Chance())
    partition = booted.system.find("lpar1")
    partition.ipl()
    guest = Guest(partition)
    guest.set_password(3, b"password")
    assert guest.gen_key(3, b"key", password=b"password").status == 0
    wrapped = guest.wrap(3, b"key", b"secret", password=b"password").written
    assert guest.revoke(3, b"key", password=b"password").r4 == 0x0080_0002
    trio.run(live, booted)
    end(booted)
    again = boot(tmp_path, settings, Chance(b"again"))
    guest = Guest(again.system.find("lpar1"))
    guest.ipl()
    guest.set_password(3, b"password")
    assert guest.read(3, b"key", password=b"password").r5 == 0x0080_0002
    assert guest.unwrap(3, wrapped, password=b"password").status == -10
    assert guest.unrevoke(3, b"key", password=b"password").r4 == 0x0080_0000
    assert guest.unwrap(3, wrapped, password=b"password").written == b"secret"
    end(again)
