"""Mutants whose frames, openings, arguments, order of checks or limits are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hcall_abi.calls import Opcode
from hcall_abi.codec import encode
from hcall_abi.frames import Frame, Goodbye, HCall, HReturn, Opened, Write
from tests.conformance.changes import (
    POSITIONS,
    S,
    answered,
    flip,
    goodbye,
    hello,
    opened,
    returned,
    status,
    when,
    written,
)
from tests.conformance.proxy import Answers, Mutant, Passing


def mutants() -> Iterator[Mutant]:
    """Yield the mutants of these chapters."""
    for chapter in (_frames, _openings, _sessions, _arguments, _order, _limits):
        yield from chapter()


def _frames() -> Iterator[Mutant]:
    yield goodbye("a broken frame gets GOODBYE 0", "frames", lambda frame: [frame._replace(reason=0)])
    yield goodbye("a broken frame gets no GOODBYE", "frames", lambda frame: [])
    yield goodbye("GOODBYE has a tag", "frames", lambda frame: [_patched(encode(frame), 11, 1)])
    yield goodbye("GOODBYE has a flag", "frames", lambda frame: [_patched(encode(frame), 6, 0x80)])
    yield goodbye("GOODBYE has another magic", "frames", lambda frame: [_patched(encode(frame), 3, 0x6C)])
    yield goodbye("GOODBYE has a byte left over", "frames", _longer)
    yield goodbye("a frame follows GOODBYE", "frames", lambda frame: [frame, frame])
    yield returned("HRETURN of a right frame is missing", "frames", lambda passing, frame: _dropped(passing))
    yield returned(
        "HRETURN has a reserved byte", "frames", lambda _, frame: [_patched(encode(frame), 16 + 83, 1)]
    )


def _patched(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def _longer(frame: Goodbye) -> list[Frame | bytes]:
    data = encode(frame) + b"\0"
    return [data[:12] + (len(data) - 16).to_bytes(4, "big") + data[16:]]


def _dropped(passing: Passing) -> list[Frame | bytes] | None:
    """Drop the answers of READs whose tag is one of those in the test vectors."""
    return (
        []
        if passing.call and passing.call.tag in (2, 3, 4, 5, 6, 7) and passing.call.opcode == 0x434
        else None
    )


def refused(name: str, old: int, **fields: object) -> Mutant:
    """Return a change of each OPENED with this status."""

    def change(frame: Opened) -> Opened:
        return frame._replace(**fields) if frame.status == old else frame  # type: ignore[arg-type]

    return opened(name, change)


def _openings() -> Iterator[Mutant]:
    yield hello("HELLO has the same nonce in each connection", nonce=b"n" * 32)
    yield hello("HELLO has a nonce of zeros", nonce=bytes(32))
    yield hello("HELLO has too small a largest body", max_body=4096)
    yield opened("OPENED has another tag", lambda frame: frame._replace(tag=frame.tag ^ 1))
    yield refused("OPENED has no partition id", 0, partition=0)
    yield refused("OPENED names another level", 0, level="FW1110")
    yield refused("an unknown partition is opened", 1, status=0)
    yield refused("an unknown partition is not authorised", 1, status=2)
    yield refused("a refusal has an IPL count", 1, ipl_count=7)
    yield refused("a refusal has a level", 1, level="NEXT")
    yield refused("a wrong proof is opened", 2, status=0)
    yield refused("another version is opened", 4, status=0)
    yield refused("another version is no such partition", 4, status=1)
    yield refused("a refusal of the version has a partition", 4, partition=1)
    yield Mutant("OPENED has another IPL count each time", "opening", when(Opened, _counting))


def _counting(passing: Passing, frame: Frame) -> list[Frame | bytes]:
    assert isinstance(frame, Opened)
    count = passing.shared["count"] = int(str(passing.shared.get("count", 0))) + 1
    return [frame._replace(ipl_count=count)] if not frame.status else [frame]


def function(name: str, change: Callable[[HReturn], HReturn]) -> Mutant:
    """Return a change of each answer with H_FUNCTION."""
    return Mutant(name, "sessions", answered(None, S.H_FUNCTION, lambda _, frame: change(frame)))


def _sessions() -> Iterator[Mutant]:
    yield returned(
        "HRETURN has another tag", "sessions", lambda _, frame: [frame._replace(tag=frame.tag ^ 4)]
    )
    yield returned("two answers change places", "sessions", _swapped)
    yield returned("an unused register is not 0", "sessions", _unused)
    yield function("an unknown opcode is H_PARAMETER", lambda frame: frame._replace(status=-4))
    yield function("an unknown opcode succeeds", lambda frame: frame._replace(status=0))
    yield function("H_FUNCTION returns a register", _with_result)
    yield status("sessions", Opcode.READ_OBJECT, S.H_NOT_FOUND, S.H_SUCCESS)


def _another_tag(_: Passing, frame: HReturn) -> list[Frame | bytes]:
    return [frame._replace(tag=frame.tag ^ 4)]


def _unused(_: Passing, frame: HReturn) -> list[Frame | bytes]:
    return [frame._replace(registers=(*frame.registers[:8], 1))]


def _with_result(frame: HReturn) -> HReturn:
    return frame._replace(registers=(5, *frame.registers[1:]))


def _swapped(passing: Passing, frame: Frame) -> list[Frame | bytes] | None:
    """Swap the answers of two calls with an unknown opcode."""
    if passing.call is None or passing.call.opcode != 0 or passing.call.tag < 100:
        return None
    if not passing.held:
        passing.held.append(frame)
        return []
    return [frame, passing.held.pop()]


def _arguments() -> Iterator[Mutant]:
    for opcode, old in (
        (Opcode.GET_CONFIG, S.H_PARAMETER),
        (Opcode.GET_CONFIG, S.H_P2),
        (Opcode.GEN_PASSWORD, S.H_P4),
        (Opcode.SET_PASSWORD, S.H_P2),
        (Opcode.WRITE_OBJECT, S.H_P4),
        (Opcode.WRITE_OBJECT, S.H_P6),
        (Opcode.READ_OBJECT, S.H_P3),
        (Opcode.GEN_KEY, S.H_P5),
        (Opcode.WRAP_OBJECT, S.H_P9),
        (Opcode.UNWRAP_OBJECT, S.H_P7),
        (Opcode.REVOKE_OBJECT, S.H_P4),
        (Opcode.SIGNED_UPDATE, S.H_P7),
    ):
        position = POSITIONS.index(old)
        yield status("arguments", opcode, old, POSITIONS[position + 1 if position < 8 else position - 1])
    yield Mutant("bad arguments of REMOVE_OBJECT succeed", "arguments", _accepted(Opcode.REMOVE_OBJECT))
    yield Mutant(
        "a refused GET_CONFIG writes", "arguments", answered(Opcode.GET_CONFIG, S.H_P2, _writes_all_the_same)
    )
    yield Mutant("an authorization block may be misaligned", "arguments", calls=_aligned)


def _accepted(opcode: Opcode) -> Answers:
    def change(_: Passing, frame: HReturn) -> HReturn | None:
        return frame._replace(status=0) if frame.status in POSITIONS else None

    return answered(opcode, None, change)


def _writes_all_the_same(passing: Passing, frame: HReturn) -> HReturn:
    assert passing.call is not None
    room = next((s for s in passing.call.segments if s[2] & 2 and s[1]), None)
    return frame if room is None else frame._replace(writes=(Write(room[0], b"x"),))


def _aligned(_: Passing, call: HCall) -> HCall | None:
    """Change the address of READ's block to a multiple of 16 before the server gets the call."""
    address = call.registers[0]
    if call.opcode != Opcode.READ_OBJECT or not address % 16:
        return None
    segments = tuple((s[0] - address % 16, *s[1:]) if s[0] == address else s for s in call.segments)
    return call._replace(registers=(address - address % 16, *call.registers[1:]), segments=segments)


def _order() -> Iterator[Mutant]:
    yield Mutant("the password is checked before the arguments", "order", _password_first)
    yield Mutant("the last argument is checked first", "order", _last_first)
    yield status("order", Opcode.READ_OBJECT, S.H_AUTHORITY, S.H_NOT_FOUND)
    yield status("order", Opcode.WRITE_OBJECT, S.H_RESOURCE, S.H_NO_MEM)
    yield status("order", Opcode.CONFIRM_OBJECT_FLUSHED, S.H_AUTHORITY, S.H_NOT_FOUND)
    yield status("order", Opcode.READ_OBJECT, S.H_NOT_FOUND, S.H_TOO_BIG)


def _password_first(passing: Passing, frame: Frame) -> list[Frame | bytes] | None:
    if not isinstance(frame, HReturn) or passing.call is None or frame.status not in POSITIONS[1:]:
        return None
    blocks = [s[3] for s in passing.call.segments if s[0] == passing.call.registers[0]]
    wrong = any(b"a password that is not set" in block for block in blocks)
    return [frame._replace(status=int(S.H_AUTHORITY))] if wrong else None


def _last_first(passing: Passing, frame: Frame) -> list[Frame | bytes] | None:
    """Check the reserved register of SET_PASSWORD before the consumer, which is the wrong order."""
    if not isinstance(frame, HReturn) or passing.call is None or passing.call.opcode != Opcode.SET_PASSWORD:
        return None
    late = frame.status == S.H_PARAMETER and passing.call.registers[1]
    return [frame._replace(status=int(S.H_P2))] if late else None


def _limits() -> Iterator[Mutant]:
    for at, words in (
        (0, "version"),
        (1, "flags"),
        (5, "overhead"),
        (7, "largest password"),
        (9, "largest label"),
        (11, "largest object"),
        (14, "total"),
        (21, "policies"),
        (26, "large objects"),
        (43, "wrapping features"),
    ):
        yield written("limits", Opcode.GET_CONFIG, _config_byte(at), f"another {words}")
    yield written("limits", Opcode.GET_CONFIG, flip(100), "a reserved byte")
    yield written("limits", Opcode.GET_CONFIG, lambda data: data[:24], "24 bytes always")
    yield status("limits", Opcode.WRITE_OBJECT, S.H_SUCCESS, S.H_P3)


def _config_byte(at: int) -> Callable[[bytes], bytes]:
    """Change a byte of the config block so that it can still be read."""
    return (lambda data: b"\2" + data[1:]) if at == 0 else flip(at)
