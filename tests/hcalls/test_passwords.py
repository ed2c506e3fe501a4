"""SET_PASSWORD and GEN_PASSWORD, and how long a password is valid."""

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.levels import KEYSTORE_LEVELS
from tests.guest import CONSUMERS, Answer, Guest, make_partition

H_AUTHORITY, H_IN_USE = -10, -77
LONGEST = {name: level.max_password_size for name, level in KEYSTORE_LEVELS.items()}


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
def test_a_chosen_password_has_1_to_the_maximum_bytes(level: str) -> None:
    """R-05: SET_PASSWORD accepts 1 byte and the maximum. Afterwards the password is required."""
    for password in (b"x", b"y" * LONGEST[level]):
        guest = Guest(make_partition(level))
        assert guest.set_password(3, password) == Answer(0)
        assert guest.write(3, b"label", b"data", password=password) == Answer(0)
        assert guest.write(3, b"another", b"data") == Answer(H_AUTHORITY)
    for password in (b"", b"z" * (LONGEST[level] + 1)):
        guest = Guest(make_partition(level))
        assert guest.set_password(3, password) == Answer(-57)
        assert guest.write(3, b"label", b"data") == Answer(0)


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
def test_a_generated_password_fills_the_whole_length(level: str) -> None:
    """R-05: GEN_PASSWORD returns exactly the requested number of bytes, from 32 to the maximum."""
    for length in {32, LONGEST[level] - 1, LONGEST[level]} - {31}:
        guest = Guest(make_partition(level))
        status, r4, r5, password = guest.gen_password(3, length)
        assert (status, r4, r5, len(password)) == (0, 0, 0, length)
        assert guest.write(3, b"label", b"data", password=password) == Answer(0)
        assert guest.read(3, b"label") == Answer(H_AUTHORITY)
    for length in (0, 1, 31, LONGEST[level] + 1):
        assert Guest(make_partition(level)).gen_password(3, length) == Answer(-57)


@pytest.mark.parametrize("opcode", [Opcode.SET_PASSWORD, Opcode.GEN_PASSWORD])
@pytest.mark.parametrize("consumer", [0, 4, 255, 256 + 3, 2**32 + 3, 2**64 - 1])
def test_there_are_three_consumers(opcode: Opcode, consumer: int) -> None:
    """R-03: A consumer number above 3 in r4 is refused with H_PARAMETER, also if its low byte is valid."""
    value: int | bytes = b"p" * 32 if opcode is Opcode.SET_PASSWORD else 32
    assert Guest(make_partition()).do(opcode, consumer=consumer, password=value) == Answer(-4)


@pytest.mark.parametrize("reserved", [1, 1 << 63])
def test_r5_is_zero(reserved: int) -> None:
    """A value in r5 other than 0 is refused with H_P2, because the meaning of r5 is not public."""
    guest = Guest(make_partition())
    assert guest.do(Opcode.SET_PASSWORD, consumer=3, reserved=reserved, password=b"p") == Answer(-55)
    assert guest.do(Opcode.GEN_PASSWORD, consumer=3, reserved=reserved, password=32) == Answer(-55)
    assert guest.write(3, b"label", b"data") == Answer(0)


@pytest.mark.parametrize("first", ["set", "generate"])
def test_a_password_is_made_once_in_an_ipl(first: str) -> None:
    """R-04, R-05: A second password in one IPL is refused with H_IN_USE, and the first stays valid."""
    guest = Guest(make_partition())
    password = b"chosen" if first == "set" else guest.gen_password(3).written
    if first == "set":
        assert guest.set_password(3, password) == Answer(0)
    for again in (guest.set_password(3, b"another"), guest.set_password(3, password), guest.gen_password(3)):
        assert again == Answer(H_IN_USE)
    assert guest.write(3, b"label", b"data", password=b"another") == Answer(H_AUTHORITY)
    assert guest.write(3, b"label", b"data", password=password) == Answer(0)


def test_each_consumer_has_its_own_password() -> None:
    """R-03: The password of one consumer gives no access to another's objects and does not lock them."""
    guest = Guest(make_partition())
    for consumer in CONSUMERS:
        assert guest.set_password(consumer, b"word of %d" % consumer) == Answer(0)
        for other in CONSUMERS:
            password = b"word of %d" % other if other <= consumer else b""
            assert guest.write(other, b"label %d" % consumer, b"data", password=password) == Answer(0)
            stranger = b"word of %d" % (other % 3 + 1)
            assert guest.read(other, b"label %d" % consumer, password=stranger) == Answer(H_AUTHORITY)


def test_an_ipl_resets_all_three_passwords() -> None:
    """R-04: After an IPL, the NULL password is valid, old passwords are wrong, and new ones can be set."""
    guest = Guest(make_partition())
    for consumer in CONSUMERS:
        guest.set_password(consumer, b"old")
        guest.write(consumer, b"label", b"data", password=b"old")
    guest.ipl()
    for consumer in CONSUMERS:
        assert guest.read(consumer, b"label", password=b"old") == Answer(H_AUTHORITY)
        assert guest.read(consumer, b"label") == Answer(0, 4, 0, b"data")
        assert guest.set_password(consumer, b"new") == Answer(0)
        assert guest.read(consumer, b"label", password=b"new").status == 0


def test_a_power_cycle_is_an_ipl() -> None:
    """R-04: After power-off and power-on no password is set."""
    guest = Guest(make_partition())
    guest.set_password(3, b"old")
    guest.partition.power_off()
    guest.partition.power_on()
    assert guest.write(3, b"label", b"data") == Answer(0)


def test_kexec_is_no_ipl() -> None:
    """R-06: kexec is no IPL: the next kernel needs the old password, and is locked out without it."""
    guest = Guest(make_partition())
    handed_on = guest.gen_password(3).written
    guest.write(3, b"label", b"data", password=handed_on)
    after_kexec = Guest(guest.partition)
    assert after_kexec.gen_password(3) == Answer(H_IN_USE)
    assert after_kexec.read(3, b"label") == Answer(H_AUTHORITY)
    assert after_kexec.read(3, b"label", password=handed_on) == Answer(0, 4, 0, b"data")


def test_generated_passwords_differ() -> None:
    """R-05: Three consumers in two IPLs get six different passwords."""
    guest = Guest(make_partition())
    made = {guest.gen_password(consumer).written for consumer in CONSUMERS}
    guest.ipl()
    made |= {guest.gen_password(consumer).written for consumer in CONSUMERS}
    assert len(made) == 6


def test_a_password_reaches_no_image() -> None:
    """R-04: Passwords are not in the image. Setting one leaves nothing for NVRAM to store."""
    guest = Guest(make_partition())
    store = guest.partition.keystore
    assert store is not None
    before = (store.contents.snapshot(), guest.partition.profile)
    guest.set_password(1, b"firmware's word")
    guest.gen_password(3)
    assert (store.contents.snapshot(), guest.partition.profile) == before
    assert not store.contents.dirty
