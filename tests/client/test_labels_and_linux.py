"""Labels with and without header; Linux's errno table, flush poll and sanity tests as data."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.levels import FW950, FW1110
from hcall_abi.statuses import Status
from hcall_abi.structures import OS_COMMON, OS_LINUX, Config
from hcall_client.guests import linux
from hcall_client.guests.labels import OsLabel, describe_label, label_of, os_label, parse_label
from tests.client.engine import Engine

CONFIG = Config(3, 0, 32, 64, 255, 0xFFFF, 65536, 0, 0x7F800000, 1 << 17, 3 << 62, 1 << 63)


# Labels


def test_the_header_byte_for_byte():
    """The SED key's label has the bytes that Linux writes (spec/structures.md)."""
    label = os_label("sed-opal", b"/default/pri\0", OS_COMMON)
    assert label == b"sed-opal" + bytes.fromhex("00 04 10 0000000000") + b"/default/pri\0"
    assert parse_label(label) == OsLabel(b"sed-opal", OS_COMMON, b"/default/pri\0")


@given(
    st.binary(max_size=8).filter(lambda b: not b.endswith(b"\0")),
    st.integers(0, 255),
    st.binary(max_size=239),
)
def test_labels_survive_being_taken_apart(component, os, name):
    assert parse_label(os_label(component, name, os)) == (component, os, name)


@pytest.mark.parametrize(
    "label", [b"", b"SB_VERSION", bytes(15), bytes(16), b"PLPKSWR\0\1\2\x10" + bytes(5) + b"x"]
)
def test_labels_without_the_header_are_raw(label):
    assert parse_label(label) is None


@pytest.mark.parametrize("component,os", [("ninebytes", OS_LINUX), ("x", 256), ("x", -1)])
def test_what_the_header_has_no_room_for(component, os):
    with pytest.raises(ValueError, match="at most 8 bytes"):
        os_label(component, "name", os)


@pytest.mark.parametrize(
    "label,text",
    [
        (b"SB_VERSION", "SB_VERSION"),
        (b"\0\1", "hex:0001"),
        (b"hex:00", "hex:6865783a3030"),
        ("ü".encode(), "hex:c3bc"),
        (os_label("PLPKSWR", "default-wrapping-key"), "PLPKSWR:default-wrapping-key (Linux)"),
        (os_label("", "PK".encode("utf-16le")), ":utf16:PK (Linux)"),
        (os_label("", "dbü".encode("utf-16le")), ":hex:64006200fc00 (Linux)"),
        (os_label("", b"P\0K"), ":hex:50004b (Linux)"),
        (os_label("", "utf16:PK"), ":hex:75746631363a504b (Linux)"),
        (os_label("a", "b", OS_COMMON), "a:b (common)"),
        (os_label("a", "b", 1), "a:b (OS 0x01)"),
    ],
)
def test_labels_for_people(label, text):
    assert describe_label(label) == text
    assert label_of(text) == label


PIECES = st.sampled_from(
    [
        b"hex:",
        b"utf16:",
        b"hex",
        b":",
        b" (Linux)",
        b" (common)",
        b" (OS 0x01)",
        b"a",
        b"P\0K\0",
        b"\n",
        b"0f",
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map(b"".join) | st.binary(max_size=40)
COMPONENTS = TEXTS.map(lambda text: text[:8].rstrip(b"\0"))


@given(TEXTS | st.builds(os_label, COMPONENTS, TEXTS, st.sampled_from([OS_LINUX, OS_COMMON, 0, 255])))
def test_the_text_of_a_label_leads_back_to_it(label):
    """No two labels have the same text, and a command accepts each text of `ls`."""
    assert label_of(describe_label(label)) == label


@pytest.mark.parametrize("text", ["hex:0", "a:hex:xy (Linux)", "ninebytes:x (Linux)"])
def test_texts_of_no_label(text):
    with pytest.raises(ValueError, match=r"is not in hexadecimal|at most 8 bytes"):
        label_of(text)


# Linux

NAMED = {
    "H_SUCCESS": 0,
    "H_FUNCTION": -6,
    "H_NOT_FOUND": -2,
    "H_BUSY": -16,
    "H_AUTHORITY": -1,
    "H_NO_MEM": -12,
    "H_RESOURCE": -17,
    "H_TOO_BIG": -27,
    "H_STATE": -5,
    "H_R_STATE": -5,
    "H_ABORTED": -5,
    "H_IN_USE": -17,
}


@pytest.mark.parametrize("status", list(Status), ids=lambda status: status.name)
def test_errno_of_every_status(status):
    """Each status has the errno of the driver, here written a second time in numbers."""
    busy = -16 if status.name.startswith("H_LONG_BUSY") else -22
    assert linux.LINUX_7_0.to_errno(status) == NAMED.get(status.name, busy)


def test_unknown_statuses_are_invalid():
    assert linux.LINUX_7_0.to_errno(-4711) == -errno.EINVAL


def test_continue_came_with_the_listing():
    from dataclasses import replace

    newer = replace(linux.LINUX_7_0, knows_continue=True)
    assert newer.to_errno(Status.H_CONTINUE) == -errno.EAGAIN
    assert linux.LINUX_7_0.to_errno(Status.H_CONTINUE) == -errno.EINVAL


@pytest.mark.parametrize(
    "error,seen",
    [
        (0, 0),
        (-errno.ETIMEDOUT, -errno.EINVAL),
        (-errno.ENOENT, -errno.ENXIO),
        (-errno.EBUSY, -errno.EEXIST),
        (-errno.EINVAL, -errno.EINVAL),
    ],
)
def test_the_wart_of_the_second_conversion(error, seen):
    """The table LINUX_7_0 converts errors of the flush poll a second time, as the driver does.

    The table WITHOUT_WARTS returns them unchanged.
    """
    assert linux.LINUX_7_0.poll_result(error) == seen
    assert linux.WITHOUT_WARTS.poll_result(error) == error


@pytest.mark.parametrize(
    "status,r4,end",
    [
        (0, 1, 0),
        (0, 0, None),
        (0, 2, None),
        (0, 0x101, 0),
        (Status.H_NOT_FOUND, 1, 0),
        (Status.H_NOT_FOUND, 0, Status.H_NOT_FOUND),
        (Status.H_BUSY, 0, Status.H_BUSY),
        (Status.H_AUTHORITY, 1, Status.H_AUTHORITY),
    ],
)
def test_one_step_of_the_flush_poll(status, r4, end):
    """R-20: Each answer to CONFIRM_OBJECT_FLUSHED has the meaning that Linux gives it."""
    assert linux.poll_step(status, r4) == end


@pytest.mark.parametrize(
    "change,words",
    [
        ({}, None),
        ({"max_password_size": 31}, "password"),
        ({"max_label_size": 254}, "label"),
        ({"max_label_size": 0x8000}, "label"),
        ({"total_size": 4095}, "total"),
        ({"max_object_size": 0xFFFE}, "max object size"),
        ({"max_object_size": 0xFFFE, "max_large_object_size": 65535}, None),
        ({"max_object_size": 0xFFFE, "version": 2}, None),
    ],
)
def test_sanity_tests_of_the_driver(change, words):
    found = linux.broken_limit(CONFIG._replace(**change))
    assert (words is None) == (found is None)
    assert (words or "") in (found or "")


@pytest.mark.parametrize("level,kbytes", [(FW950, 4), (FW950, 64), (FW1110, 4), (FW1110, 128)])
async def test_every_level_passes_the_sanity_tests(level, kbytes):
    """R-74: Linux starts on every emulated level at its smallest and its largest size."""
    config = await Engine(level.name, kbytes).limits()
    assert linux.broken_limit(config) is None
