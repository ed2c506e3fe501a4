"""The typed calls: their registers and memory, how they parse answers, and how they check each answer."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.arguments import PAGE
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.errors import PeerError
from hcall_abi.frames import Access, HReturn, Segment, Write
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules.rule import Fault
from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.calls import Authorization, HcallError, Request
from hcall_client.request import FIRST_ADDRESS
from tests.client.engine import Engine
from tests.client.peer import answer, out

OS = Authorization(Consumer.OPERATING_SYSTEM)
SECRET = b"a password that nobody may see.."
WHO = Authorization(3, SECRET)

SAMPLES: dict[Opcode, Request] = {
    Opcode.GET_CONFIG: calls.get_config(),
    Opcode.SET_PASSWORD: calls.set_password(3, SECRET),
    Opcode.GEN_PASSWORD: calls.gen_password(3, 64),
    Opcode.GET_OBJECTLABELS: calls.get_object_labels(WHO, 5),
    Opcode.WRITE_OBJECT: calls.write_object(WHO, b"label", SECRET, 0x10000000),
    Opcode.READ_OBJECT: calls.read_object(WHO, b"label"),
    Opcode.REMOVE_OBJECT: calls.remove_object(WHO, b"label"),
    Opcode.CONFIRM_OBJECT_FLUSHED: calls.confirm_object_flushed(WHO, b"label"),
    Opcode.GEN_KEY: calls.gen_key(WHO, b"label", 48),
    Opcode.SIGNED_UPDATE: calls.signed_update(WHO, b"label", SECRET, 0x09000000, 1, 7),
    Opcode.WRAP_OBJECT: calls.wrap_object(WHO, b"label", SECRET, token=7),
    Opcode.UNWRAP_OBJECT: calls.unwrap_object(WHO, SECRET * 40, token=7),
    Opcode.REVOKE_OBJECT: calls.revoke_object(WHO, b"label"),
    Opcode.UNREVOKE_OBJECT: calls.unrevoke_object(WHO, b"label"),
}


@pytest.mark.parametrize("opcode", SAMPLES, ids=lambda opcode: opcode.name)
def test_every_argument_is_where_the_table_says(opcode):
    """Each register holds its argument, each buffer is a segment with its length and access."""
    request = SAMPLES[opcode]
    spec = CALLS[opcode]
    segments = {segment.address: segment for segment in request.segments}
    assert request.opcode == opcode
    assert len(request.registers) == 9
    for arg in spec.args:
        if arg.kind.readable or arg.kind.writable:
            segment = segments.pop(request.registers[arg.register - 4])
            assert segment.access == (Access.OUT if arg.kind.writable else Access.IN)
            if arg.length:
                assert segment.length == request.registers[spec.arg(arg.length).register - 4]
    assert not segments
    assert not any(request.registers[len(spec.args) :])


@given(
    st.binary(max_size=300),
    st.binary(max_size=300),
    st.binary(max_size=9000),
    st.integers(0, 0xFFFFFFFF),
)
def test_memory_keeps_the_rules_by_construction(password, label, data, policy):
    """R-76: buffers never overlap; authorization blocks and labels are aligned and each lie in one page."""
    request = calls.write_object(Authorization(1, password), label, data, policy)
    end = FIRST_ADDRESS
    for segment in request.segments:
        assert segment.address >= end
        assert segment.address % PAGE == 0
        end = segment.address + segment.length
    assert [segment.data for segment in request.segments[1:]] == [label, data]
    assert request.registers[3] == policy


def test_every_call_has_its_function():
    """R-71, R-72: Each of the 14 h-calls has a typed function with the argument registers of the table."""
    assert set(SAMPLES) == set(CALLS)


def test_secrets_never_show():
    """No request, result or error shows a password or object data."""
    shown = [repr(request) for request in SAMPLES.values()]
    shown += [repr(WHO), repr(calls.ObjectRead(SECRET, Policy(0)))]
    shown.append(str(HcallError(-10, Opcode.READ_OBJECT, (0, 0x18000000))))
    assert "that nobody" not in "".join(shown)
    assert repr(OS) == "Authorization(consumer=3, password none)"


@pytest.mark.parametrize("arguments", [(-1,), (1 << 64,), (0,) * 10])
def test_registers_hold_what_registers_hold(arguments):
    with pytest.raises(ValueError, match="r4 to r12"):
        calls.raw_call(1, arguments)


@pytest.mark.parametrize(
    "segment", [(-1, 0, 1, b""), (1 << 64, 0, 1, b""), (0, 1 << 32, 2, b""), (0, 0, -1, b"")]
)
def test_raw_calls_fit_a_frame(segment):
    with pytest.raises(ValueError, match="segment"):
        calls.raw_call(1, (), [Segment(*segment)])


@pytest.mark.parametrize("who", [Authorization(256), Authorization(3, bytes(65536))])
def test_authorization_fits_its_block(who):
    with pytest.raises(ValueError, match="65535"):
        calls.remove_object(who, b"x")


# Answers that a server could give


def test_refusal_names_call_status_argument_and_register():
    """R-03: The exception for a refusal names the call, the status, the refused argument and its register."""
    request = SAMPLES[Opcode.READ_OBJECT]
    with pytest.raises(HcallError) as caught:
        request.parse(HReturn(1, Status.H_P3, (0,) * 9, ()))
    error = caught.value
    assert (error.status, error.opcode, error.argument, error.register) == (-56, 0x434, "label_length", 6)
    assert error.fault is Fault.GUEST
    assert "H_PKS_READ_OBJECT was refused with H_P3: label_length in r6" in str(error)
    assert error.rule is rules.ARGUMENT_RIGHT
    assert "(spec/hcalls/read_object.md#checks)" in error.message


@pytest.mark.parametrize(
    "status,registers,policy,size,words",
    [
        (Status.H_AUTHORITY, (0, 0x10000000), Policy.PWSET, None, "policy of the object: PWSET"),
        (Status.H_AUTHORITY, (0, 0), None, None, "H_AUTHORITY [guest fault"),
        (Status.H_TOO_BIG, (9, 0x08000000), Policy.WORLDREADABLE, 9, "the object has 9 bytes; policy"),
        (Status.H_NOT_FOUND, (7, 7), None, None, "H_NOT_FOUND ["),
        (Status.H_P9, (), None, None, "an argument that the h-call does not have in r12"),
        (-12345, (), None, None, "status -12345"),
    ],
)
def test_refusal_tells_what_its_registers_tell(status, registers, policy, size, words):
    error = HcallError(status, Opcode.READ_OBJECT, registers)
    assert (error.policy, error.size) == (policy, size)
    assert words in str(error)


def test_refusal_of_an_unknown_call():
    error = HcallError(Status.H_FUNCTION, 0x999)
    assert str(error).startswith("h-call 0x999 was refused with H_FUNCTION [")
    assert error.rule.page == "spec/hcalls/index.md#order-of-checks"


def _lies() -> list:
    read = SAMPLES[Opcode.READ_OBJECT]
    label, buffer = read.segments[1], read.segments[2]
    generate = SAMPLES[Opcode.GEN_PASSWORD]
    listing = SAMPLES[Opcode.GET_OBJECTLABELS]
    config = SAMPLES[Opcode.GET_CONFIG]
    password, names, block = (r.segments[-1].address for r in (generate, listing, config))
    return [
        (read, 0, (1, 0), [Write(label.address, b"x")], "write of 1 bytes"),
        (read, -10, (0, 0), [Write(label.address, b"x")], "write of 1 bytes"),
        (read, 0, (1, 0), [Write(buffer.address - 1, b"xx")], "write of 2 bytes"),
        (read, 0, (1, 0), [Write(buffer.address + buffer.length, b"x")], "write of 1 bytes"),
        (read, 0, (1, 0), [Write(buffer.address + buffer.length - 1, b"xx")], "write of 2 bytes"),
        (read, 0, (2, 0), [Write(buffer.address, b"x")], "2 bytes, of which 1 came"),
        (read, 0, (1, 0), [], "1 bytes, of which 0 came"),
        (read, 0, (2, 0), [Write(buffer.address + 1, b"x")], "2 bytes, of which 0 came"),
        (read, 0, (0, 1 << 32), [], "policy word of 0x100000000"),
        (SAMPLES[Opcode.REMOVE_OBJECT], 0, (), [Write(FIRST_ADDRESS, b"x")], "write of 1 bytes"),
        (generate, 0, (), [Write(password, bytes(63))], "password of 63 bytes"),
        (listing, 0, (1, 0), [], "1 labels in 0 bytes"),
        (listing, 0, ((1 << 64) - 1, 0), [Write(names, b"\0\1x")], "labels in 3 bytes"),
        (listing, 0, (1, 0), [Write(names, b"\0\2x")], "unreadable label list"),
        (listing, 0, (1, 0), [Write(names, b"\0\1xy")], "unreadable label list"),
        (listing, Status.H_CONTINUE, (0, 4), [], "without label or token"),
        (listing, Status.H_CONTINUE, (1, 0), [Write(names, b"\0\1x")], "without label or token"),
        (config, 0, (), [], "unreadable config block"),
        (config, 0, (), [Write(block, b"\x09" * 520)], "unreadable config block"),
    ]


@pytest.mark.parametrize("request_,status,registers,writes,message", _lies())
def test_answers_that_cannot_be_are_the_peers_fault(request_, status, registers, writes, message):
    """A client never trusts a server: a write or a value outside the rules is a PeerError."""
    padded = tuple(registers) + (0,) * (9 - len(registers))
    with pytest.raises(PeerError, match=message):
        request_.parse(HReturn(1, int(status), padded, tuple(writes)))


def test_a_buffer_may_come_in_pieces():
    read = SAMPLES[Opcode.READ_OBJECT]
    base = read.segments[2].address
    writes = (Write(base + 2, b"cd"), Write(base, b"ab"))
    assert read.parse(HReturn(1, 0, (4,) + (0,) * 8, writes)).data == b"abcd"


@pytest.mark.parametrize(
    "status,r4,expected",
    [
        (0, 1, (True, True)),
        (0, 0, (False, True)),
        (0, 0x101, (True, True)),
        (-7, 1, (True, False)),
        (-7, 0, None),
    ],
)
def test_confirmation_reads_the_low_byte_of_r4(status, r4, expected):
    """R-20: The low byte of r4 says whether an object is flushed.

    H_NOT_FOUND with 1 confirms a durable removal.
    """
    request = SAMPLES[Opcode.CONFIRM_OBJECT_FLUSHED]
    reply = answer(request.frame(1), status, r4)
    if expected is None:
        with pytest.raises(HcallError, match="H_NOT_FOUND"):
            request.parse(reply)
    else:
        assert request.parse(reply) == expected


def test_raw_calls_return_any_answer():
    request = calls.raw_call(0x999, [1, 2], [Segment.written(0x1000, 8)])
    reply = answer(request.frame(4), -2, 5, writes=(Write(0x1000, b"x"),))
    assert request.parse(reply) is reply
    assert out(request.frame(1)).length == 8
    with pytest.raises(PeerError):
        request.parse(answer(request.frame(4), 0, writes=(Write(0x1008, b"x"),)))


# Against the engine


def test_the_calls_and_the_engine_agree():
    """R-07, R-08: The typed calls write, read, confirm, list and remove an object through the real engine."""
    engine = Engine()
    engine.do(calls.write_object(OS, b"a", b"first", Policy.WORLDREADABLE))
    with pytest.raises(HcallError, match="H_RESOURCE"):
        engine.do(calls.write_object(OS, b"a", b"second"))
    assert engine.do(calls.read_object(OS, b"a")) == (b"first", Policy.WORLDREADABLE)
    assert engine.do(calls.confirm_object_flushed(OS, b"a")) == (False, True)
    engine.flush()
    assert engine.do(calls.confirm_object_flushed(OS, b"a")) == (True, True)
    assert engine.do(calls.get_object_labels(OS)) == ((b"a",), 0, False)
    engine.do(calls.remove_object(OS, b"a"))
    assert engine.do(calls.confirm_object_flushed(OS, b"a")) == (False, True)
    engine.flush()
    assert engine.do(calls.confirm_object_flushed(OS, b"a")) == (True, False)
    with pytest.raises(HcallError, match="H_NOT_FOUND"):
        engine.do(calls.read_object(OS, b"a"))


@pytest.mark.parametrize("size", [24, 32, 512, 520])
def test_config_is_read_at_every_length(size):
    config = Engine().do(calls.get_config(size))
    assert (config.max_password_size, config.total_size) == (64, 64 * 1024)


def test_passwords_come_back_as_an_authorization():
    """R-05: a chosen or a generated password is returned as the authorization for later calls."""
    engine = Engine()
    chosen = engine.do(calls.set_password(1, b"chosen"))
    made = engine.do(calls.gen_password(3, 64))
    assert chosen == Authorization(1, b"chosen")
    assert (made.consumer, len(made.password)) == (3, 64)
    engine.do(calls.write_object(made, b"x", b"y"))
    with pytest.raises(HcallError, match="H_AUTHORITY"):
        engine.do(calls.read_object(OS, b"x"))
    with pytest.raises(HcallError, match="H_IN_USE"):
        engine.do(calls.gen_password(3, 64))


def test_lists_are_followed_by_their_token():
    engine = Engine()
    names = {bytes([65 + n]) * 100 for n in range(20)}
    for name in names:
        engine.do(calls.write_object(OS, name, b"x"))
    part = engine.do(calls.get_object_labels(OS, size=250))
    found = set(part.labels)
    while part.more:
        part = engine.do(calls.get_object_labels(OS, part.token, size=250))
        found.update(part.labels)
    assert found == names


def test_too_big_tells_the_size():
    engine = Engine()
    engine.do(calls.write_object(OS, b"a", bytes(100)))
    with pytest.raises(HcallError) as caught:
        engine.do(calls.read_object(OS, b"a", 99))
    assert caught.value.size == 100


@pytest.mark.parametrize(
    "request_,argument",
    [
        (calls.get_config(23), "config_length"),
        (calls.read_object(Authorization(4), b"a"), "authorization"),
        (calls.read_object(OS, b""), "label_length"),
        (calls.read_object(OS, bytes(256)), "label_length"),
        (calls.write_object(OS, b"a", b""), "data_length"),
        (calls.write_object(OS, b"a", b"b", 1), "policy"),
        (calls.gen_password(9, 64), "consumer"),
        (calls.gen_password(3, 65), "password_length"),
        (calls.get_object_labels(OS, token=77), "token"),
    ],
    ids=itertools.count(),
)
def test_the_engine_blames_the_argument_that_we_name(request_, argument):
    """The position in an error status means the same argument for the engine and for the client."""
    with pytest.raises(HcallError) as caught:
        Engine().do(request_)
    assert caught.value.argument == argument
