"""Calls at the wrong time, or in the wrong way: one line each, with the remedy in the words of the fixtures.

docs/testing.md promises it, and the first test finds its sentence there.
"""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import swpks
from hcall_abi.errors import SwpksError
from hcall_abi.mistakes import Mistake, WrongType
from hcall_client.console import show_system
from hcall_client.guests.firmware import PartitionFirmware
from swpks.testing import (
    JobFailed,
    ServerFailed,
    ServerProcess,
    blocking_partition,
    emulated_partition,
)
from swpks.testing.remedies import PartitionGone
from tests.spec.markdown import ROOT

PROMISE = (
    "A wrong argument of a function, or a call at the wrong time, raises an error at the line of your test. "
    "The error has one line, which names the mistake and the remedy."
)
OS = swpks.Authorization(3)
TESTING: Any = swpks.testing
"""The fixtures without their types; with them the type checker would reject each mistake."""
CONFIG = swpks.get_config()
READ: Any = swpks.read_object
UNTIL: Any = swpks.until_done
UNTIL_ASYNC: Any = swpks.until_done_async
ERRORS = (Mistake, SwpksError, JobFailed, ServerFailed)
IPL = r"each IPL and each power-off ends all sessions: write channel = ipl\(\), or take the member `channel`"
AWAIT_IPL = IPL.replace("= ipl", "= await ipl")
PLAIN = r"write until_done\(channel\.call, lambda token: read_object\(who, label\), time\.sleep\)"
ASYNC = r"write await until_done_async\(channel\.call, lambda token: .*, trio\.sleep\)"


def make(token: int) -> swpks.calls.Request[Any]:
    return swpks.read_object(OS, b"label")


def test_the_promise_is_on_the_page() -> None:
    assert PROMISE in " ".join((ROOT / "docs" / "testing.md").read_text("utf-8").split())


async def told(use: Callable[[], Any], message: str) -> None:
    """Check that a wrong use raises one line with this text, and that pytest ends at the line of the test."""
    with pytest.raises(ERRORS, match=message) as caught:  # noqa: PT012
        found = use()
        if hasattr(found, "__aenter__"):
            found = found.__aenter__()
        if isinstance(found, Awaitable):
            await found
    assert "\n" not in str(caught.value)
    shown = caught.traceback.filter(caught)
    assert str(shown[-1].path) == __file__, [str(entry.path) for entry in shown]


# A partition in the test's process.  Each row begins with a new IPL: `kept` is the channel of the one before.

OFF = [
    (
        "connect",
        lambda it, kept: it.connect(),
        "lpar1 is powered off: write channel = {await}ipl",
    ),
    ("call", lambda it, kept: it.channel.call(CONFIG), "{ipl}"),
    ("pipeline", lambda it, kept: it.channel.pipeline([CONFIG]), "{ipl}"),
    ("twice", lambda it, kept: it.power_off(), "lpar1 is powered off; remove this call, or write {await}ipl"),
]
KEPT = [
    ("call", lambda it, kept: kept.call(CONFIG), "{ipl}"),
    ("pipeline", lambda it, kept: kept.pipeline([CONFIG]), "{ipl}"),
]
ROWS = [("off", *row) for row in OFF] + [("kept", *row) for row in KEPT]


@pytest.mark.parametrize("moment,name,use,message", ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
async def test_a_partition(
    moment: str, name: str, use: Callable[[Any, Any], Any], message: str, pks_partition, pks_partition_sync
) -> None:
    """Both kinds of partition name the same remedy; the asynchronous one with `await`."""
    kept, kept_sync = pks_partition.channel, pks_partition_sync.channel
    if moment == "off":
        await pks_partition.power_off()
        pks_partition_sync.power_off()
    else:
        await pks_partition.ipl()
        pks_partition_sync.ipl()
    plain = message.replace("{await}", "").replace("{ipl}", IPL)
    waited = message.replace("{await}", "await ").replace("{ipl}", AWAIT_IPL)
    await told(lambda: use(pks_partition_sync, kept_sync), plain)
    await told(lambda: use(pks_partition, kept), waited)
    assert pks_partition_sync.ipl().call(CONFIG).used_space == 0
    assert (await (await pks_partition.ipl()).call(CONFIG)).used_space == 0


async def test_a_channel_that_the_test_has_closed(pks_partition_sync) -> None:
    pks_partition_sync.channel.close()
    pks_partition_sync.channel.close()
    with pytest.raises(SwpksError, match=r"done \(closed by this end; open another channel\)"):
        pks_partition_sync.channel.call(CONFIG)


async def test_a_partition_after_its_block() -> None:
    with blocking_partition() as plain:
        pass
    async with emulated_partition() as waited:
        pass
    for partition in (plain, waited):
        for name in ("connect", "ipl", "power_off", "set_faults", "flush", "locate"):
            used = getattr(partition, name)
            await told(used, "not served any more: use it inside of its block or its test")
    await told(waited.open, "not served any more")
    assert issubclass(PartitionGone, RuntimeError)


BLOCKS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: TESTING.blocking_partition().channel,
        r"no channel outside of .* write `with blocking_partition\(",
    ),
    (
        lambda: TESTING.emulated_partition().channel,
        r"no channel .* write `async with emulated_partition\(",
    ),
    (lambda: TESTING.emulated_console().line, r"no line outside .* write `async with emulated_console\("),
]


@pytest.mark.parametrize("use,message", BLOCKS)
def test_a_block_that_was_not_entered(use: Callable[[], Any], message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        use()


async def test_a_block_of_the_other_kind(pks_partition) -> None:
    right = r"write `async with emulated_partition\("
    with pytest.raises(WrongType, match=f"this block is asynchronous: {right}"):
        emulated_partition().__enter__()  # type: ignore[attr-defined]
    with pytest.raises(WrongType, match=f"no awaitable: {right}"):
        await emulated_partition()  # type: ignore[misc]
    with pytest.raises(WrongType, match=r"not asynchronous: write `with blocking_partition\("):
        blocking_partition().__aenter__()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no call outside of the block: write `async with connect\("):
        pks_partition.connect().call(CONFIG)


# Functions that take a channel, or a call of it.

REPEATS: list[tuple[str, Callable[[Any], Any], str]] = [
    (
        "channel",
        lambda it: UNTIL(it, make, time.sleep),
        f"is a function, not Block.*: {PLAIN}",
    ),
    (
        "order",
        lambda it: UNTIL(make, it.call, time.sleep),
        f"a channel first, and then make: {PLAIN}",
    ),
    (
        "request",
        lambda it: UNTIL(it.call, make(0), time.sleep),
        f"a function, not Request: {PLAIN}",
    ),
    (
        "result",
        lambda it: UNTIL(it.call, lambda token: token, time.sleep),
        f"a request, not int: {PLAIN}",
    ),
    ("sleep", lambda it: UNTIL(it.call, make, 1.0), f"sleep of until_done is a function, not float: {PLAIN}"),
    (
        "trio",
        lambda it: UNTIL(it.call, make, trio.sleep),
        f"not sleep, which is async: {ASYNC}",
    ),
    (
        "patience",
        lambda it: UNTIL(it.call, make, time.sleep, "5"),
        "patience is a number of seconds",
    ),
    ("no patience", lambda it: UNTIL(it.call, make, time.sleep, None), "math.inf, not NoneType"),
]
REPEATS_ASYNC: list[tuple[str, Callable[[Any], Any], str]] = [
    ("channel", lambda it: UNTIL_ASYNC(it, make, trio.sleep), f"is a function, not Channel: {ASYNC}"),
    ("order", lambda it: UNTIL_ASYNC(make, it.call, trio.sleep), f"a channel first, and then make: {ASYNC}"),
    ("sync", lambda it: UNTIL(it.call, make, time.sleep), f"not call, which is async: {ASYNC}"),
    (
        "sleep",
        lambda it: UNTIL_ASYNC(it.call, make, lambda s: None),
        f"sleep of .* is an async.*: {ASYNC}",
    ),
    (
        "plain",
        lambda it: UNTIL_ASYNC(lambda r: 5, make, trio.sleep),
        f"call of .* is an async.*: {ASYNC}",
    ),
]


@pytest.mark.parametrize("name,use,message", REPEATS, ids=[row[0] for row in REPEATS])
async def test_until_done(name: str, use: Callable[[Any], Any], message: str, pks_partition_sync) -> None:
    await told(lambda: use(pks_partition_sync.channel), message)


@pytest.mark.pks_partition(faults=["READ_OBJECT=H_BUSY"])
@pytest.mark.parametrize("name,use,message", REPEATS_ASYNC, ids=[row[0] for row in REPEATS_ASYNC])
async def test_until_done_async(name: str, use: Callable[[Any], Any], message: str, pks_partition) -> None:
    await told(lambda: use(pks_partition.channel), message)


async def test_until_done_for_ever(pks_partition_sync) -> None:
    """`math.inf` is a patience, as the error says."""
    with pytest.raises(swpks.HcallError, match="H_NOT_FOUND"):
        UNTIL(pks_partition_sync.channel.call, make, time.sleep, math.inf)


async def test_guests_with_a_blocking_channel(pks_partition_sync) -> None:
    """The emulated guests are asynchronous, so they need an asynchronous channel."""
    channel: Any = pks_partition_sync.channel
    for taker in (swpks.boot, swpks.LinuxKernel, swpks.BootLoader, PartitionFirmware):
        right = (
            rf"{taker.__name__} takes an asynchronous channel, not BlockingChannel: write {taker.__name__}\("
        )
        await told(lambda taker=taker: taker(channel), right)  # type: ignore[misc]
    await told(lambda: swpks.LinuxKernel(None), "LinuxKernel takes a channel, not NoneType")  # type: ignore[arg-type]


# A console and its systems.

SYSTEM_OFF = r"the system a is off: write await start_system\('a'\)"
UNSERVED = r"nothing serves this system; (if )?a is off: write await start_system\('a'\) first"
CUT: list[tuple[str, Callable[[Any], Any], str]] = [
    ("backup", lambda it: it.backup("a"), UNSERVED),
    ("recover", lambda it: it.recover("a"), SYSTEM_OFF),
    ("recovered", lambda it: it.recovered("a"), SYSTEM_OFF),
    ("migrate", lambda it: it.migrate("lpar1", "a", "b"), UNSERVED),
    ("migrate to it", lambda it: it.migrate("lpar2", "b", "a"), UNSERVED),
    (
        "restart",
        lambda it: it.restart_remotely("lpar1", "a", "b"),
        r"and b has [0-9a-f]{16}; before the loss write files\['./key'\] = bytes\(range\(32\)\), await",
    ),
]
CONSOLE: list[tuple[str, Callable[[Any], Any], str]] = [
    (
        "recover",
        lambda it: it.recover("b"),
        r"in the state Operating, .*: write await replace_service_processor\('b'\) first, with manual",
    ),
    (
        "restart",
        lambda it: it.restart_remotely("lpar1", "a", "b"),
        r"a is connected.*; write await power_cut_system\('a'\) first, or await migrate\('lpar1', 'a', 'b'\)",
    ),
    (
        "partition",
        lambda it: it.partition("a", "lpar1"),
        "'a' is a system, and 'lpar1' a partition",
    ),
    ("migrate", lambda it: it.migrate("a", "lpar1", "b"), "write 'lpar1' first, and then 'a'"),
    ("locate", lambda it: it.locate("a", "lpar1"), "write 'lpar1' first, and then 'a'"),
]
ORDERS = [("on", *row) for row in CONSOLE] + [("cut", *row) for row in CUT]


@pytest.mark.pks_console(partitions={"a": ["lpar1"], "b": ["lpar2"]})
@pytest.mark.parametrize("moment,name,use,message", ORDERS, ids=[f"{row[0]}-{row[1]}" for row in ORDERS])
async def test_a_console(
    moment: str, name: str, use: Callable[[Any], Any], message: str, pks_console
) -> None:
    """No remedy is a command of a shell."""
    if moment == "cut":
        await pks_console.backup("a")
        await pks_console.power_cut_system("a")
    with trio.fail_after(10):
        await told(lambda: use(pks_console), message)


@pytest.mark.pks_console(partitions={"a": ["lpar1"], "b": []})
async def test_a_partition_of_a_console(pks_console) -> None:
    """After a move, and after a power cut, a kept partition names the way to the partition."""
    kept = await pks_console.partition("lpar1", "a")
    await pks_console.migrate("lpar1", "a", "b")
    again = r"write await partition\('lpar1', SYSTEM\) with its new system, or follow it by swpks.open_fo"
    await told(lambda: kept.channel.call(CONFIG), again)
    kept = await pks_console.partition("lpar1", "b")
    await pks_console.power_cut_system("b")
    start = r"write await start_system\('b'\), and then await partition\('lpar1', 'b'\)"
    await told(lambda: kept.channel.call(CONFIG), f"if the test has cut the power: {start}")
    for name in ("connect", "ipl", "power_off", "flush", "open", "locate"):
        await told(getattr(kept, name), f"the system b has lost its power since: {start}")
    await pks_console.start_system("b")
    await told(kept.ipl, r"lost its power since: write await partition\('lpar1', 'b'\)")


# A server process.

STARTED = "the server does not run: write start\\(\\) first"
KILLED = {
    "ipl": lambda it: it.ipl(),
    "console": lambda it: it.console.call(show_system()),
    "set_faults": lambda it: it.set_faults("READ_OBJECT=H_BUSY"),
    "hmc": lambda it: it.hmc("status"),
    "connect": lambda it: it.connect(),
    "connect_blocking": lambda it: it.connect_blocking(),
}


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
async def test_a_server(swpks_server) -> None:
    """A server that runs, that serves no partition, that was killed, and that was never started."""
    runs = r"the server runs already: write restart\(\), or kill\(\) or stop\(\) before"
    await told(swpks_server.start, runs)
    kept = swpks_server.connect_blocking()
    swpks_server.ipl()
    await told(lambda: kept.call(CONFIG), r"ends all sessions: open another one by connect\(\) or conn")
    async with swpks_server.connect() as waited:
        swpks_server.ipl()
        await told(lambda: waited.call(CONFIG), "ends all sessions: open another one by connect")
    kept.close()
    swpks_server.hmc("power", "lpar1", "off")
    on = r'lpar1 is powered off: write hmc\("power", "lpar1", "on"\) first'
    for use in (swpks_server.connect_blocking, swpks_server.connect, swpks_server.ipl):
        await told(use, on)
    swpks_server.hmc("power", "lpar1", "on")
    kept = swpks_server.connect_blocking()
    swpks_server.kill()
    await told(lambda: kept.call(CONFIG), r"if the test has killed the server: write start\(\), and open")
    kept.close()
    for order in KILLED.values():
        await told(lambda order=order: order(swpks_server), STARTED)  # type: ignore[misc]
    await told(lambda: swpks_server.access_key("x"), "the server has no key of 'x'; it has those of lpar1")


VARIABLES: list[tuple[Any, Any, str]] = [
    ("X", 5, r'the value of X in environment is text, not int: write environment\["X"\] = "..."'),
    ("X", None, "the value of X in environment is text, not NoneType"),
    (5, "x", "the name of a variable in environment is text, not int"),
    ("A=B", "x", "'A=B' in environment: a name has no =, is not empty"),
    ("", "x", "'' in environment: a name has no ="),
    ("A", "secret\0", "'A' in environment: .* no part has a zero byte"),
]


@pytest.mark.parametrize("name,value,message", VARIABLES)
async def test_the_environment_of_a_server(tmp_path, name: Any, value: Any, message: str) -> None:
    """A variable that no process can have is refused before the start; the value is not shown."""
    server = ServerProcess(tmp_path / "state")
    server.environment[name] = value
    await told(server.start, message)
    wrong: Any = ["X"]
    server.environment = wrong
    await told(server.start, "environment is a dictionary, not list")


async def test_a_server_that_was_never_started(tmp_path) -> None:
    server = ServerProcess(tmp_path / "state")
    never = r"the server was never started: write start\(\) first"
    for use in [*KILLED.values(), ServerProcess.stop, ServerProcess.wait]:
        await told(lambda use=use: use(server), never)  # type: ignore[misc]
    with pytest.raises(WrongType, match=r"the argument of short_path is a PathLike, not str: write short_pa"):
        TESTING.short_path("x").__enter__()


# The other sentences of the page about errors.


def test_values_that_firmware_checks(pks_partition_sync) -> None:
    """They go to the server, and a misspelt attribute is Python's own error."""
    with pytest.raises(swpks.HcallError) as refusal:
        pks_partition_sync.channel.call(swpks.read_object(swpks.Authorization(9), b"label"))
    assert refusal.value.status is swpks.Status.H_PARAMETER
    with pytest.raises(AttributeError, match="object has no attribute 'chanel'"):
        pks_partition_sync.chanel  # noqa: B018
    assert issubclass(WrongType, TypeError)


async def test_each_order_needs_a_console(pks_console) -> None:
    await pks_console.power_cut()
    orders: dict[str, tuple[str, ...]] = {
        "line": ("lssyscfg -r sys",), "known": ("a",), "backup": ("a",), "recover": ("a",), "add": ("a",),
        "migrate": ("lpar1", "a", "b"), "restart_remotely": ("lpar1", "a", "b"),
    }  # fmt: skip
    for name, given in orders.items():
        off = r"the console is off: write await start\(\) first"
        await told(lambda name=name, given=given: getattr(pks_console, name)(*given), off)  # type: ignore[misc]
