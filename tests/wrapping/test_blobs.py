"""Wrapped objects: no bit can be changed, no key is used twice with a nonce, no text shows the data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_server import wrapping
from hcall_server.keystore.key_ids import key_id_of
from hcall_server.keystore.keys import WrappingKey
from hcall_server.wrapping import DamagedObject, UnknownFormat, WrappedObjectError
from tests.wrapping import second
from tests.wrapping.second import LEAST_FLAGS

KEY, DATA = bytes(range(32)), b"something that stays secret"
WRAPPED = second.wrap(KEY, DATA)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_it_comes_back(key: bytes, salt: bytes, data: bytes) -> None:
    """R-71: a wrapped object is exactly 1024 bytes longer than its data, and unwraps to the same data."""
    wrapped = wrapping.wrap(key, key_id_of(key), LEAST_FLAGS, salt, data)
    assert len(wrapped) == len(data) + 1024
    assert wrapping.open_wrapped(key, wrapped) == data


def test_every_bit_counts() -> None:
    """R-71: if any bit of header, tag or ciphertext is flipped, the object does not unwrap."""
    for place in range(len(WRAPPED) * 8):
        spoilt = bytearray(WRAPPED)
        spoilt[place // 8] ^= 0x80 >> place % 8
        with pytest.raises(WrappedObjectError):
            wrapping.open_wrapped(KEY, bytes(spoilt))


@given(st.integers(0, len(WRAPPED) - 1), st.binary(max_size=40))
def test_neither_shorter_nor_longer(cut: int, more: bytes) -> None:
    """R-71: a wrapped object that is shorter or longer does not unwrap."""
    for wrong in (WRAPPED[:cut], WRAPPED[:cut] + more, WRAPPED + b"\0" + more):
        if wrong != WRAPPED:
            with pytest.raises(WrappedObjectError):
                wrapping.open_wrapped(KEY, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"SPKW",
        b"SPKX" + WRAPPED[4:],
        WRAPPED[:4] + b"\2" + WRAPPED[5:],
        WRAPPED[:15] + b"\2" + WRAPPED[16:],
    ],
    ids=["nothing", "too short for a level", "another magic", "another level", "another algorithm"],
)
def test_formats_that_are_not_known(wrong: bytes) -> None:
    """R-71: an unknown format gives another error than damage: the guest needs a newer hypervisor."""
    with pytest.raises(UnknownFormat):
        wrapping.read_header(wrong)


@pytest.mark.parametrize("place", [5, 6, 7, 68, 1007])
def test_reserved_bytes_are_zero(place: int) -> None:
    with pytest.raises(DamagedObject, match="reserved"):
        wrapping.read_header(WRAPPED[:place] + b"\1" + WRAPPED[place + 1 :])


def test_another_key_opens_nothing() -> None:
    with pytest.raises(DamagedObject, match="authenticate"):
        wrapping.open_wrapped(bytes(32), WRAPPED)


def test_a_short_key_or_salt_is_never_padded() -> None:
    """A key or a salt of fewer than 32 bytes is refused."""
    for key, salt in ((KEY[:31], bytes(32)), (KEY, bytes(31))):
        with pytest.raises(ValueError, match="32 bytes each"):
            wrapping.wrap(key, bytes(16), LEAST_FLAGS, salt, DATA)


def test_each_salt_makes_another_key() -> None:
    """R-71: with two salts, the same bytes give two objects that share only the clear part of the header."""
    other = wrapping.wrap(KEY, key_id_of(KEY), LEAST_FLAGS, b"t" * 32, DATA)
    assert other[1008:] != WRAPPED[1008:]
    assert other[:32] == WRAPPED[:32]


def test_no_text_shows_a_secret() -> None:
    """R-71: no text shows the key in any form, or the data."""
    key = WrappingKey(key_id_of(KEY), KEY)
    texts = [repr(key), str(key)]
    for wrong in (b"", WRAPPED[:-1], WRAPPED[:-1] + b"?"):
        with pytest.raises(WrappedObjectError) as caught:
            wrapping.open_wrapped(KEY, wrong)
        texts += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
    shown = "".join(texts)
    assert KEY.hex() not in shown
    assert repr(KEY) not in shown
    assert "stays secret" not in shown
