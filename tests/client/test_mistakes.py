"""Values of the wrong type: the error says what to write, and shows no secret."""

from typing import Any

import pytest

import swpks
from hcall_abi.calls import Opcode
from hcall_abi.frames import GoodbyeReason
from hcall_abi.statuses import Status
from hcall_client.console import ipl
from hcall_client.request import build, nothing
from tests.client.peer import answer, scripted

OS = swpks.Authorization(3)
WRONG: Any = swpks
"""The same names, without the types that would find each mistake earlier."""
WHO: Any = swpks.Authorization

MISTAKES = [
    (lambda: WRONG.set_password(3, "secret"), 'password of H_PKS_SET_PASSWORD is bytes, not str: write b"'),
    (lambda: WRONG.read_object(WHO(3, "secret"), b"x"), "password of Authorization is bytes"),
    (lambda: WRONG.read_object(WHO("secret"), b"x"), "consumer of Authorization is a whole"),
    (
        lambda: WRONG.read_object(3, b"x"),
        r"Authorization, not int: write Authorization\(consumer, password\)",
    ),
    (lambda: WRONG.read_object((3, "secret"), b"x"), "authorization of H_PKS_READ_OBJECT .*, not tuple"),
    (lambda: WRONG.write_object(OS, "secret", b""), "label of H_PKS_WRITE_OBJECT is bytes, not str"),
    (lambda: WRONG.write_object(OS, b"x", 5), "data of H_PKS_WRITE_OBJECT is bytes, not int"),
    (lambda: WRONG.write_object(OS, b"x", b"", "secret"), "policy of H_PKS_WRITE_OBJECT is a whole number"),
    (lambda: WRONG.wrap_object(OS, b"x", "secret"), "data of H_PKS_WRAP_OBJECT is bytes, not str"),
    (lambda: WRONG.unwrap_object(OS, None), "wrapped object of H_PKS_UNWRAP_OBJECT is bytes, not NoneType"),
    (lambda: WRONG.gen_password(3, "secret"), "the size of password of H_PKS_GEN_PASSWORD is a whole number"),
    (lambda: WRONG.gen_password("secret", 32), "consumer of H_PKS_GEN_PASSWORD is a whole number, not str"),
    (lambda: WRONG.gen_key(OS, b"x", 1.5), "the size of key of H_PKS_GEN_KEY is a whole number, not float"),
    (lambda: WRONG.raw_call("secret"), "an opcode is a whole number, not str"),
    (lambda: WRONG.raw_call(1, ["secret"]), "a register is a whole number, not str"),
]
NO_REQUESTS: list[tuple[Any, str]] = [
    (swpks.get_config, r"not the function get_config: write call\(get_config\(\)\)"),
    (swpks.read_object, r"not the function read_object: write call\(read_object\(\.\.\.\)\)"),
    (b"secret", r"call takes a request such as get_config\(\), not bytes"),
    (None, r"call takes a request such as get_config\(\), not NoneType"),
    (str.__new__, r"not the function __new__: write call\(__new__\(\.\.\.\)\)"),
]


@pytest.mark.parametrize("make,told", MISTAKES, ids=[row[1][:40] for row in MISTAKES])
def test_an_argument_of_another_type_is_named(make, told):
    """The error names the argument and the call; the value, which may be a password, is in no text."""
    with pytest.raises(TypeError, match=told) as caught:
        make()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_every_buffer_is_bytes():
    """Other buffers are taken as they are; so is a block of wrong bytes for tests of a server."""
    for data in (b"xy", bytearray(b"xy"), memoryview(b"xy")):
        assert WRONG.write_object(OS, b"x", data).segments[2].data == b"xy"
    block = build(Opcode.REMOVE_OBJECT, nothing, authorization=b"wrong", label=b"x")
    assert block.segments[0].data == b"wrong"


@pytest.mark.parametrize("given,told", NO_REQUESTS, ids=range(len(NO_REQUESTS)))
def test_a_call_of_no_request_says_what_to_write(given, told):
    """The session goes on: nothing of the mistake was sent."""

    async def script(peer):
        await peer.greet()
        await peer.send(answer(await peer.call()))
        assert (await peer.goodbye()).reason == GoodbyeReason.DONE

    with scripted(script) as sock, swpks.BlockingChannel.connect(sock, timeout=10) as channel:
        with pytest.raises(TypeError, match=told):
            channel.call(given)
        with pytest.raises(TypeError, match=told):
            channel.pipeline([given])
        assert channel.call(swpks.raw_call(5)).status == 0


async def test_asynchronous_channels_say_it_too(pks_partition):
    with pytest.raises(TypeError, match=r"write call\(get_config\(\)\)"):
        await pks_partition.channel.call(swpks.get_config)
    with pytest.raises(TypeError, match=r"not Request: write pipeline\(\[\.\.\.\]\)"):
        await pks_partition.channel.pipeline(swpks.get_config())
    async with WRONG.open_following(pks_partition.locate) as channel:
        with pytest.raises(TypeError, match=r"write call\(get_config\(\)\)"):
            await channel.call(swpks.get_config)
        with pytest.raises(TypeError, match=r"not Request: write pipeline\(\[\.\.\.\]\)"):
            await channel.pipeline(swpks.get_config())
    assert (await pks_partition.channel.call(swpks.get_config())).used_space == 0


async def test_a_console_says_it_too(tmp_path):
    with pytest.raises(TypeError, match=r"not the function ipl: write call\(ipl\(\.\.\.\)\)"):
        WRONG.BlockingConsole(tmp_path / "control.sock").call(ipl)
    with pytest.raises(TypeError, match=r'a request such as ipl\("lpar1"\), not str'):
        await WRONG.Console(tmp_path / "control.sock").call("ipl")


@pytest.mark.parametrize("number", [-10, 1, -55, -4711])
def test_the_status_of_a_refusal_is_a_status(number):
    """A number that no table has stays an int."""
    error = swpks.HcallError(number, Opcode.READ_OBJECT)
    assert error.status == number
    assert isinstance(error.status, Status) is (number != -4711)


async def test_a_refusal_in_a_pipeline_has_a_status(pks_partition):
    (refusal,) = await pks_partition.channel.pipeline([swpks.read_object(OS, b"x")])
    assert isinstance(refusal, swpks.HcallError)
    assert refusal.status is Status.H_NOT_FOUND


def test_all_typed_calls_can_be_imported():
    """`from swpks.calls import *` brings the calls, and nothing of the machinery."""
    names: dict = {}
    exec("from swpks.calls import *", names)
    del names["__builtins__"]
    assert set(names) == set(swpks.calls.__all__)
    functions = {name for name in swpks.__all__ if name.endswith(("_object", "_key", "_password"))}
    assert functions <= set(names)
