"""The Noise pattern of the mobility channel: golden conversations, a second implementation, and forgeries."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hcall_server.mobility.noise import (
    LAST_NONCE,
    MAX_TEXT,
    Cipher,
    Ciphers,
    Handshake,
    NotProven,
)
from tests.mobility import make_vectors, second

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "noise"
VECTORS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
TOKEN, PROLOGUE = bytes(range(32)), make_vectors.prologue()
KEYS = bytes([1] * 32), bytes([2] * 32)


def pair(token: bytes = TOKEN, prologue: bytes = PROLOGUE) -> tuple[Handshake, Handshake]:
    """Return both ends of a handshake; `token` and `prologue` are those of the answering end."""
    return Handshake(True, TOKEN, PROLOGUE, KEYS[0]), Handshake(False, token, prologue, KEYS[1])


def opened() -> tuple[Ciphers, Ciphers]:
    """Return the ciphers of both ends, after a handshake that succeeds."""
    opener, answerer = pair()
    answerer.read_first(opener.write_first())
    opener.read_second(answerer.write_second())
    assert opener.hash == answerer.hash
    return opener.split(), answerer.split()


def test_the_files_are_what_they_say() -> None:
    """R-51: each golden conversation is the output of the second implementation."""
    assert set(VECTORS) == set(make_vectors.CASES)
    for name, vector in VECTORS.items():
        assert vector == make_vectors.vector(name)


@pytest.mark.parametrize("name", VECTORS)
def test_the_package_makes_the_golden_conversations(name: str) -> None:
    """R-51: our code makes the golden messages from the same token, prologue and ephemeral keys."""
    golden: dict[str, Any] = VECTORS[name]
    expected = {
        each: bytes.fromhex(golden[each]) for each in ("token", "prologue", "first", "second", "hash")
    }
    ends = [
        Handshake(opens, expected["token"], expected["prologue"], bytes.fromhex(golden[f"{role}_ephemeral"]))
        for opens, role in ((True, "opener"), (False, "answerer"))
    ]
    assert ends[0].write_first() == expected["first"]
    ends[1].read_first(expected["first"])
    assert ends[1].write_second() == expected["second"]
    ends[0].read_second(expected["second"])
    assert ends[0].hash == ends[1].hash == expected["hash"]
    count, length = make_vectors.CASES[name]
    texts = [make_vectors.fixed(f"{name} text {number}", length) for number in range(count)]
    assert hashlib.sha256(b"".join(texts)).hexdigest() == golden["texts_sha256"]
    ours, theirs = ends[0].split(), ends[1].split()
    for sender, receiver, row in ((ours, theirs, "opener_sends"), (theirs, ours, "answerer_sends")):
        sent = [sender.send.encrypt(each) for each in texts]
        assert [hashlib.sha256(each).hexdigest() for each in sent] == golden[f"{row}_sha256"]
        assert [receiver.receive.decrypt(each) for each in sent] == texts


@pytest.mark.parametrize("opens", [True, False])
def test_it_understands_another_implementation(opens: bool) -> None:
    """R-51: our code completes the handshake with `noiseprotocol`, in both roles."""
    ours, theirs = Handshake(opens, TOKEN, PROLOGUE, KEYS[0]), second.end(not opens, TOKEN, PROLOGUE)
    if opens:
        second.read(theirs, ours.write_first())
        ours.read_second(second.write(theirs))
    else:
        ours.read_first(second.write(theirs))
        second.read(theirs, ours.write_second())
    assert second.hash_of(theirs) == ours.hash
    ciphers = ours.split()
    for number in range(3):
        text = bytes([number]) * (MAX_TEXT if number == 1 else number)
        assert second.decrypt(theirs, ciphers.send.encrypt(text)) == text
        assert ciphers.receive.decrypt(second.encrypt(theirs, text)) == text


@pytest.mark.parametrize(
    "token,prologue", [(bytes(32), PROLOGUE), (TOKEN, PROLOGUE[:-1] + b"\0")], ids=["token", "prologue"]
)
def test_the_first_message_tells_another_token_and_another_attempt(token: bytes, prologue: bytes) -> None:
    """R-51: an end without the token of exactly this attempt is refused, and gets no answer."""
    opener, answerer = pair(token, prologue)
    with pytest.raises(NotProven):
        answerer.read_first(opener.write_first())


def _flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda message: message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "key": _flipped(0),
    "tag": _flipped(-17 + 48),
    "end": _flipped(47),
    "short": lambda message: message[:-1],
    "long": lambda message: message + b"\0",
    "empty": lambda _: b"",
    "low order": lambda message: bytes(32) + message[32:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_handshake_opens_nothing(damage: Callable[[bytes], bytes]) -> None:
    """R-51: if any byte of a handshake message is damaged, the handshake fails."""
    opener, answerer = pair()
    first = opener.write_first()
    with pytest.raises(NotProven):
        pair()[1].read_first(damage(first))
    answerer.read_first(first)
    with pytest.raises(NotProven):
        opener.read_second(damage(answerer.write_second()))


def test_the_keys_of_one_side_do_not_open_its_own_messages() -> None:
    """R-51: a message that is sent back to its sender is refused."""
    opener, _ = pair()
    with pytest.raises(NotProven):
        opener.read_second(opener.write_first())
    ciphers, _ = opened()
    with pytest.raises(NotProven):
        ciphers.receive.decrypt(ciphers.send.encrypt(b"mine"))


def test_messages_come_once_and_in_their_order() -> None:
    """R-51: a repeated, later or shortened message is refused. The next right message is still accepted."""
    ours, theirs = opened()
    first, later = ours.send.encrypt(b"1"), ours.send.encrypt(b"2")
    for wrong in (later, first[:-1], first + b"\0", b""):
        with pytest.raises(NotProven):
            theirs.receive.decrypt(wrong)
    assert theirs.receive.decrypt(first) == b"1"
    with pytest.raises(NotProven):
        theirs.receive.decrypt(first)
    assert theirs.receive.decrypt(later) == b"2"


def test_each_connection_has_its_own_keys() -> None:
    """R-51: each connection has other keys for its messages, even with the same token."""
    ours, _ = opened()
    opener, answerer = Handshake(True, TOKEN, PROLOGUE, KEYS[1]), Handshake(False, TOKEN, PROLOGUE, KEYS[0])
    answerer.read_first(opener.write_first())
    opener.read_second(answerer.write_second())
    with pytest.raises(NotProven):
        answerer.split().receive.decrypt(ours.send.encrypt(b"1"))


def test_no_nonce_is_used_twice() -> None:
    """R-51: when the nonces of a direction are used up, no message is sent or accepted any more."""
    cipher = Cipher(bytes(32))
    vars(cipher)["_next"] = LAST_NONCE
    for use in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(OverflowError):
            use(b"")


def test_nothing_secret_is_shown() -> None:
    """No text of a handshake or cipher shows a key, and no error quotes a token."""
    ours, _ = opened()
    assert repr(pair()[0]) == "Handshake(opens)"
    assert repr(ours.send) == "Cipher(0 messages)"
    with pytest.raises(ValueError, match="32 bytes") as caught:
        Handshake(True, b"secret", PROLOGUE, KEYS[0])
    assert "secret" not in str(caught.value)
