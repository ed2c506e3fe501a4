"""Values of the wrong type: the error names the right type and shows no secret."""

import asyncio
import socket
from datetime import datetime
from typing import Any

import pytest

import hcall_client.console
import hcall_client.guests.authvar
import hcall_client.guests.labels
import swpks
from hcall_abi.calls import Opcode
from hcall_abi.errors import OperatorError
from hcall_abi.faults import parse_fault
from hcall_abi.frames import GoodbyeReason
from hcall_abi.mistakes import WrongLoop
from hcall_abi.statuses import Status
from hcall_client.console import ipl
from hcall_client.errors import NotReached, WrongSocket
from hcall_client.events import watch_events
from hcall_client.request import build, nothing
from hcall_client.where import NotLocated
from swpks.testing import emulated_console
from tests.client import star_import
from tests.client.peer import answer, scripted

OS = swpks.Authorization(3)
WRONG: Any = swpks
"""The functions without their types; with them the type checker would reject each mistake."""
WHO: Any = swpks.Authorization
CONNECT: Any = swpks.BlockingChannel.connect
FOLLOW: Any = swpks.FollowingBlockingChannel
FAULT: Any = parse_fault
console: Any = hcall_client.console
labels: Any = hcall_client.guests.labels
authvar: Any = hcall_client.guests.authvar
TIME = authvar.efi_time(datetime(2026, 1, 1))

MISTAKES = [
    (lambda: WRONG.set_password(3, "secret"), 'password of H_PKS_SET_PASSWORD is bytes, not str: write b"'),
    (lambda: WRONG.read_object(WHO(3, "secret"), b"x"), "password of Authorization is bytes"),
    (
        lambda: WHO("secret"),
        r"consumer of Authorization is a whole number, not str: write Authorization\(Con",
    ),
    (lambda: WHO(b"secret", 3), r"not bytes: write Authorization\(Consumer.OPERATING_SYSTEM, password\)"),
    (lambda: WHO(None), "consumer of Authorization is a whole number, not NoneType"),
    (lambda: WHO(3.5), "consumer of Authorization is a whole number, not float"),
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
    (lambda: WRONG.gen_password("secret", 32), "a whole number, not str: write it without quotes$"),
    (lambda: WRONG.gen_key(OS, b"x", 1.5), "the size of key of H_PKS_GEN_KEY is a whole number, not float"),
    (lambda: WRONG.raw_call("secret"), "an opcode is a whole number, not str"),
    (lambda: WRONG.raw_call(1, ["secret"]), "a register is a whole number, not str: write it without"),
    (lambda: WRONG.raw_call(1, 5), r"registers are a list, not int: write raw_call\(opcode, \[r4, r5\]\)"),
    (lambda: WRONG.raw_call(1, [], [b"secret"]), "segments has a value of type bytes: write raw_call"),
    (lambda: WRONG.write_object(OS, b"x", b"", -1), r"policy of .* is 0 to 2\*\*64 - 1, not -1"),
    (lambda: WRONG.read_object(OS, b"x", -1), r"the size of data of H_PKS_READ_OBJECT is 0 to 2\*\*64"),
    (lambda: WRONG.read_object(WHO(300), b"x"), "a consumer is a byte"),
    (lambda: console.ipl(5), "the name of a partition is text, not int"),
    (lambda: console.ipl(b"secret"), 'not bytes, without the b before the quotes: write "'),
    (lambda: console.set_system(5), "the name of a system is text, not int"),
    (lambda: console.create_partition("x", "8"), "kbytes of .* not str: write it without quotes"),
    (lambda: console.create_partition("x", True), "kbytes of .* is a whole number, not bool"),
    (lambda: console.create_partition("x", 8, number="2"), "number of .* write it without quotes"),
    (lambda: console.set_attributes("x", ["secure_boot"]), "attributes is a dictionary, not list: write {"),
    (lambda: console.set_faults("x", "READ_OBJECT=H_BUSY"), r"faults is a list, not str: .*parse_fault\("),
    (lambda: console.set_faults("x", ["READ_OBJECT=H_BUSY"]), "a value of type str: write set_faults"),
    (lambda: console.set_nvram_fault("full", "3"), "commits of set_nvram_fault is a whole number"),
    (lambda: console.set_trusted_key("change", "secret"), "key of set_trusted_key is bytes, not str"),
    (lambda: console.restore_copy("secret"), "copy of restore_copy is bytes, not str"),
    (lambda: console.BlockingConsole(5), "a console is at a path, not int: write BlockingConsole"),
    (lambda: console.BlockingConsole("x", "5"), "timeout is a number of seconds or None, not str"),
    (lambda: console.Console(5), "at a path or behind a transport of httpx, not int"),
    (lambda: FAULT(["READ_OBJECT=H_BUSY"]), "a fault is text, not list"),
    (lambda: CONNECT(5), "a path, or a tuple of host and port number, not int: write BlockingChannel.conn"),
    (lambda: CONNECT(("localhost", "secret")), "a tuple of host and port number, not tuple"),
    (lambda: CONNECT("x", partition="lpar1"), "the id of the partition, is a whole number, not str"),
    (lambda: CONNECT("x", access_key="secret"), "access_key is bytes, not str"),
    (lambda: CONNECT("x", name=5), "the name of this client, is text, not int"),
    (lambda: CONNECT("x", timeout="5"), "timeout is a number of seconds or None, not str"),
    (lambda: FOLLOW("/where.sock"), r"locate is a function, not str: write Follow.*\(locate_at\("),
    (lambda: FOLLOW(lambda: "x", timeout="5"), "timeout is a number of seconds"),
    (lambda: FOLLOW(lambda: "x", move_patience="5"), "move_patience is a number of seconds"),
    (lambda: FOLLOW(lambda: None), "the place of a data channel is a path"),
    (
        lambda: WRONG.read_object(b"x", OS),
        "label of H_PKS_READ_OBJECT is bytes, not Authorization",
    ),
    (lambda: WRONG.write_object(OS, OS, b""), "label of H_PKS_WRITE_OBJECT is bytes, not Authorization"),
    (lambda: WRONG.locate_at(None, "x"), "a where socket is at a path, not NoneType: write locate_at"),
    (lambda: WRONG.locate_at("", "x"), "the path of a where socket is empty, or has a zero byte"),
    (lambda: WRONG.locate_at("a\0", "x"), "the path of a where socket is empty, or has a zero byte"),
    (lambda: WRONG.locate_at("x", "x", "5"), "seconds is a number of seconds, not str"),
    (lambda: WRONG.locate_at("x", 5), "the name of a partition is text, not int"),
    (lambda: WRONG.locate_at("x", "a\nb"), "the name of a partition has no newline"),
    (lambda: WRONG.Name(5, "key").label, "the component of a label is text or bytes, not int"),
    (lambda: WRONG.Name("a", 5).label, "the name of a label is text or bytes, not int"),
    (lambda: WRONG.Name("a", "b", "2").label, "the operating system of a label is a whole number"),
    (lambda: labels.parse_label("x"), "a label is bytes, not str"),
    (lambda: labels.describe_label("x"), "a label is bytes, not str"),
    (lambda: authvar.variable_label(b"db"), "the name of a variable is text, not bytes"),
    (lambda: authvar.variable_policy(5), "the name of a variable is text, not int"),
    (lambda: authvar.efi_time("now"), r"a moment is a datetime, not str: write efi_time\(datetime.now\(\)\)"),
    (lambda: authvar.certificate_lists(b"x"), "certificates is a list, not bytes"),
    (lambda: authvar.certificate_lists(["x"]), "certificates has a value of type str"),
    (lambda: authvar.to_sign("db", b"", "now"), "time is a EfiTime, not str"),
    (lambda: authvar.payload(TIME, "x", b""), "pkcs7 is bytes, not str"),
    (lambda: authvar.auth_file("x"), "a payload is bytes, not str"),
    (lambda: authvar.form_of("x"), "a file is bytes, not str"),
    (lambda: authvar.parse_auth_file("x"), "an auth file is bytes, not str"),
    (lambda: authvar.certificates_in("x"), "a payload is bytes, not str"),
]
NO_REQUESTS: list[tuple[Any, str]] = [
    (swpks.get_config, r"not the function get_config: write call\(get_config\(\)\)"),
    (swpks.read_object, r"not the function read_object: write call\(read_object\(\.\.\.\)\)"),
    (b"secret", r"call takes a request such as get_config\(\), not bytes"),
    (None, r"call takes a request such as get_config\(\), not NoneType"),
    (str.__new__, r"not the function __new__: write call\(__new__\(\.\.\.\)\)"),
]


@pytest.mark.parametrize("make,message", MISTAKES, ids=[row[1][:40] for row in MISTAKES])
def test_an_argument_of_another_type_is_named(make, message):
    """If an argument has a wrong type, the error names the argument and the call.

    The value, which may be a password, is in no text.
    """
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        make()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("make", [row[0] for row in MISTAKES if "WRONG.locate_at" not in str(row)][:10])
def test_pytest_shows_the_line_of_the_caller_alone(make):
    """The frames that build a request add no information, so their modules hide them from pytest."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.traceback.filter(caught)[-1].path) == __file__
    assert len(caught.traceback) <= 5


def test_every_buffer_is_bytes():
    """A call accepts bytes, bytearray and memoryview.

    An authorization block may be wrong, for tests of a server.
    """
    for data in (b"xy", bytearray(b"xy"), memoryview(b"xy")):
        assert WRONG.write_object(OS, b"x", data).segments[2].data == b"xy"
    block = build(Opcode.REMOVE_OBJECT, nothing, authorization=b"wrong", label=b"x")
    assert block.segments[0].data == b"wrong"


@pytest.mark.parametrize("given,message", NO_REQUESTS, ids=range(len(NO_REQUESTS)))
def test_a_call_of_no_request_says_what_to_write(given, message):
    """A value that is not a request raises TypeError with the right form.

    The session goes on: nothing was sent.
    """

    async def script(peer):
        await peer.greet()
        await peer.send(answer(await peer.call()))
        assert (await peer.goodbye()).reason == GoodbyeReason.DONE

    with scripted(script) as sock, swpks.BlockingChannel.connect(sock, timeout=10) as channel:
        with pytest.raises(TypeError, match=message):
            channel.call(given)
        with pytest.raises(TypeError, match=message):
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


GUESTS = [
    (
        lambda chain: chain.kernel.write("key", b"data"),
        r'is a Name, not str: write Name\("',
    ),
    (lambda chain: chain.kernel.write(swpks.Name("a", "b"), "secret"), "data of write is bytes, not str"),
    (lambda chain: chain.kernel.write(swpks.Name("a", "b"), b"", "1"), "policy of write is a whole number"),
    (lambda chain: chain.kernel.read(b"key"), "is a Name, not bytes"),
    (lambda chain: chain.kernel.remove(("a", "b")), "is a Name, not tuple"),
    (lambda chain: chain.kernel.read_firmware("key"), "label of H_PKS_READ_OBJECT is bytes, not str"),
    (lambda chain: chain.firmware.write("key", b""), "label of H_PKS_WRITE_OBJECT is bytes, not str"),
    (lambda chain: chain.firmware.read(b"key", "os"), "consumer of Authorization is a whole number"),
    (lambda chain: chain.firmware.provide(b"key", "secret"), "data is bytes, not str"),
    (lambda chain: chain.firmware.provide(b"key", b"", "1"), "policy is a whole number, not str"),
    (lambda chain: chain.firmware.store_sb_version("1"), "data is bytes, not str"),
]


async def test_the_guests_say_it_too(pks_partition):
    """The emulated guests raise TypeError too, and no object is lost: `provide` checks the new one first."""
    with pytest.raises(TypeError, match=r"boot takes a channel, not EmulatedPartition: .*partition.channel"):
        await swpks.boot(pks_partition)
    chain = await swpks.boot(pks_partition.channel)
    await chain.firmware.write(b"key", b"kept")
    for use, message in GUESTS:
        with pytest.raises(TypeError, match=message) as caught:
            await use(chain)
        assert "secret" not in str(caught.value)
        assert str(caught.traceback.filter(caught)[-1].path) == __file__
    assert (await chain.firmware.read(b"key")).data == b"kept"
    assert await chain.kernel.dynamic_keys()


OPENINGS: list[tuple[Any, dict, str]] = [
    (5, {}, r'not int: write open_channel\("state/run/lpar1.sock"\)'),
    ("x", {"partition": "lpar1"}, "the id of the partition, is a whole number, not str"),
    ("x", {"access_key": "secret"}, "access_key is bytes, not str"),
    ("x", {"patience": "5"}, "patience is a number of seconds or None, not str"),
]


async def test_the_openings_say_it_too(pks_partition):
    """Wrong arguments for opening a channel raise TypeError before a connection is made."""
    wrong: Any = swpks
    for target, options, message in OPENINGS:
        with pytest.raises(TypeError, match=message):
            await wrong.open_channel(target, **options).__aenter__()
    with pytest.raises(TypeError, match="not EmulatedPartition"):
        await wrong.open_channel(pks_partition).__aenter__()
    for locate, message in (("/where.sock", "locate is a function, not str"), (lambda: None, "not NoneType")):
        with pytest.raises(TypeError, match=message):
            await wrong.open_following(locate).__aenter__()
    for option in ("patience", "move_patience"):
        with pytest.raises(TypeError, match=f"{option} is a number of seconds"):
            await wrong.open_following(pks_partition.locate, **{option: "5"}).__aenter__()


def test_a_trouble_that_nvram_does_not_have():
    with pytest.raises(OperatorError, match=r"no trouble 'fulll'; they are none, full, io, stall"):
        console.set_nvram_fault("fulll")
    with pytest.raises(OperatorError, match="a timeout of None seconds"):
        console.BlockingConsole("x", None)


def test_a_where_socket_without_a_console(tmp_path):
    """If no console serves the where socket, `locate_at` and the channel name the same remedy."""
    path = tmp_path / "run" / "where.sock"
    remedy = rf"no console serves this socket; to start one: swpks hmc serve --store {tmp_path}"
    for dead in (False, True):
        if dead:
            path.parent.mkdir()
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
        with pytest.raises(OSError, match=remedy) as caught:
            swpks.locate_at(path, "lpar1")()
        assert caught.value.filename == str(path)
        with pytest.raises(NotReached, match=remedy):
            FOLLOW(swpks.locate_at(path, "lpar1"), timeout=0.001)


def test_a_where_socket_in_the_folder_of_a_system(tmp_path):
    """A console cannot be started there, so the error names the folder's kind and no start."""
    (tmp_path / "service-processor").mkdir()
    says = f"^{tmp_path} is the state folder of a system; needed is the where socket of a management console"
    with pytest.raises(WrongSocket, match=says):
        swpks.locate_at(tmp_path / "run" / "where.sock", "lpar1")()


def test_a_partition_that_is_nowhere(tmp_path):
    """The errors for an unknown partition and for a place without a server each have their own remedy."""

    def nowhere():
        raise NotLocated("lpar1: no system has it")

    with pytest.raises(NotReached, match="no system has it; at the console, lssyscfg -r lpar -m SYSTEM"):
        FOLLOW(nowhere, timeout=0.001)
    with pytest.raises(NotReached, match=r"no socket is there .*; start the server of its system, such as"):
        FOLLOW(lambda: str(tmp_path / "lpar1.sock"), timeout=0.001)


async def test_a_console_says_it_too(tmp_path):
    with pytest.raises(TypeError, match=r"not the function ipl: write call\(ipl\(\.\.\.\)\)"):
        WRONG.BlockingConsole(tmp_path / "control.sock").call(ipl)
    with pytest.raises(TypeError, match=r'a request such as ipl\("lpar1"\), not str'):
        await WRONG.Console(tmp_path / "control.sock").call("ipl")


@pytest.mark.parametrize("number", [-10, 1, -55, -4711])
def test_the_status_of_a_refusal_is_a_status(number):
    """An unknown status number stays an int."""
    error = swpks.HcallError(number, Opcode.READ_OBJECT)
    assert error.status == number
    assert isinstance(error.status, Status) is (number != -4711)


async def test_a_refusal_in_a_pipeline_has_a_status(pks_partition):
    (refusal,) = await pks_partition.channel.pipeline([swpks.read_object(OS, b"x")])
    assert isinstance(refusal, swpks.HcallError)
    assert refusal.status is Status.H_NOT_FOUND


def test_all_typed_calls_can_be_imported():
    """`from swpks.calls import *` imports the calls and no internal name."""
    names: dict = {}
    exec("from swpks.calls import *", names)
    del names["__builtins__"]
    assert set(names) == set(swpks.calls.__all__)
    functions = {name for name in swpks.__all__ if name.endswith(("_object", "_key", "_password"))}
    assert functions <= set(names)


def test_a_program_with_a_star_import_runs():
    """`mypy tests` checks the same program, so a type checker knows its names."""
    write, remove = star_import.requests_of(b"password")
    assert (write.opcode, remove.opcode) == (Opcode.WRITE_OBJECT, Opcode.REMOVE_OBJECT)


def locate() -> str:
    """Return no target: the test must not reach this function."""
    raise AssertionError("locate was called")


LOOPS: list[tuple[Any, str]] = [
    (lambda: swpks.open_channel("x"), r"open_channel .*: swpks.BlockingChannel.connect\(path\)$"),
    (lambda: swpks.open_following(locate), r"open_following .*: swpks.FollowingBlockingChannel\(locate\)$"),
    (lambda: swpks.Console("x").call(ipl("x")), r"a call of Console .*: swpks.BlockingConsole\(path\)$"),
    (lambda: watch_events("x"), r"watch_events .* by trio.run\(main\)$"),
    (swpks.emulated_partition, r"emulated_partition .*: swpks.blocking_partition\(\)$"),
    (emulated_console, r"emulated_console .* by trio.run\(main\)$"),
]


@pytest.mark.parametrize("use,message", LOOPS)
def test_another_event_loop(use, message):
    """If the caller's event loop is not Trio's, the error names Trio and the function that needs no loop."""

    async def main() -> None:
        found: Any = use()
        await (found.__aenter__() if hasattr(found, "__aenter__") else found)

    with pytest.raises(WrongLoop, match=f"^{message}") as caught:
        asyncio.run(main())
    assert "needs Trio: begin the program by trio.run(main)" in str(caught.value)


async def test_a_block_that_is_used_in_another_way(pks_partition_sync):
    """Each wrong use of `open_channel` and `open_following` names the right form."""
    locate: Any = lambda: "x"  # noqa: E731
    for name, argument in (("open_channel", "x"), ("open_following", locate)):
        right = rf"write `async with {name}\(\.\.\.\) as channel:`"
        made = getattr(WRONG, name)
        with pytest.raises(AttributeError, match=f"there is no call outside of the block: {right}"):
            made(argument).call(swpks.get_config())
        with pytest.raises(TypeError, match=f"no awaitable: {right}"):
            await made(argument)
        with pytest.raises(TypeError, match=f"this block is asynchronous: {right}"), made(argument):
            pass
    with pytest.raises(TypeError, match="not asynchronous: write `with`, or take open_channel"):
        async with pks_partition_sync.connect():
            pass


async def test_a_control_channel_at_no_path():
    with pytest.raises(TypeError, match="at a path, or at https://HOST:PORT, not int: write"):
        async with watch_events(5):  # type: ignore[arg-type]
            pass


def test_an_address_as_a_text():
    with pytest.raises(NotReached, match=r"for a TCP listener, write the tuple \('localhost', 1234\)"):
        swpks.BlockingChannel.connect("localhost:1234")
