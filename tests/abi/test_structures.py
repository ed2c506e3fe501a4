"""The structures that h-calls have in guest memory, compared with plain `struct`, and damaged."""

import struct

import pytest
from construct import ConstructError
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.efi import EfiTime, parse_update
from hcall_abi.errors import PeerError, RuleBroken
from hcall_abi.layout import LayoutMismatch
from hcall_abi.rules import updates as update_rules
from hcall_abi.rules.rule import Rule
from hcall_abi.structures import (
    AUTH_BLOCK,
    AUTH_LAYOUT,
    LABEL_HEADER,
    Config,
    build_auth,
    build_config,
    build_label_entry,
    parse_config,
    parse_label_list,
)
from hcall_abi.variables import signed_bytes, wide
from tests.abi.strategies import damaged, u8, u16, u32, u64

configs = st.builds(Config, st.sampled_from([1, 2, 3]), u8, u16, u16, u16, u16, u32, u32, u32, u32, u64, u64)
SINCE = {
    "object_overhead": 2,
    "max_large_object_size": 3,
    "signed_update_algorithms": 3,
    "wrapping_features": 3,
}


def expressed(config: Config) -> Config:
    """Return the config with 0 in each field that its version of the block does not have."""
    missing = {name: 0 for name, since in SINCE.items() if config.version < since}
    return config._replace(**missing)


def plain(config: Config) -> bytes:
    """Return the config block of 520 bytes, made with `struct` alone."""
    return struct.pack(">BBHHHHHIIIIQQ476x", *config[:2], 0, *config[2:])


@given(configs)
def test_config_block(config: Config) -> None:
    """Versions 1, 2 and 3 encode to the bytes of plain struct, and decode back."""
    block = build_config(config)
    assert block == plain(expressed(config))
    assert len(block) == 520
    assert parse_config(block) == expressed(config)


@pytest.mark.parametrize("length", [24, 32, 44, 512, 520])
@given(config=configs)
def test_config_buffers_that_callers_use(length: int, config: Config) -> None:
    """A block that is cut to a common buffer size reads the same, except for fields beyond its end."""
    read = parse_config(build_config(config)[:length])
    assert read == (
        expressed(config)
        if length >= 44
        else parse_config(plain(expressed(config))[:length].ljust(520, b"\0"))
    )
    assert read[:9] == expressed(config)[:9]


def test_golden_config_blocks() -> None:
    """Fixed bytes: one config block of each version."""
    config = Config(3, 0x10, 32, 64, 255, 0xFFFF, 65536, 1234, 0x7F800000, 131072, 0xC << 60, 8 << 60)
    head = (
        "0310 0000 0020 0040 00ff ffff 00010000 000004d2 7f800000 00020000 c000000000000000 8000000000000000"
    )
    assert build_config(config)[:44].hex() == head.replace(" ", "")
    assert build_config(config)[44:] == bytes(476)
    second = "0210 0000 0020 0040 00ff ffff 00010000 000004d2 7f800000"
    assert build_config(config._replace(version=2))[:24].hex() == second.replace(" ", "")
    assert build_config(config._replace(version=2))[24:] == bytes(496)
    first = "0110 0000 0000 0040 00ff ffff 00010000 000004d2 7f800000"
    assert build_config(config._replace(version=1))[:24].hex() == first.replace(" ", "")


@pytest.mark.parametrize("length", [0, 1, 23, 521])
def test_config_lengths_out_of_range(length: int) -> None:
    """A block that is shorter than the fields of version 1, or longer than 520 bytes, is refused."""
    with pytest.raises(PeerError):
        parse_config(bytes([3]).ljust(length, b"\0")[:length])


@pytest.mark.parametrize("version", [0, 4, 255])
def test_unknown_config_versions(version: int) -> None:
    """A block whose version has no description is refused."""
    with pytest.raises(PeerError, match="config block"):
        parse_config(bytes([version]).ljust(520, b"\0"))


RESERVED = {1: [2, 3, 4, 5, *range(24, 520)], 2: [2, 3, *range(24, 520)], 3: [2, 3, *range(44, 520)]}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_reserved_byte_of_the_config_block(version: int) -> None:
    """If a reserved byte is not 0, the block is refused. Every other byte belongs to a field."""
    block = build_config(Config(version, *[0] * 11))
    for at in range(1, 520):
        injured = block[:at] + b"\1" + block[at + 1 :]
        if at in RESERVED[version]:
            with pytest.raises(PeerError):
                parse_config(injured)
        else:
            assert parse_config(injured) != parse_config(block)


@given(damaged(configs.map(build_config)))
def test_damaged_config_blocks(data: bytes) -> None:
    """A damaged block is refused, or its config encodes to the same bytes."""
    try:
        config = parse_config(data)
    except PeerError:
        return
    assert build_config(config)[: len(data)] == data


# Authorization block


@given(u8, st.binary(max_size=80))
def test_authorization_block(consumer: int, password: bytes) -> None:
    """An authorization block has version 1, consumer, 12 reserved bytes, password length, password."""
    block = build_auth(consumer, password)
    assert block == struct.pack(">BB12xH", 1, consumer, len(password)) + password
    read = AUTH_BLOCK.parse(block)
    assert (read.head.consumer, read.password) == (consumer, password)
    assert AUTH_LAYOUT.unpack(block) == (consumer, len(password))


@pytest.mark.parametrize("at", [0, *range(2, 14)])
def test_reserved_bytes_of_the_authorization_block(at: int) -> None:
    """Both decoders refuse another version, and a reserved byte that is not 0."""
    block = bytearray(build_auth(3, b"secret"))
    block[at] ^= 0x40
    with pytest.raises(ConstructError):
        AUTH_BLOCK.parse(bytes(block))
    with pytest.raises(LayoutMismatch):
        AUTH_LAYOUT.unpack(bytes(block))


@pytest.mark.parametrize("block", [build_auth(3, b"secret")[:-1], build_auth(3, b"secret") + b"x", b""])
def test_lengths_of_the_authorization_block(block: bytes) -> None:
    """A block is refused unless its password ends at its last byte."""
    with pytest.raises(ConstructError):
        AUTH_BLOCK.parse(block)


# Labels


def test_label_header() -> None:
    """A label header has prefix, version 0, OS, length 16 and five zeros, as Linux writes it."""
    golden = b"PLPKSWR\0" + bytes([0, 0x02, 16]) + bytes(5)
    assert LABEL_HEADER.build({"prefix": b"PLPKSWR\0", "os": 2}) == golden
    read = LABEL_HEADER.parse(golden)
    assert (read.prefix, read.os, read.length) == (b"PLPKSWR\0", 2, 16)
    for at in (8, 10, *range(11, 16)):
        with pytest.raises(ConstructError):
            LABEL_HEADER.parse(golden[:at] + b"\7" + golden[at + 1 :])
    with pytest.raises(ConstructError):
        LABEL_HEADER.parse(golden[:-1])


labels = st.lists(st.binary(max_size=255), max_size=12)


@given(labels)
def test_label_list(items: list[bytes]) -> None:
    """A label list has entries without padding. Each is a 16-bit length and a label."""
    data = b"".join(struct.pack(">H", len(item)) + item for item in items)
    assert b"".join(map(build_label_entry, items)) == data
    assert parse_label_list(data, len(items)) == items


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5), st.integers(1, 30))
def test_broken_label_lists(items: list[bytes], cut: int) -> None:
    """A list with too few bytes, too many, or a wrong count is refused."""
    data = b"".join(map(build_label_entry, items))
    for broken, count in ((data[:-cut], len(items)), (data + b"x", len(items)), (data, len(items) + 1)):
        with pytest.raises(PeerError, match="label list"):
            parse_label_list(broken, count)
    with pytest.raises(PeerError):
        parse_label_list(data, len(items) - 1)


@pytest.mark.parametrize(
    "size,rule", [(39, update_rules.UPDATE_HEADER), (40, update_rules.UPDATE_PART_LENGTH)]
)
def test_a_payload_is_judged_from_its_whole_header_on(size: int, rule: Rule) -> None:
    """R-36: a payload shorter than a header breaks one rule; a header of zeros breaks another rule."""
    with pytest.raises(RuleBroken) as caught:
        parse_update(bytes(size))
    assert caught.value.rule is rule


@pytest.mark.parametrize(
    "append,attributes", [(False, "27000000"), (True, "67000000")], ids=["set", "append"]
)
def test_a_signature_covers_the_documented_bytes(append: bool, attributes: str) -> None:
    """R-70: a signature covers name, vendor, attributes, time and contents, as tools of UEFI sign them."""
    vendor = "cbb219d73a3d9645a3bcdad00e67656f"
    time = "ea07 0b 1a 06 35 24 00 00000000 0000 00 00"
    signed = signed_bytes(wide("db"), EfiTime(2026, 11, 26, 6, 53, 36), b"contents", append=append)
    assert signed == bytes.fromhex("64006200" + vendor + attributes + time) + b"contents"
