"""The Wireshark dissector, run by Debian's tshark over the golden vectors and over TCP (R-81)."""

import re
from collections import defaultdict
from itertools import groupby
from pathlib import Path

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import encode
from hcall_abi.frames import HCall, HReturn, Write
from hcall_abi.statuses import REGISTERS, Status
from tests.export import captures
from tests.export.captures import Shown
from tests.export.vectors import VECTORS, Vector, frames_of, load

SESSIONS = ("session", "session-2")
NUMBERS = ("u8", "u16", "u32", "u64", "s32", "s64")
NUMBER = re.compile(r"-?(0x[0-9a-f]+|[0-9]+)")
REGISTER_VALUES = tuple(0x1004 + n for n in range(REGISTERS))

pytestmark = pytest.mark.usefixtures("not_measured")


def vectors_of_all() -> list[Vector]:
    """Return every published frame."""
    names = sorted(path.stem for path in VECTORS.glob("*.json") if path.stem != "keys")
    return [vector for name in names for vector in load(name)]


def read(fields: list[Shown]) -> dict[tuple[int, int], list[Shown]]:
    """Return the fields that tshark shows for each (offset, size)."""
    found: dict[tuple[int, int], list[Shown]] = defaultdict(list)
    for field in fields:
        found[field.offset, field.size].append(field)
    return found


def agrees(field: Vector, shown: Shown) -> bool:
    """Return whether tshark shows the value of a field in a vector."""
    if field["type"] in NUMBERS:
        return bool(NUMBER.fullmatch(shown.text)) and int(shown.text, 0) == field["value"]
    # tshark cuts a long text off, so its bytes count.
    data: bytes = field["value"].encode() if field["type"] == "text" else bytes.fromhex(field["value"])
    return shown.data == data


def missing(vector: Vector, fields: list[Shown]) -> list[str]:
    """Return the fields of a vector that tshark does not show with their value."""
    found = read(fields)
    return [
        f"{field['name']} = {field['value']} at {field['offset']}"
        for field in vector["fields"]
        if field["size"] and not any(agrees(field, each) for each in found[field["offset"], field["size"]])
    ]


def marks(fields: list[Shown]) -> list[str]:
    """Return the marks of a malformed frame."""
    return [field.text for field in fields if field.name == "swpks.malformed"]


def named(fields: list[Shown], name: str) -> list[str]:
    """Return the texts of the fields with a name."""
    return [field.text for field in fields if field.name == f"swpks.{name}"]


def test_every_field_of_every_right_frame(lua: Path, tmp_path: Path) -> None:
    """R-81: tshark shows each field of each right golden frame, with its value, and marks none."""
    right = [vector for vector in vectors_of_all() if vector.get("valid", True)]
    packets = captures.shown(lua, captures.exported(tmp_path / "right.pcap", frames_of(right), apart=True))
    for vector, fields in zip(right, packets, strict=True):
        assert (missing(vector, fields), marks(fields)) == ([], []), vector


def test_every_damaged_frame_is_marked(lua: Path, tmp_path: Path) -> None:
    """R-81: tshark marks each damaged golden frame, but those that are wrong only in their session."""
    damaged = [vector for vector in vectors_of_all() if not vector.get("valid", True)]
    packets = captures.shown(
        lua, captures.exported(tmp_path / "damaged.pcap", frames_of(damaged), apart=True)
    )
    unmarked = {v["rule_id"] for v, fields in zip(damaged, packets, strict=True) if not marks(fields)}
    assert unmarked <= {"session.state", "session.tag"}


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("size", [7, 1 << 16])
def test_the_same_over_tcp(lua: Path, tmp_path: Path, name: str, size: int) -> None:
    """R-81: in TCP traffic, cut into pieces of any size, tshark shows the fields of the same frames."""
    steps = load(name)
    capture = captures.tcp(tmp_path / "tcp.pcap", pieces_of(frames_of(steps), size))
    frames = [fields for packet in captures.shown_frames(lua, capture) for fields in packet]
    for step, fields in zip(steps, frames, strict=True):
        assert (missing(step, fields), marks(fields)) == ([], []), step


def pieces_of(frames: list[tuple[str, bytes]], size: int) -> list[tuple[str, bytes]]:
    """Return the frames as TCP segments: consecutive frames of one sender are cut together."""
    pieces = []
    for sender, group in groupby(frames, key=lambda frame: frame[0]):
        data = b"".join(frame for _, frame in group)
        pieces += [(sender, data[at : at + size]) for at in range(0, len(data), size)]
    return pieces


@pytest.mark.parametrize("limit", [60, 64, 90])
def test_a_capture_with_a_length_limit(lua: Path, tmp_path: Path, limit: int) -> None:
    """R-81: in packets that are cut off, tshark marks the frames, and the dissector has no error."""
    frames = [frame for name in SESSIONS for frame in frames_of(load(name))]
    packets = captures.shown(lua, captures.tcp(tmp_path / "cut.pcap", frames, limit))
    assert any(marks(fields) for fields in packets)


def test_answers_are_linked_to_calls(lua: Path, tmp_path: Path) -> None:
    """R-81: each answer names the packet of its call. Each call names the packet of its answer."""
    packets = captures.shown(lua, captures.exported(tmp_path / "a.pcap", frames_of(load("session"))))
    assert [named(fields, "response_in") for fields in packets][3:9] == [["6"], ["7"], [], [], ["9"], []]
    assert [named(fields, "request_in") for fields in packets][3:9] == [[], [], ["4"], ["5"], [], ["8"]]


def test_an_answer_with_another_tag_is_marked(lua: Path, tmp_path: Path) -> None:
    """An answer whose tag is not that of the oldest call is marked."""
    call, answer = (
        next(v for v in load(kind) if v["name"] == f"{kind}-read-object") for kind in ("hcall", "hreturn")
    )
    wrong = bytearray.fromhex(answer["hex"])
    wrong[11] += 1
    packets = captures.shown(
        lua, captures.exported(tmp_path / "a.pcap", [*frames_of([call]), ("server", bytes(wrong))])
    )
    assert [len(marks(fields)) for fields in packets] == [0, 1]


SUMMARIES = [
    "HELLO", "OPEN partition 0", "OPENED partition 3, IPL 7", "HCALL GET_CONFIG", "HCALL READ_OBJECT",
    "HRETURN H_SUCCESS, GET_CONFIG", "HRETURN H_SUCCESS, READ_OBJECT", "HCALL REMOVE_OBJECT",
    "HRETURN H_AUTHORITY, REMOVE_OBJECT", "GOODBYE DONE",
]  # fmt: skip


def test_the_list_of_packets(lua: Path, tmp_path: Path) -> None:
    """R-81: the list of packets has each frame in words: its type, its call, its status."""
    capture = captures.exported(tmp_path / "a.pcap", frames_of(load("session")))
    assert captures.summaries(lua, capture) == SUMMARIES


def test_registers_by_the_names_of_each_call(lua: Path, tmp_path: Path) -> None:
    """R-81: the registers of a call have the names of its arguments, those of an answer of its results."""
    frames = [
        frame for opcode in CALLS for frame in (("client", call_of(opcode)), ("server", answer_of(opcode)))
    ]
    packets = captures.shown(lua, captures.exported(tmp_path / "calls.pcap", frames))
    for number, spec in enumerate(CALLS.values()):
        call, answer = packets[2 * number], packets[2 * number + 1]
        for arg in spec.args:
            assert int(named(call, f"argument.{arg.name}")[0], 0) == 0x1000 + arg.register
        for result in spec.outputs:
            assert int(named(answer, f"result.{result.name}")[0], 0) == 0x1000 + result.register
        assert len([field for field in call if field.name.startswith("swpks.hcall.r")]) >= REGISTERS - len(
            spec.args
        )


def call_of(opcode: Opcode) -> bytes:
    """Return an HCALL whose registers hold their numbers, over 0x1000."""
    return encode(HCall(1, opcode, REGISTER_VALUES, ()))


def answer_of(opcode: Opcode) -> bytes:
    """Return an HRETURN with the same registers."""
    return encode(HReturn(1, Status.H_SUCCESS, REGISTER_VALUES, ()))


@pytest.mark.parametrize(
    "status,words",
    [
        (Status.H_P3, "H_P3 (r6 label_length)"),
        (Status.H_PARAMETER, "H_PARAMETER (r4 authorization)"),
        (Status.H_AUTHORITY, "H_AUTHORITY"),
        (-9999, "status -9999"),
    ],
)
def test_a_refusal_in_words(lua: Path, tmp_path: Path, status: int, words: str) -> None:
    """R-81: a refusal is reported with the name of its status, and of the argument that it refuses."""
    frames = [
        ("client", call_of(Opcode.READ_OBJECT)),
        ("server", encode(HReturn(1, status, REGISTER_VALUES, ()))),
    ]
    _, answer = captures.shown(lua, captures.exported(tmp_path / "a.pcap", frames))
    assert [field.text for field in answer if field.name == "_ws.expert.message"] == [words]


def test_memory_by_the_arguments(lua: Path, tmp_path: Path) -> None:
    """R-81: authorization block, label, policy bits, config block and label list have their fields."""
    second = captures.shown(lua, captures.exported(tmp_path / "2.pcap", frames_of(load("session-2"))))
    write = second[5]
    assert named(write, "auth.consumer") == ["3"]
    assert named(write, "auth.password_length") == ["32"]
    assert len(named(write, "password")[0].replace(":", "")) == 64
    assert named(write, "label_text") == ["sed-opal......../default/pri."]
    assert named(write, "argument.policy.PWSET") == ["1"]
    assert named(write, "argument.policy.IMMUTABLE") == ["0"]
    first = captures.shown(lua, captures.exported(tmp_path / "1.pcap", frames_of(load("session"))))
    assert named(first[5], "config.total_size") == ["65536"]
    labels = b"".join(len(label).to_bytes(2, "big") + label for label in (b"one", b"two"))
    call = HCall(1, Opcode.GET_OBJECTLABELS, (0, 0, 0x4000, 64, *[0] * 5), ((0x4000, 64, 2, b""),))
    answer = HReturn(1, 0, (2, *[0] * 8), (Write(0x4000, labels),))
    frames = [("client", encode(call)), ("server", encode(answer))]
    _, listed = captures.shown(lua, captures.exported(tmp_path / "3.pcap", frames))
    assert named(listed, "label_text") == ["one", "two"]
