"""No password, proof or object data appears in the text of a frame or an error."""

import pytest

from hcall_abi.codec import ProtocolError, decode, encode
from hcall_abi.errors import OperatorError, PeerError, StorageError, SwpksError
from hcall_abi.frames import Frame, FrameType, Goodbye, HCall, HReturn, Open, Opened, Segment, Write
from hcall_abi.rules import console, protocol, storage
from hcall_abi.rules.rule import Fault, Rule
from hcall_abi.session import complaint
from hcall_abi.structures import build_auth, parse_config, parse_label_list
from tests.abi.sessions import HELLO, ZEROS, pair

CANARY = b"Canary-in-the-coal-mine-32-bytes"
SECRET_FRAMES: list[Frame] = [
    Open(1, 1, 1, CANARY, CANARY, "client"),
    Opened(1, 0, 1, 1, CANARY, "FW1110"),
    HCall(1, 0x42C, (int.from_bytes(CANARY[:8], "big"),) * 9, (Segment.read(0x1000, build_auth(3, CANARY)),)),
    HReturn(1, 0, ZEROS, (Write(0x1000, CANARY),)),
]


def hides(text: str) -> bool:
    """Return whether a text has no part of the canary: not as text, and not in hex or decimal."""
    shapes = (CANARY[:8].decode(), CANARY[:8].hex(), str(int.from_bytes(CANARY[:8], "big")), "43616e61")
    return not any(shape.lower() in text.lower() for shape in shapes)


@pytest.mark.parametrize("frame", SECRET_FRAMES, ids=[type(frame).__name__ for frame in SECRET_FRAMES])
def test_frames(frame: Frame) -> None:
    """Frames hide secrets in repr, str and format, alone and inside a list."""
    for text in (repr(frame), str(frame), f"{frame}", repr([frame])):
        assert hides(text)
    parts = [*getattr(frame, "segments", ()), *getattr(frame, "writes", ())]
    assert all(hides(repr(part)) for part in parts)
    assert type(frame).__name__ in repr(frame)


@pytest.mark.parametrize("frame", SECRET_FRAMES, ids=[type(frame).__name__ for frame in SECRET_FRAMES])
def test_errors_of_damaged_frames(frame: Frame) -> None:
    """The error of a refused body shows none of the body's bytes. Its cause does not show them either."""
    kind, body = FrameType[type(frame).__name__.upper()], encode(frame)[16:]
    for damaged in (body[:-1], body + CANARY, body[:40] + CANARY + body[40:]):
        with pytest.raises(ProtocolError) as caught:
            decode(kind, 1, damaged, 0, len(damaged))
        assert hides(str(caught.value))
        assert hides(complaint(caught.value).text)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "kind,rule", [(2, protocol.OPEN_NAME), (3, protocol.OPENED_LEVEL), (6, protocol.GOODBYE_TEXT)]
)
def test_errors_of_texts_that_are_no_utf8(kind: int, rule: Rule) -> None:
    """For a text that is no UTF-8, the error names the field.

    Construct's error, which has the bytes, is hidden.
    """
    fixed = {2: bytes(68), 3: bytes(44), 6: bytes(4)}[kind]
    body = fixed + bytes([len(CANARY) + 1]) + CANARY + b"\xff"
    with pytest.raises(ProtocolError) as caught:
        decode(kind, 1, body, 0, len(body))
    assert caught.value.rule is rule
    assert hides(str(caught.value))
    assert caught.value.__suppress_context__


def test_sessions() -> None:
    """The repr of a session that has half a secret frame does not show the frame."""
    server, client = pair()
    server.receive_data(client.send(SECRET_FRAMES[2])[:-3])
    assert list(server.events()) == []
    assert hides(repr(server))
    server.receive_data(CANARY)
    assert hides(repr(server))


def test_structures() -> None:
    """The error for a damaged config block or label list shows none of its bytes."""
    for read in (lambda: parse_config(CANARY), lambda: parse_label_list(CANARY, 3)):
        with pytest.raises(PeerError) as caught:
            read()
        assert hides(str(caught.value))


def test_the_shape_of_errors() -> None:
    """An error has the fault, the rule and the page as attributes, and in its text."""
    for kind, rule in (
        (PeerError, protocol.FRAME_WHOLE),
        (OperatorError, console.SIZE_SHRINKS),
        (StorageError, storage.SEALED_KIND),
    ):
        error: SwpksError = kind(rule, "what")
        assert (error.fault, error.message, error.rule) == (rule.fault, "what", rule)
        reason = f"{rule.fault.value} fault; rule {rule.id}: {rule.sentence}; see {rule.page}"
        assert str(error) == f"what [{reason}]"
    assert {fault.value for fault in Fault} == {"guest", "peer", "operator", "storage", "internal"}
    numbered = OperatorError(console.SIZE_IN_USE, "what")
    assert str(numbered).startswith("HSCL0DC8: what [operator fault; rule size.in-use: ")


def test_what_is_public_is_shown() -> None:
    """Names and reasons, which are public, are shown."""
    assert "server" in repr(HELLO)
    assert "stopping" in repr(Goodbye(4, "stopping"))
