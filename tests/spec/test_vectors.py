"""The golden frames in spec/vectors/frames, read with plain `struct` and with the session engine."""

import hashlib
import hmac
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.codec import ProtocolError, decode, encode
from hcall_abi.frames import Frame, FrameType, HCall, HReturn, Segment
from hcall_abi.proof import client_proof, server_proof
from hcall_abi.rules import protocol
from hcall_abi.rules.catalogue import rows_of
from hcall_abi.rules.rule import Fault
from hcall_abi.session import Role, Session, SessionState
from hcall_client.calls import raw_call
from swpks.testing.blocking import blocking_partition
from tests.abi import sessions

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "spec" / "vectors" / "frames"
FORMATS = {"u8": ">B", "u16": ">H", "u32": ">I", "u64": ">Q", "s32": ">i", "s64": ">q"}

Vector = dict[str, Any]


def load(name: str) -> Any:
    """Return the vectors in one file."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


SESSIONS = ("session", "session-2")
KINDS = [path.stem for path in sorted(FOLDER.glob("*.json")) if path.stem not in ("keys", *SESSIONS)]
VECTORS: list[Vector] = [vector for kind in KINDS for vector in load(kind)]
VALID = [vector for vector in VECTORS if vector["valid"]]
BROKEN = [vector for vector in VECTORS if not vector["valid"]]
STEPS = [{"name": f"{name}:{n}", **step} for name in SESSIONS for n, step in enumerate(load(name))]
KEYS = {name: bytes.fromhex(value) for name, value in load("keys").items()}


def named(vectors: list[Vector]) -> Any:
    """Return a decorator that runs a test for each vector, by name."""
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def values(vector: Vector) -> dict[str, Any]:
    """Return the values of a vector's fields by name. If several fields have one name, the first counts."""
    found: dict[str, Any] = {}
    for field in vector["fields"]:
        found.setdefault(field["name"], field["value"])
    return found


def test_the_vectors_are_many_and_well_named() -> None:
    """Every frame type has valid and damaged vectors, and each name is unique."""
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 90
    for kind in FrameType:
        assert any(bytes.fromhex(v["hex"])[5] == kind for v in VALID)
        assert any(v["section"] == f"spec/protocol.md#{kind.name.lower()}" for v in BROKEN)


# By plain struct


@named([*VECTORS, *STEPS])
def test_fields_are_the_bytes(vector: Vector) -> None:
    """The fields of a vector follow each other without a gap, and each value equals its bytes."""
    data, offset = bytes.fromhex(vector["hex"]), 0
    for field in vector["fields"]:
        assert field["offset"] == offset, field
        piece = data[offset : offset + field["size"]]
        assert len(piece) == field["size"], field
        offset += field["size"]
        assert read(field["type"], piece) == field["value"], field
    assert offset == len(data)


def read(kind: str, piece: bytes) -> int | str:
    """Return the value in these bytes, by its type."""
    match kind:
        case "bytes":
            return piece.hex()
        case "text":
            return piece.decode("utf-8", "backslashreplace")
        case _:
            (number,) = struct.unpack(FORMATS[kind], piece)
            return int(number)


@named(VALID)
def test_valid_frames_by_plain_struct(vector: Vector) -> None:
    """Header and body of a valid vector have the layout in the page, and all lengths add up."""
    data = bytes.fromhex(vector["hex"])
    magic, version, kind, flags, tag, length = struct.unpack_from(">4sBBHII", data)
    assert (magic, version, flags, length) == (b"HCAL", 1, 0, len(data) - 16)
    assert tag == 0 or kind in (2, 3, 4, 5)
    assert vector["from"] in {1: ["server"], 2: ["client"], 3: ["server"], 4: ["client"], 5: ["server"]}.get(
        kind, ["server", "client"]
    )
    check_body(kind, data[16:])


def check_body(kind: int, body: bytes) -> None:
    """Assert the layout of a valid body, with plain `struct`."""
    if kind in (4, 5):
        *_, count, short, word = struct.unpack_from(">10QHHI", body)
        rows = [struct.unpack_from(">QII", body, 88 + 16 * n) for n in range(count)]
        carried = sum(length for _, length, third in rows if kind == 5 or third & 1)
        assert (short, word) == (0, 0)
        assert len(body) == 88 + 16 * count + carried
        assert all(third in ((1, 2, 3) if kind == 4 else (0,)) for _, _, third in rows)
        return
    fixed = {1: 48, 2: 68, 3: 44, 6: 4}[kind]
    assert len(body) == fixed + 1 + body[fixed]
    body[fixed + 1 :].decode("utf-8")


def test_registers_of_a_call() -> None:
    """In an HCALL r3 to r12 are at the offsets 16 to 88, and the segment table is at 104."""
    (vector,) = [v for v in VALID if v["name"] == "hcall-read-object"]
    data = bytes.fromhex(vector["hex"])
    assert struct.unpack_from(">10Q", data, 16) == (0x434, 0x1000, 0x2000, 29, 0x3000, 64, 0, 0, 0, 0)
    assert struct.unpack_from(">HHI", data, 96) == (3, 0, 0)
    assert struct.unpack_from(">QII", data, 104) == (0x1000, 16, 1)
    assert data[152:].startswith(bytes([1, 3]) + bytes(14) + b"sed-opal")


@pytest.mark.parametrize("name,text", [("open-proof", b"swpks open 1"), ("opened-proof", b"swpks opened 1")])
def test_proofs_by_hmac(name: str, text: bytes) -> None:
    """The proofs in the vectors are those of the code, and those that Python's hmac gives."""
    (vector,) = [v for v in VALID if v["name"] == name]
    fields = values(vector)
    partition = fields["partition id"]
    message = text + KEYS["server_nonce"] + KEYS["client_nonce"] + struct.pack(">H", partition)
    expected = hmac.new(KEYS["access_key"], message, hashlib.sha256).hexdigest()
    assert fields.get("proof", fields.get("server proof")) == expected
    make = client_proof if name == "open-proof" else server_proof
    assert make(KEYS["access_key"], KEYS["server_nonce"], KEYS["client_nonce"], partition).hex() == expected


# By the session engine


@named(VALID)
def test_valid_frames_by_the_session(vector: Vector) -> None:
    """The receiver reads a valid vector as one event. The sender makes the same bytes from that event."""
    data = bytes.fromhex(vector["hex"])
    tag = int.from_bytes(data[8:12], "big")
    role = Role.SERVER if vector["from"] == "client" else Role.CLIENT
    state = {1: SessionState.START, 2: SessionState.GREETED, 3: SessionState.OPENING}.get(
        data[5], SessionState.OPEN
    )
    session = prepared(role, state, tag)
    (event,) = sessions.fed(session, [data[:20], data[20:]])
    assert encode(event) == data  # type: ignore[arg-type]  # never an OtherVersion here
    assert decode(data[5], tag, data, 16, len(data)) == event


def prepared(role: Role, state: SessionState, tag: int) -> Session:
    """Return one end in this state.

    At a client's end, an OPEN or a call with this tag waits for its answer.
    """
    if role is Role.SERVER or state in (SessionState.START, SessionState.GREETED):
        return sessions.at(role, state)
    if state is SessionState.OPENING:
        client = sessions.at(role, SessionState.GREETED)
        client.send(sessions.OPEN._replace(tag=tag))
    else:
        client = sessions.at(role, SessionState.OPEN)
        client.send(sessions.CALL._replace(tag=tag))
    return client


@named(BROKEN)
def test_damaged_frames_by_the_session(vector: Vector) -> None:
    """The receiver refuses a damaged vector, whole or byte by byte, by the rule that the vector names."""
    data = bytes.fromhex(vector["hex"])
    tag = 2 if vector["state"] == "open" else 1
    for pieces in ([data], [bytes([byte]) for byte in data]):
        session = prepared(Role(vector["to"]), SessionState(vector["state"]), tag)
        with pytest.raises(ProtocolError) as caught:
            sessions.fed(session, pieces)
        assert (caught.value.rule.id, caught.value.rule.page) == (vector["rule_id"], vector["section"])


def test_every_rule_of_a_frame_is_broken_by_a_vector() -> None:
    """For each rule about headers, bodies, states and tags of frames, a vector breaks it."""
    page = re.compile(
        r"spec/protocol\.md#(frame-header|framing|hello|open|opened|hcall|hreturn|goodbye|states|tags)"
    )
    rules = {
        rule.id
        for rule in rows_of(protocol)
        if rule.answer is Fault.PEER and page.fullmatch(rule.page) and not rule.id.startswith("answer.")
    }
    other = {"frame.whole", "session.over", "session.goodbye", "opened.status"}
    assert rules - other == {vector["rule_id"] for vector in BROKEN}


@pytest.mark.parametrize("name", SESSIONS)
def test_the_sessions_of_the_prose(name: str) -> None:
    """Two engines can exchange the frames of each session up to the end."""
    ends = {"server": Session(Role.SERVER), "client": Session(Role.CLIENT)}
    for step in load(name):
        data = bytes.fromhex(step["hex"])
        peer = ends["client" if step["from"] == "server" else "server"]
        (event,) = sessions.fed(peer, [data])
        assert ends[step["from"]].send(event) == data, step["what"]  # type: ignore[arg-type]
    assert ends["server"].state is ends["client"].state is SessionState.CLOSED


def test_a_keystore_gives_the_answers_of_the_second_session() -> None:
    """A keystore answers the calls of session-2.json as the frames say, with a password of its own."""
    frames = [frame for step in load("session-2") if isinstance(frame := frame_of(step), HCall | HReturn)]
    golden = frames[1].writes[0].data  # type: ignore[union-attr]
    with blocking_partition(flush_delay=60, confirm_wait=0) as partition:
        password = golden
        for call, answer in zip(frames[::2], frames[1::2], strict=True):
            assert isinstance(call, HCall)
            assert isinstance(answer, HReturn)
            segments = [Segment(*piece[:3], piece[3].replace(golden, password)) for piece in call.segments]
            if answer.registers[0]:
                partition.flush()
            real = partition.channel.call(raw_call(call.opcode, call.registers, segments))
            assert (real.status, real.registers) == (answer.status, answer.registers)
            assert [len(write.data) for write in real.writes] == [len(write.data) for write in answer.writes]
            password = real.writes[0].data if real.writes else password


def frame_of(step: Vector) -> Frame:
    """Return the frame of a step in a session."""
    data = bytes.fromhex(step["hex"])
    return decode(data[5], int.from_bytes(data[8:12], "big"), data, 16, len(data))


def test_the_files_are_what_the_tool_makes() -> None:
    """The tool still makes the published files, byte for byte."""
    command = [sys.executable, str(ROOT / "tools" / "frame_vectors.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
