"""The trusted system key as a value: made, read from a file, compared, and never shown."""

import hmac

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup as rules
from hcall_server.platform.trusted_key import TrustedSystemKey

SECRET = b"CANARY-trusted-key-56789abcdefgh"
KEY = TrustedSystemKey(SECRET)


def test_a_new_key_is_32_random_bytes() -> None:
    """A new key has 32 bytes of entropy. A source that returns another number is refused."""
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return SECRET[:count]

    assert TrustedSystemKey.make(entropy).secret == SECRET
    assert asked == [32]


def test_a_key_comes_from_a_file_of_32_bytes() -> None:
    """The bytes of the file are the key, whatever their values."""
    assert TrustedSystemKey.of_file(SECRET) == KEY
    assert TrustedSystemKey.of_file(bytes(32)).secret == bytes(32)


@pytest.mark.parametrize("content", [b"", SECRET[:-1], SECRET + b"\n", SECRET.hex().encode()])
def test_a_file_of_another_length_is_refused(content: bytes) -> None:
    """A file of another length is refused. The error has both lengths and no content of the file."""
    with pytest.raises(OperatorError, match=f"has {len(content)} bytes, not 32") as caught:
        TrustedSystemKey.of_file(content)
    assert caught.value.rule is rules.TRUSTED_KEY_FILE
    assert "CANARY" not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_the_wrong_size_is_a_mistake_of_the_caller(length: int) -> None:
    """A key of another length raises ValueError."""
    with pytest.raises(ValueError, match="32 bytes"):
        TrustedSystemKey(bytes(length))


def test_the_id_is_public_and_of_this_key() -> None:
    """Equal keys have equal ids of 8 bytes, and an id does not reveal its key."""
    assert KEY.id == hmac.digest(SECRET, b"swpks tsk id 1", "sha256")[:8]
    assert TrustedSystemKey(bytes(32)).id != KEY.id


def test_keys_compare_by_their_bytes() -> None:
    """Keys are equal if their bytes are, and then they are one member of a set."""
    assert TrustedSystemKey(SECRET) == KEY
    assert {KEY, TrustedSystemKey(SECRET)} == {KEY}
    assert TrustedSystemKey(bytes(32)) != KEY
    assert KEY != SECRET
    assert KEY.id != KEY


def test_the_key_never_shows() -> None:
    """The text of a key has its id and no byte of it."""
    assert f"{KEY} {KEY!r}" == f"{KEY!r} TrustedSystemKey(id={KEY.id.hex()}, key hidden)"
