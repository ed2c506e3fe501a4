"""GET_CONFIG: its block, in buffers of every length, on every level."""

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.levels import KEYSTORE_LEVELS
from tests.guest import OVERHEAD, Answer, Config, Guest, lay_out, make_partition, parse_config

FULL = Guest(make_partition("FW1110")).do(Opcode.GET_CONFIG, config=520).written


@pytest.mark.parametrize("length", [24, 25, 32, 44, 512, 519, 520, 521, 4096])
def test_a_buffer_gets_what_fits_and_no_more(length: int) -> None:
    """R-07: GET_CONFIG writes what fits into the buffer, and no byte after the 520 of its block."""
    status, _, _, block = Guest(make_partition()).do(Opcode.GET_CONFIG, config=length)
    assert (status, block) == (0, FULL[:length])
    assert len(FULL) == 520


@pytest.mark.parametrize("length", [0, 1, 23])
def test_a_buffer_below_version_1_is_refused(length: int) -> None:
    guest = Guest(make_partition())
    assert guest.do(Opcode.GET_CONFIG, config=length) == Answer(-55)
    assert guest.refusals[-1].argument == "config_length"


@pytest.mark.parametrize("offset,status", [(0, 0), (4096 - 520, 0), (4096 - 519, -4), (4095, -4)])
def test_the_buffer_lies_in_one_page(offset: int, status: int) -> None:
    """R-76: strict memory refuses a crossing, relaxed memory accepts it. No alignment is required."""
    layout = lay_out(Opcode.GET_CONFIG)
    layout.writable("config", 520, 0x7000 + offset)
    assert Guest(make_partition()).send(layout.frame()).status == status
    assert Guest(make_partition(strict=False)).send(layout.frame()).status == 0


def test_a_buffer_longer_than_a_page_crosses_one() -> None:
    """R-76: Strict memory refuses a buffer of more than 4096 bytes, because it crosses a page."""
    assert Guest(make_partition()).do(Opcode.GET_CONFIG, config=4097) == Answer(-4)
    assert Guest(make_partition(strict=False)).do(Opcode.GET_CONFIG, config=4097).status == 0


def test_version_1_tells_the_first_fields_alone() -> None:
    """R-74: On FW950 the block has no fields for overhead, large objects and signed updates."""
    config = Guest(make_partition("FW950", 64)).config()
    assert config == Config(1, 0, 0, 32, 255, 0xFFFF, 65536, 0, 0x7F00_0000)


def test_version_3_tells_large_objects_and_overhead() -> None:
    """R-74: On FW1110 objects may have 64 KiB and more. The 16-bit size is then 0xFFFF."""
    config = Guest(make_partition("FW1110", 4)).config()
    assert config[:10] == (3, 0x10, OVERHEAD, 64, 255, 0xFFFF, 4096, 0, 0x7F80_0000, 128 * 1024)
    assert config.wrapping == 1 << 63


@pytest.mark.parametrize(
    "level,version,flags,overhead,large,wrapping",
    [
        ("FW950", 1, 0, 0, 0, 0),
        ("FW1010", 2, 0, OVERHEAD, 0, 0),
        ("FW1030", 3, 0, OVERHEAD, 0, 0),
        ("FW1050", 3, 0, OVERHEAD, 65536, 0),
        ("FW1060", 3, 0, OVERHEAD, 65536, 0),
        ("FW1110", 3, 0x10, OVERHEAD, 131072, 1 << 63),
        ("NEXT", 3, 0x18, OVERHEAD, 131072, 1 << 63),
    ],
)
def test_each_level_tells_what_it_has(
    level: str, version: int, flags: int, overhead: int, large: int, wrapping: int
) -> None:
    """R-74: The fields have the level's values; what an older level lacks is 0.

    Flag 0x10 stands for WRAP and UNWRAP, 0x08 for REVOKE and UNREVOKE.
    """
    config = Guest(make_partition(level)).config()
    assert (config.version, config.flags, config.overhead) == (version, flags, overhead)
    assert (config.large, config.wrapping) == (large, wrapping)
    assert config.policies == (0x7F80_0000 if flags else 0x7F00_0000)


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
def test_features_are_told_with_their_calls_only(level: str) -> None:
    """R-74: A flag, an algorithm or a wrapping feature is reported exactly if the level has its call."""
    guest = Guest(make_partition(level))
    config = guest.config()
    for opcode, feature in (
        (Opcode.WRAP_OBJECT, config.flags & 0x10),
        (Opcode.UNWRAP_OBJECT, config.wrapping),
        (Opcode.REVOKE_OBJECT, config.flags & 0x8),
        (Opcode.UNREVOKE_OBJECT, config.flags & 0x8),
        (Opcode.SIGNED_UPDATE, config.algorithms),
    ):
        assert (guest.send(lay_out(opcode).frame()) != Answer(-2)) == bool(feature)


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
@pytest.mark.parametrize("kbytes", [4, 5, 63, 64])
def test_linux_finds_the_config_sane(level: str, kbytes: int) -> None:
    """R-07, R-74: Linux's four tests of the block pass, and the size is that of the console."""
    config = Guest(make_partition(level, kbytes)).config()
    assert config.password >= 32
    assert 255 <= config.label <= 0x7FFF
    assert config.total == kbytes * 1024 >= 4096
    if config.version >= 3 and config.large >= 65536:
        assert config.object == 0xFFFF
    else:
        assert config.object == min(config.total, 0xFFFF)


def test_a_short_block_is_the_start_of_the_long_one() -> None:
    """R-07: The used space is in the first 24 bytes of the block, so every caller gets it."""
    guest = Guest(make_partition())
    guest.write(3, b"label", b"12345678")
    for length in (24, 32, 512, 520):
        block = guest.do(Opcode.GET_CONFIG, config=length).written
        assert parse_config(block).used == 5 + 8 + OVERHEAD
