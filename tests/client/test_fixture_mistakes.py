"""Wrong uses of the fixtures.

Each error is one line at the caller's line, with the mistake and the remedy.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import swpks
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import Mistake
from hcall_client.where import NotLocated
from swpks.testing import (
    ConsoleProcess,
    ServerFailed,
    ServerProcess,
    WrongOption,
    blocking_partition,
    emulated_console,
    emulated_partition,
)

SYSTEMS = r"there is no system 'c'; the systems are a, b: .*pks_console\(partitions=\{.*'c': \['lpar1'\]\}\)"
RUNS = r"the system a runs: write await power_cut_system\('a'\)"
NAMES = r"a has no partition 'x'; it has lpar1: .*pks_console\(partitions=\{'a': \['lpar1', 'x'\]\}\)"
TEXT = "is text, not"
ABOUT_A_SYSTEM = (
    "known", "backup", "recover", "add", "power_cut_system", "start_system", "replace_service_processor",
    "recovered",
)  # fmt: skip


async def refused(use: Callable[[], Any], message: str) -> None:
    """Check that a wrong use raises one line. The last frame that pytest shows must be the caller's."""
    with pytest.raises((Mistake, OperatorError, ServerFailed), match=message) as caught:  # noqa: PT012
        found = use()
        await (found.__aenter__() if hasattr(found, "__aenter__") else found)
    assert "\n" not in str(caught.value).rstrip("\n")
    shown = [str(entry.path) for entry in caught.traceback.filter(caught)]
    assert shown[-1] == __file__, shown
    assert len(caught.traceback) <= 5
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.pks_console(partitions={"a": ["lpar1"], "b": []})
async def test_a_partition_that_has_moved(pks_console):
    """The mark has made the partition at this system, so the error does not advise another mark."""
    await pks_console.migrate("lpar1", "a", "b")
    moved = "it has moved to another system, or is not restored yet; the system is Operating"
    await refused(lambda: pks_console.partition("lpar1", "a"), moved)


async def test_a_system_that_the_console_does_not_have(pks_console):
    """A system name that the console does not know raises an error before any change.

    The console stays connected.
    """
    for function in map(pks_console.__getattribute__, ABOUT_A_SYSTEM):
        await refused(lambda use=function: use("c"), SYSTEMS)  # type: ignore[misc]
        await refused(lambda use=function: use(5), TEXT)  # type: ignore[misc]
    assert pks_console.known("a").connected


CONSOLE = [
    (lambda it: it.partition("lpar1", "c"), SYSTEMS),
    (lambda it: it.partition("x", "a"), NAMES),
    (lambda it: it.partition(b"lpar1", "a"), "is text, not bytes, without the b before the quotes"),
    (lambda it: it.partition("lpar1", None), TEXT),
    (lambda it: it.systems["c"], SYSTEMS),
    (lambda it: it.systems["a"].partition("x"), NAMES),
    (lambda it: it.systems["a"].connect("x"), NAMES),
    (lambda it: it.systems["a"].answered("x"), NAMES),
    (lambda it: it.migrate("lpar1", "a", "c"), SYSTEMS),
    (lambda it: it.migrate("lpar1", "c", "a"), SYSTEMS),
    (lambda it: it.migrate(5, "a", "b"), TEXT),
    (lambda it: it.migrate("x", "a", "b"), "a has no partition 'x'; it has lpar1"),
    (lambda it: it.migrate("lpar1", "a", "a"), "source and target are both a"),
    (
        lambda it: it.migrate("lpar1", "a", "b"),
        r"b has a partition lpar1 of its own: .*'a': \['lpar1'\], 'b': \[\]\}.*rule arrival.name",
    ),
    (lambda it: it.restart_remotely("lpar1", "a", "c"), SYSTEMS),
    (lambda it: it.restart_remotely("x", "a", "b"), "a has no partition 'x'; it has lpar1"),
    (lambda it: it.locate("lpar1"), r"a, b each have a partition 'lpar1': write locate\('lpar1', 'a'\)"),
    (lambda it: it.locate("lpar1", "c"), SYSTEMS),
    (lambda it: it.locate(5), TEXT),
    (lambda it: it.line(5), r'not int: write line\("lssyscfg -r sys"\)'),
    (lambda it: it.line(["lssyscfg", 5]), "a value of type int"),
    (lambda it: it.line(b"lssyscfg"), "not bytes"),
    (lambda it: it.line("lssyscfg 'a"), "No closing quotation; write the quotes as in a shell, or a list"),
    (lambda it: it.finish("a"), "the argument of finish is a Job, not str"),
    (
        lambda it: it.systems["a"].replace_service_processor(),
        r"the system a runs: write await power_cut_system\('a'\)",
    ),
    (
        lambda it: it.systems["a"].replace_card_and_tpm(),
        r"the system a runs: write await power_cut_system\('a'\)",
    ),
]


async def test_wrong_uses_of_a_console(pks_console):
    for use, message in CONSOLE:
        await refused(lambda use=use: use(pks_console), message)  # type: ignore[misc]
    with pytest.raises(NotLocated, match="nobody: no system has it; the partitions are a/lpar1, b/lpar1"):
        pks_console.locate("nobody")()
    assert await pks_console.line("lssyscfg -r sys -F name") == (0, "a\nb")


async def test_a_console_and_a_system_that_are_off(pks_console):
    """If a needed console or system is off, the error names the function that starts it.

    If the system was removed from the console, the error names the function that adds it.
    """
    await pks_console.power_cut_system("a")
    message = r"the system a is off: write await start_system\('a'\)"
    await refused(lambda: pks_console.partition("lpar1", "a"), message)
    await refused(lambda: pks_console.systems["a"].connect("lpar1"), message)
    await pks_console.power_cut()
    for order in ("backup", "recover", "add"):
        await refused(lambda order=order: getattr(pks_console, order)("b"), r"write await start\(\) first")  # type: ignore[misc]
    await refused(lambda: pks_console.migrate("lpar1", "a", "b"), "the console is off")
    await refused(lambda: pks_console.restart_remotely("lpar1", "a", "b"), "the console is off")
    await refused(lambda: pks_console.line("lssyscfg -r sys -F name"), r"write await start\(\) first")
    await refused(lambda: pks_console.known("b"), r"write await start\(\) first")
    with pytest.raises(NotLocated, match="the console is off: write await start"):
        pks_console.locate("lpar1", "b")()
    await pks_console.start()
    await refused(pks_console.start, r"the console runs already: write await restart\(\)")
    runs = r"the system b runs already: write await power_cut_system\('b'\) of the console"
    await refused(lambda: pks_console.start_system("b"), runs)
    await pks_console.management.remove_system("b")
    await refused(
        lambda: pks_console.backup("b"), r"does not manage the system b: write await add\('b'\) first"
    )
    await pks_console.add("b")
    assert (await pks_console.backup("b")).state == "done"


async def test_a_job_of_a_console_that_is_off(pks_console):
    """If the console is off, waiting for its running job is an error. A job that has ended is returned."""
    job, ended = pks_console.management.back_up(pks_console.known("a")), await pks_console.backup("b")
    running = dataclasses.replace(job, state="running")
    await pks_console.power_cut()
    await refused(lambda: pks_console.finish(running), r"write await start\(\) first")
    assert await pks_console.finish(ended) is ended


PARTITION = [
    (lambda it: it.set_faults(["READ_OBJECT=H_BUSY"]), r'one for each fault, not list: write set_faults\("'),
    (lambda it: it.set_faults(None), "not NoneType"),
    (lambda it: it.set_faults("READ"), "'READ' is no fault .* a fault is HCALL=STATUS"),
    (lambda it: it.set_faults("NOTHING=H_BUSY"), "no h-call 'NOTHING'; the h-calls are GET_CONFIG"),
    (lambda it: it.ipl("sometimes"), "secure_boot is 0 to 2, or off, audit, enforce, not 'sometimes'"),
    (lambda it: it.ipl(1.5), "not 1.5"),
]
OWN_THREAD = [
    (lambda it: it.connect("lpar1"), "timeout is a number of seconds or None, not str"),
    (lambda it: it.run(5), "the argument of run is a function, not int"),
    (lambda it: it.run(trio.sleep_forever), "run takes a plain function"),
]


async def test_wrong_uses_of_a_partition(pks_partition, pks_partition_sync):
    """Both kinds of partition raise the same error for a wrong use, and the partition is still usable."""
    for use, message in PARTITION:
        for partition in (pks_partition, pks_partition_sync):
            await refused(lambda use=use, partition=partition: use(partition), message)  # type: ignore[misc]
    for use, message in OWN_THREAD:
        await refused(lambda use=use: use(pks_partition_sync), message)  # type: ignore[misc]
    assert (await pks_partition.channel.call(swpks.get_config())).used_space == 0
    assert pks_partition_sync.channel.call(swpks.get_config()).used_space == 0


OPTIONS: list[tuple[dict, str]] = [
    ({"kbytes": "8"}, "kbytes='8': it is a number of KiB"),
    ({"bogus": 1}, "there is no option 'bogus'; the names are name, level, kbytes"),
    ({"attributes": {"keystore_kbytes": 8}}, "the size is an option of its own: write kbytes=8"),
    ({"level": "FW99"}, "the levels are FW940"),
    ({"flush_delay": math.nan}, "a change waits 0 to 60000 ms"),
    ({"faults": ["NOTHING=H_BUSY"]}, "the h-calls are GET_CONFIG"),
]
CONSOLE_OPTIONS: list[tuple[dict, str]] = [
    ({"kbytes": "8"}, "kbytes='8': it is a number of KiB"),
    ({"attributes": {"keystore_kbytes": 8}}, "write kbytes=8"),
    ({"partitions": {5: ["lpar1"]}}, "the name of a system is text, not 5"),
    ({"partitions": {"a": "lpar1"}}, r"it is a list, such as partitions\['a'\]"),
    ({"keep": -1}, "keep=-1: a console keeps 1 copy of each store or more"),
]


@pytest.mark.parametrize("options,message", OPTIONS)
async def test_a_wrong_option_of_a_partition(options, message):
    """The error for a wrong option is at the line of the `with`, without frames of other modules."""
    await refused(lambda: emulated_partition(**options), message)
    with pytest.raises((WrongOption, OperatorError), match=message) as caught, blocking_partition(**options):
        pass
    assert str(caught.traceback.filter(caught)[-1].path) == __file__
    assert len(caught.traceback) == 2


@pytest.mark.parametrize("options,message", CONSOLE_OPTIONS)
async def test_a_wrong_option_of_a_console(options, message):
    await refused(lambda: emulated_console(**options), message)


async def test_processes_that_do_not_run(tmp_path):
    """A value of the wrong type is an error before the start.

    A server that was never started is an error too.
    """
    wrong: Any = (ServerProcess, ConsoleProcess)
    for kind in wrong:
        await refused(lambda kind=kind: kind("state"), r'is a PathLike, not str: write Path\("state"\)')  # type: ignore[misc]
        process = kind(tmp_path / "state")
        await refused(lambda it=process: it.run(["lpar", "lpar1"]), 'write run\\("lpar", "lpar1", "ls"\\)')  # type: ignore[misc]
        await refused(lambda it=process: it.run("lpar", data="text"), "data is bytes, not str")  # type: ignore[misc]
        await refused(lambda it=process: it.hmc(5), "a value of type int")  # type: ignore[misc]
        await refused(lambda it=process: it.log_lines(b"x"), "the text of log_lines is text, not bytes")  # type: ignore[misc]
        await refused(lambda it=process: it.log_lines("x", "1"), "least is a whole number, not str")  # type: ignore[misc]
        await refused(process.stop, "the server was never started")
    server = ServerProcess(tmp_path / "state")
    for use in (server.connect, server.connect_blocking, server.access_key):
        await refused(use, r"the server was never started: write start\(\) first")
        await refused(lambda use=use: use(5), TEXT)  # type: ignore[misc]
    await refused(lambda: server.socket(5), TEXT)  # type: ignore[arg-type]
    await refused(lambda: server.set_faults(["READ_OBJECT=H_BUSY"]), "one for each fault, not list")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the name of a partition is text, not int"):
        ConsoleProcess(Path(tmp_path)).locate(5)  # type: ignore[arg-type]


@pytest.mark.process
async def test_a_partition_that_the_server_does_not_have(swpks_server):
    """The error for an unknown partition names the existing ones, and the mark that adds another."""
    message = r"no partition 'two'; it has lpar1: .*swpks_server\(partitions=\['lpar1:64', 'two:64'\]\)"
    for use in (swpks_server.connect, swpks_server.connect_blocking, swpks_server.access_key):
        await refused(lambda use=use: use("two"), message)  # type: ignore[misc]
    # A program that waits for a partition catches FileNotFoundError.
    with pytest.raises(FileNotFoundError, match="no partition 'two'"):
        swpks_server.connect_blocking("two")
    await refused(lambda: swpks_server.ipl("two"), "ipl two: .*the partitions are lpar1")
    await refused(swpks_server.start, "the server runs already")
    swpks_server.kill()
    for use in (swpks_server.connect, swpks_server.connect_blocking):
        await refused(use, r"the server does not run: write start\(\) first")
    # A program that waits for a server catches ConnectionRefusedError.
    with pytest.raises(ConnectionRefusedError):
        swpks_server.connect_blocking()
