"""A trace of a real server, read by tshark with the dissector (R-81, R-82)."""

import re
from pathlib import Path

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import FrameType
from hcall_abi.policies import Policy
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import (
    Authorization,
    confirm_object_flushed,
    gen_key,
    gen_password,
    get_config,
    get_object_labels,
    raw_call,
    read_object,
    remove_object,
    set_password,
    write_object,
)
from hcall_client.keys import gen_wrapping_key, revoke_object, unrevoke_object, unwrap_object, wrap_object
from swpks.testing import ServerProcess
from tests.export import captures
from tests.export.captures import Shown
from tests.trace.reader import read_capture

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

MARKED = "swpks.malformed"
NUMBER = re.compile(r"-?[0-9]+|0x[0-9a-f]+")


def use(channel: BlockingChannel) -> None:
    """Make calls with all kinds of arguments and results, some of which are refused."""
    channel.call(get_config())
    owner = channel.call(gen_password(3, 32))
    channel.call(write_object(owner, b"label", b"data of an object", Policy.WORLDREADABLE))
    channel.call(confirm_object_flushed(owner, b"label"))
    channel.call(read_object(Authorization(3), b"label"))
    channel.call(gen_key(owner, b"key", 32))
    channel.call(get_object_labels(owner))
    channel.call(remove_object(owner, b"label"))
    channel.call(set_password(2, bytes(32)))
    channel.call(gen_wrapping_key(owner, b"wrapping"))
    wrapped = channel.call(wrap_object(owner, b"wrapping", bytes(16)))
    channel.call(unwrap_object(owner, wrapped))
    channel.call(revoke_object(owner, b"wrapping"))
    channel.call(unrevoke_object(owner, b"wrapping"))
    for opcode in (Opcode.SIGNED_UPDATE, Opcode.WRITE_OBJECT, 0x123456789):
        channel.call(raw_call(opcode, range(9)))


def test_every_byte_of_a_captured_session(lua: Path, tmp_path: Path) -> None:
    """R-81: tshark shows each byte of each frame, each number with its value, and links each answer."""
    path = tmp_path / "all.pcapng"
    options = ["--firmware", "NEXT", "--trace", str(path), "--trace-secrets"]
    server = ServerProcess(tmp_path / "lab", ["lpar1:64"], options).start()
    with server.connect_blocking() as channel:
        use(channel)
    server.stop()
    recorded = [frame.data for frame in read_capture(path).frames]
    packets = captures.shown(lua, path)
    assert len(recorded) == len(packets)
    calls = {int.from_bytes(frame[16:24]) for frame in recorded if frame[5] == FrameType.HCALL}
    assert calls > set(CALLS)
    for frame, fields in zip(recorded, packets, strict=True):
        assert not [field for field in fields if field.name == MARKED]
        assert shown_bytes(frame, fields) == set(range(len(frame)))
        linked = {field.name for field in fields} & {"swpks.request_in", "swpks.response_in"}
        assert len(linked) == (frame[5] in (FrameType.HCALL, FrameType.HRETURN))


def shown_bytes(frame: bytes, fields: list[Shown]) -> set[int]:
    """Return the offsets of a frame that tshark shows; AssertionError for a value that the frame has not."""
    offsets: set[int] = set()
    for field in fields:
        data = frame[field.offset : field.offset + field.size]
        if not field.size or not field.data:
            continue
        assert field.data == data, field
        # A bit of a policy word has the bytes of the whole word.
        if NUMBER.fullmatch(field.text) and ".policy." not in field.name:
            assert int(field.text, 0) in (int.from_bytes(data), int.from_bytes(data, signed=True)), field
        offsets |= set(range(field.offset, field.offset + field.size))
    return offsets
