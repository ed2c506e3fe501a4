"""Register maps, parsed from target.xml with the peculiarities of QEMU."""

import pytest

from swpks.qemu.errors import StubError
from swpks.qemu.registers import GuestRegister, included, is_little_endian, register_map

TARGET = b"""<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>
<architecture>powerpc:common64</architecture><xi:include href="core.xml"/>
<xi:include href="spr.xml"/></target>"""
CORE = b"""<?xml version="1.0"?><!DOCTYPE feature SYSTEM "gdb-target.dtd"><feature name="core">
<reg name="r0" bitsize="64" type="uint64"/><reg name="r1" bitsize="64"/>
<reg name="pc" bitsize="64" type="code_ptr" regnum="64"/><reg name="msr" bitsize="64"/>
<reg name="cr" bitsize="32"/><reg name="lr" bitsize="64"/></feature>"""
SPECIAL = (
    b'<feature name="spr"><reg name="xer" bitsize="64" regnum="70"/><reg name="lr" bitsize="64"/></feature>'
)


def test_an_undeclared_prefix_is_read() -> None:
    assert included(TARGET) == ["core.xml", "spr.xml"]


def test_numbers_go_on_from_the_one_that_is_told_and_the_first_of_a_name_counts() -> None:
    found = register_map([CORE, SPECIAL])
    assert found["r1"] == GuestRegister(1, 8)
    assert found["pc"] == GuestRegister(64, 8)
    assert found["cr"] == GuestRegister(66, 4)
    assert found["lr"] == GuestRegister(67, 8)
    assert found["xer"] == GuestRegister(70, 8)


@pytest.mark.parametrize("document", [b"<target>", b"", b'<f><reg name="r0" bitsize="many"/></f>'], ids=repr)
def test_what_describes_no_register(document: bytes) -> None:
    with pytest.raises(StubError, match="the stub describes"):
        register_map([document])


@pytest.mark.parametrize("msr", [0x8000000000001033, 0x8000000002001001, 0x1, 0x9000000000001033])
def test_the_order_of_bytes_follows_msr(msr: int) -> None:
    assert is_little_endian(msr.to_bytes(8, "little"))
    assert not is_little_endian((msr & ~1).to_bytes(8, "big"))
