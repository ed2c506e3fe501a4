"""The typed calls about keys, and the helper that repeats a call after "busy"."""

import math

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.errors import PeerError
from hcall_abi.frames import HReturn, Write
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.busy import until_done, until_done_async
from hcall_client.calls import Authorization, HcallError
from tests.client.engine import Engine
from tests.client.peer import answer, out

WHO = Authorization(3, b"its password")
LABEL, DATA = b"the key's name", bytes(range(100))
BUSY = {Status.H_BUSY: 0.001} | {
    Status[f"H_LONG_BUSY_ORDER_{name}"]: seconds
    for name, seconds in (
        ("1_MSEC", 0.001), ("10_MSEC", 0.01), ("100_MSEC", 0.1), ("1_SEC", 1.0), ("10_SEC", 10.0),
        ("100_SEC", 100.0),
    )
}  # fmt: skip


def registers(request, *names):
    """Return the registers of the named arguments."""
    return [request.registers[CALLS[Opcode(request.opcode)].arg(name).register - 4] for name in names]


def test_a_wrapping_key_has_no_buffer():
    """R-71: For a wrapping key, GEN_KEY has address 0, length 32, policy WRAPPINGKEY and no buffer."""
    request = calls.gen_wrapping_key(WHO, LABEL)
    assert registers(request, "key", "key_length", "policy") == [0, 32, 0x0080_0000]
    assert [segment.data for segment in request.segments[1:]] == [LABEL]
    assert request.parse(HReturn(1, 0, (0,) * 9, ())) is None


def test_a_plain_key_comes_back():
    """R-71: the key has exactly as many bytes as requested."""
    request = calls.gen_key(WHO, LABEL, 48)
    key = bytes(48)
    reply = answer(request.frame(1), writes=(Write(out(request.frame(1)).address, key),))
    assert request.parse(reply) == key
    with pytest.raises(PeerError, match="key of 0 bytes"):
        request.parse(answer(request.frame(1)))


def test_wrapping_asks_for_1024_bytes_more():
    """R-71: WRAP and UNWRAP get the buffer lengths that Linux computes, and the smallest set of flags."""
    request = calls.wrap_object(WHO, LABEL, DATA)
    wanted = registers(request, "flags", "input_length", "output_length", "token")
    assert wanted == [0x1000_0000_0000_0001, 100, 1124, 0]
    assert registers(calls.unwrap_object(WHO, bytes(1124)), "flags", "output_length") == [0, 100]
    assert registers(calls.unwrap_object(WHO, bytes(10)), "output_length") == [0]
    assert registers(calls.unwrap_object(WHO, bytes(1124), size=7), "output_length") == [7]


@pytest.mark.parametrize(
    "request_", [calls.wrap_object(WHO, LABEL, DATA), calls.unwrap_object(WHO, DATA * 20)]
)
def test_r5_tells_how_much_is_in_the_buffer(request_):
    call = request_.frame(1)
    write = Write(out(call).address, b"abcdef")
    assert request_.parse(answer(call, 0, 0, 4, writes=(write,))) == b"abcd"
    with pytest.raises(PeerError, match="7 bytes, of which 6 came"):
        request_.parse(answer(call, 0, 0, 7, writes=(write,)))


@pytest.mark.parametrize("make", [calls.revoke_object, calls.unrevoke_object])
def test_the_policy_afterwards_is_the_result(make):
    """R-72: A successful call returns the policy that the answer has in r4.

    If the status is H_AUTHORITY, the error has that policy.
    """
    call = make(WHO, LABEL)
    assert call.parse(answer(call.frame(1), 0, 0x0080_0002)) == Policy.WRAPPINGKEY | Policy.REVOKED
    with pytest.raises(PeerError, match="32 bits"):
        call.parse(answer(call.frame(1), 0, 1 << 32))
    with pytest.raises(HcallError) as caught:
        call.parse(answer(call.frame(1), -10, 0x0800_0000))
    assert caught.value.policy == Policy.WORLDREADABLE


@pytest.mark.parametrize("status", BUSY, ids=lambda status: status.name)
def test_busy_tells_how_long_and_how_to_go_on(status):
    error = HcallError(status, Opcode.WRAP_OBJECT, (77, 0))
    assert (error.retry_after, error.token) == (BUSY[status], 77)
    assert HcallError(status, Opcode.READ_OBJECT, (77, 0)).token is None
    assert error.rule is rules.CALL_BUSY


def test_other_refusals_are_not_busy():
    error = HcallError(Status.H_AUTHORITY, Opcode.WRAP_OBJECT, (77, 0))
    assert (error.retry_after, error.token) == (None, None)


class Server:
    """A server that returns the given statuses, one per call, each with a new token."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.tokens = []
        self.slept = []

    def make(self, token):
        self.tokens.append(token)
        return calls.signed_update(WHO, LABEL, DATA, 0x0900_0000, token=token)

    def call(self, request):
        return request.parse(answer(request.frame(1), self.statuses.pop(0), 100 + len(self.tokens)))

    async def call_async(self, request):
        return self.call(request)

    async def sleep(self, seconds):
        self.slept.append(seconds)

    async def finish(self, way, patience=5.0):
        if way == "blocking":
            return until_done(self.call, self.make, self.slept.append, patience)
        return await until_done_async(self.call_async, self.make, self.sleep, patience)


WAYS = pytest.mark.parametrize("way", ["blocking", "async"])


@WAYS
async def test_a_busy_call_is_repeated_with_its_token(way):
    """R-75: The client repeats the call with the last token after each hinted pause.

    The last answer is the result.
    """
    server = Server(Status.H_BUSY, Status.H_LONG_BUSY_ORDER_100_MSEC, Status.H_LONG_BUSY_ORDER_1_SEC, 0)
    assert await server.finish(way) is None
    assert server.tokens == [0, 101, 102, 103]
    assert server.slept == [0.001, 0.1, 1.0]


@WAYS
async def test_patience_ends_as_linux_ends_it(way):
    """R-75: The client gives up when its pauses sum to at least five seconds, as Linux does."""
    server = Server(*[Status.H_LONG_BUSY_ORDER_1_SEC] * 9)
    with pytest.raises(HcallError, match="1_SEC"):
        await server.finish(way)
    assert server.slept == [1.0] * 5
    hasty = Server(Status.H_LONG_BUSY_ORDER_10_SEC)
    with pytest.raises(HcallError):
        await hasty.finish(way)
    assert hasty.slept == [10.0]


@WAYS
async def test_endless_patience(way):
    server = Server(*[Status.H_LONG_BUSY_ORDER_100_SEC] * 30, 0)
    await server.finish(way, math.inf)
    assert len(server.slept) == 30


@WAYS
async def test_what_is_not_busy_is_raised_at_once(way):
    server = Server(Status.H_BUSY, Status.H_P6)
    with pytest.raises(HcallError, match="H_P6"):
        await server.finish(way)
    assert server.slept == [0.001]


# Against the engine


def test_the_calls_and_the_engine_agree():
    """R-71, R-72: The typed calls make, use, revoke and unrevoke a wrapping key in the real engine."""
    engine = Engine("NEXT")
    who = engine.do(calls.set_password(3, b"its password"))
    engine.do(calls.gen_wrapping_key(who, LABEL))
    blob = engine.do(calls.wrap_object(who, LABEL, DATA))
    assert len(blob) == len(DATA) + 1024
    assert engine.do(calls.unwrap_object(who, blob)) == DATA
    assert engine.do(calls.revoke_object(who, LABEL)) == Policy.WRAPPINGKEY | Policy.REVOKED
    with pytest.raises(HcallError, match="H_AUTHORITY") as caught:
        engine.do(calls.read_object(who, LABEL))
    assert caught.value.policy == Policy.WRAPPINGKEY | Policy.REVOKED
    assert engine.do(calls.unrevoke_object(who, LABEL)) == Policy.WRAPPINGKEY
    key = engine.do(calls.gen_key(who, b"plain", 48))
    assert engine.do(calls.read_object(who, b"plain")).data == key


@pytest.mark.parametrize(
    "make,argument",
    [
        (lambda who: calls.gen_wrapping_key(who, LABEL, 0x0880_0000), "policy"),
        (lambda who: calls.gen_key(who, LABEL, 0), "key_length"),
        (lambda who: calls.wrap_object(who, LABEL, DATA, 1), "flags"),
        (lambda who: calls.wrap_object(who, LABEL, b""), "input_length"),
        (lambda who: calls.wrap_object(who, LABEL, DATA, token=9), "token"),
        (lambda who: calls.unwrap_object(who, bytes(1024)), "input_length"),
        (lambda who: calls.unwrap_object(who, bytes(1030), size=5), "output_length"),
        (lambda who: calls.unwrap_object(who, bytes(1030), flags=1), "flags"),
        (lambda who: calls.revoke_object(who, LABEL, 1), "flags"),
    ],
)
def test_the_engine_blames_the_argument_that_we_name(make, argument):
    with pytest.raises(HcallError) as caught:
        Engine("NEXT").do(make(Authorization(3)))
    assert caught.value.argument == argument
