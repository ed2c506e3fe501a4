"""R-73: A guest's registers and memory become a call of the data channel. The guest may make mistakes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Access, HReturn, Segment, Write
from hcall_abi.statuses import Status
from hcall_abi.structures import build_auth
from hcall_client.calls import Request
from hcall_client.marshal import LONGEST_INPUT, argument_count, deliver, marshal
from tests.client.engine import Engine
from tests.client.test_calls import SAMPLES

TOP = (1 << 64) - 1


class Memory:
    """Guest memory of one piece. A read outside it is an error of the code under test."""

    def __init__(self, start: int = 0x1000, size: int = 0x40000) -> None:
        self.start = start
        self.bytes = bytearray(size)

    def holds(self, address: int, length: int) -> bool:
        assert length > 0
        return self.start <= address and address + length <= self.start + len(self.bytes)

    def read(self, address: int, length: int) -> bytes:
        assert self.holds(address, length)
        return bytes(self.bytes[address - self.start : address - self.start + length])

    def write(self, address: int, data: bytes) -> None:
        assert self.holds(address, len(data))
        self.bytes[address - self.start : address - self.start + len(data)] = data


def filled(request: Request) -> Memory:
    """Guest memory that contains a request's buffers."""
    memory = Memory(0x0010_0000)
    for segment in request.segments:
        if segment.access & Access.IN:
            memory.write(segment.address, segment.data)
    return memory


@pytest.mark.parametrize("opcode", SAMPLES, ids=lambda opcode: opcode.name)
def test_every_call_takes_exactly_its_buffers_along(opcode):
    """The buffers that the typed calls lay out are found again from registers and memory alone."""
    request = SAMPLES[opcode]
    found = marshal(opcode, request.registers, filled(request))
    assert found.registers == request.registers
    assert found.segments == tuple(sorted(request.segments))
    assert argument_count(opcode) == len(CALLS[opcode].args)


def test_an_answer_is_delivered():
    memory = Memory()
    deliver(HReturn(1, 0, (0,) * 9, (Write(0x1010, b"abc"), Write(0x1000, b"x"))), memory)
    assert memory.bytes[:0x14] == b"x".ljust(16, b"\0") + b"abc\0"


def test_a_whole_call_against_the_real_engine():
    """GET_CONFIG by registers and memory: afterwards the block is in guest memory."""
    memory = Memory()
    answer = Engine().do(marshal(Opcode.GET_CONFIG, (0x2000, 520), memory))
    deliver(answer, memory)
    assert answer.status == Status.H_SUCCESS
    assert memory.read(0x2000, 1) == b"\3"


def test_an_unknown_call_has_no_memory():
    assert marshal(0x9999, (0x1000, 16), Memory()).segments == ()
    assert argument_count(0x9999) == 0
    assert Engine().do(marshal(0x9999, (0x1000, 16), Memory())).status == Status.H_FUNCTION


def test_buffers_that_share_bytes_become_one_segment():
    """Overlapping buffers become one segment: UNWRAP in place, and a label in its authorization block."""
    memory = Memory()
    memory.write(0x1000, build_auth(3, b"p" * 8))
    memory.write(0x3000, b"wrapped" * 300)
    request = marshal(Opcode.UNWRAP_OBJECT, (0x1000, 0, 0x3000, 2100, 0x3000, 1076), memory)
    assert request.segments == (
        Segment.read(0x1000, build_auth(3, b"p" * 8)),
        Segment(0x3000, 2100, Access.BOTH, b"wrapped" * 300),
    )
    (segment,) = marshal(Opcode.REMOVE_OBJECT, (0x1000, 0x1010, 16), memory).segments
    assert (segment.address, segment.length) == (0x1000, 32)
    apart = marshal(Opcode.REMOVE_OBJECT, (0x1000, 0x1018, 4), memory).segments
    assert [segment.length for segment in apart] == [24, 4]


@pytest.mark.parametrize(
    "registers, status",
    [
        ((0, 0x2000, 4), Status.H_PARAMETER),
        ((TOP, 0x2000, 4), Status.H_PARAMETER),
        ((0x40FF0, 0x2000, 4), Status.H_PARAMETER),
        ((0x1000, 0, 4), Status.H_P2),
        ((0x1000, TOP - 3, 4), Status.H_P2),
        ((0x1000, TOP - 2, 4), Status.H_P2),
        ((0x1000, 0x2000, 1 << 40), Status.H_P2),
        ((0x1000, 0x2000, LONGEST_INPUT + 1), Status.H_P2),
        ((0x1000, 0x2000, 256), Status.H_P3),
        ((0x1000, 0x2000, 0), Status.H_P3),
    ],
)
def test_memory_that_is_not_there_is_blamed_on_its_argument(registers, status):
    memory = Memory()
    memory.write(0x1000, build_auth(3))
    memory.write(0x40FF0, build_auth(3, b"cut off")[:16])
    assert Engine().do(marshal(Opcode.REMOVE_OBJECT, registers, memory)).status == status


def test_an_output_buffer_that_is_not_there():
    assert Engine().do(marshal(Opcode.GET_CONFIG, (0, 520), Memory())).status == Status.H_PARAMETER
    assert Engine().do(marshal(Opcode.GET_CONFIG, (0x1000, 1 << 32), Memory())).status == Status.H_PARAMETER


@given(
    st.sampled_from([int(opcode) for opcode in Opcode]),
    st.lists(
        st.integers(0, TOP) | st.integers(0x800, 0x42000) | st.sampled_from([0, 16, 4096, TOP]), max_size=9
    ),
    st.binary(min_size=1, max_size=64),
)
def test_any_registers_make_a_call_that_keeps_the_protocol(opcode, registers, noise):
    """Segments never share a byte and never leave memory, and any guest gets a documented status."""
    memory = Memory()
    memory.write(0x1000, noise)
    request = marshal(opcode, registers, memory)
    ends = [0, *(segment.address + segment.length for segment in request.segments)]
    assert all(start.address >= end for start, end in zip(request.segments, ends, strict=False))
    assert all(memory.holds(segment.address, segment.length) for segment in request.segments)
    assert Engine().do(request).status in CALLS[Opcode(opcode)].statuses | {Status.H_FUNCTION}


def test_nine_registers_are_all():
    with pytest.raises(ValueError, match="nine"):
        marshal(Opcode.GET_CONFIG, (0,) * 10, Memory())
