"""A system as the console names it: the rule for its name, and type, model and serial number."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.console import is_partition_name, is_system_name
from hcall_server.platform.identity import machine_type_serial

NAMES = ("s", "9", "Server-9105-22A", "lab 2", "a  b", "a.b_c-d", "n" * 31, "control", "a .")
NO_NAMES = (
    "", " ", " a", "a ", "-a", ".a", "n" * 32, "a\n", "a\tb", "a\u00a0b", "büro", "a,b", 'a"b', "a:b", "a/b",
    "9105-22A*1234567", "a\0", "٣",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_system_can_have_this_name(name: str) -> None:
    """A name has at most 31 letters, digits, dots, underscores, hyphens, and blanks between them."""
    assert is_system_name(name)


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_system_cannot_have_this_name(name: str) -> None:
    """A name with a separator of the console, a blank at an end, or a character outside ASCII is refused."""
    assert not is_system_name(name)


@given(st.text("ab 9.-_*,", max_size=34))
def test_the_names_of_partitions_and_systems_differ_in_blanks(name: str) -> None:
    """A name of a system is a partition's name that may have blanks inside."""
    rule = len(name) <= 31 and name == name.strip() and is_partition_name(name.replace(" ", ""))
    assert is_system_name(name) == rule


@given(st.binary(min_size=16, max_size=16))
def test_type_model_and_serial_number_come_from_the_id(system_id: bytes) -> None:
    """spec/choices.md: The serial number is the digest of the system id in base 36, with seven digits."""
    shown = machine_type_serial(system_id)
    assert re.fullmatch(r"9105-22A\*[0-9A-Z]{7}", shown)
    digest = int.from_bytes(hashlib.sha256(system_id).digest(), "big")
    assert int(shown[9:], 36) == digest % 36**7
    assert not is_system_name(shown)


def test_a_known_serial_number_stays() -> None:
    """The serial number of this system id never changes, because users' scripts contain it."""
    assert machine_type_serial(bytes(range(16))) == "9105-22A*PXLMAVL"
