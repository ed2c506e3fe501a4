"""The jobs that calls of a console wait for, a console after its block, and wrong names of systems."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from hcall_abi.mistakes import UnknownName, WrongValue
from hcall_client.calls import get_config
from hcall_client.errors import SessionEnded
from swpks.testing import JobFailed, emulated_console
from swpks.testing.remedies import ConsoleGone


async def test_a_failed_backup_is_no_recovery(pks_console):
    await pks_console.backup("b")
    await pks_console.power_cut_system("b")
    with pytest.raises(JobFailed, match="nothing serves this system"):
        await pks_console.backup("b")
    with trio.fail_after(5):
        job = await pks_console.replace_service_processor("b")
    assert (job.kind, job.state, job.system) == ("recover", "done", "b")


async def test_a_failed_backup_and_no_copies(pks_console):
    await pks_console.power_cut_system("b")
    with pytest.raises(JobFailed):
        await pks_console.backup("b")
    with trio.fail_after(5):
        assert await pks_console.replace_service_processor("b") is None


async def test_an_order_that_has_failed_is_no_recovery(pks_console):
    with pytest.raises(JobFailed, match="nothing to recover"):
        await pks_console.recover("a")
    assert await pks_console.recovered("a") is None
    assert await pks_console.replace_service_processor("b") is None
    with pytest.raises(JobFailed, match="recover of b: b stays in Recovery"):
        await pks_console.recover("b")
    assert await pks_console.recovered("b") is None


async def test_a_line_that_has_failed_is_no_recovery(pks_console):
    assert await pks_console.replace_service_processor("b") is None
    for system in ("a", "b"):
        assert (await pks_console.line(f"recover -m {system}")).status == 1
        assert await pks_console.recovered(system) is None


USES: dict[str, tuple[object, ...]] = {
    "line": ("lssyscfg -r sys",), "known": ("a",), "backup": ("a",), "recover": ("a",), "add": ("a",),
    "migrate": ("lpar1", "a", "b"), "restart_remotely": ("lpar1", "a", "b"), "partition": ("lpar1", "a"),
    "locate": ("lpar1", "a"), "power_cut_system": ("a",), "start_system": ("a",), "recovered": ("a",),
    "replace_service_processor": ("a",), "finish": (None,), "power_cut": (), "start": (), "restart": (),
}  # fmt: skip
PARTS = ("start", "power_cut", "replace_service_processor", "replace_card_and_tpm")
GONE = "the console does not exist any more: use it inside of its block or its test"


async def test_everything_of_a_console_after_its_block():
    async with emulated_console() as console:
        system, partition = console.systems["a"], await console.partition("lpar1", "a")
        where = console.locate("lpar1", "b")
    uses: list[Callable[[], Any]] = [partial(getattr(console, name), *given) for name, given in USES.items()]
    uses += [where, *(getattr(system, name) for name in PARTS)]
    uses += [getattr(partition, name) for name in ("ipl", "connect", "flush", "power_off", "set_faults")]
    uses += [
        lambda: console.systems["a"],
        partial(system.connect, "lpar1"),
        partial(system.partition, "lpar1"),
    ]
    for use in uses:
        with pytest.raises(ConsoleGone, match=f"^{GONE}$"):
            await result_of(use)
    with pytest.raises(SessionEnded):
        await partition.channel.call(get_config())


async def result_of(use: Callable[[], Any]) -> None:
    with trio.fail_after(5):
        found = use()
        if isinstance(found, Awaitable):
            await found


IS_PARTITION = (
    "^'lpar1' is a partition, and a system is asked for here; the systems are a, b: name one of them$"
)
EXCHANGED: list[tuple[str, tuple[str, ...], str]] = [
    (
        "migrate",
        ("a", "b", "lpar1"),
        "^'a' is a system, .*: write 'lpar1' first, and then 'a', and then 'b'$",
    ),
    ("restart_remotely", ("b", "lpar1", "a"), "write 'lpar1' first, and then 'b', and then 'a'$"),
    ("migrate", ("lpar1", "a", "lpar1"), IS_PARTITION),
    ("backup", ("lpar1",), IS_PARTITION),
    ("known", ("lpar1",), IS_PARTITION),
    ("add", ("lpar1",), IS_PARTITION),
    ("power_cut_system", ("lpar1",), IS_PARTITION),
    ("partition", ("lpar1", "lpar1"), IS_PARTITION),
    ("locate", ("b", "lpar1"), "write 'lpar1' first, and then 'b'$"),
]


@pytest.mark.parametrize("off", [False, True])
async def test_a_partition_in_the_place_of_a_system(off, pks_console):
    if off:
        await pks_console.power_cut_system("a")
        await pks_console.power_cut_system("b")
    for name, given, message in EXCHANGED:
        with pytest.raises((UnknownName, WrongValue), match=message):
            await result_of(partial(getattr(pks_console, name), *given))
