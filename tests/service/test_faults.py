"""Fault plans of a running server: set while sessions are open, in virtual time, shown and logged."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.control_views import FaultView
from hcall_abi.errors import OperatorError
from hcall_abi.statuses import Status
from hcall_client.calls import confirm_object_flushed, get_config, read_object, write_object
from hcall_client.console import set_nvram_fault, show_metrics, show_partition
from hcall_client.errors import HcallError
from hcall_client.request import Authorization
from swpks.testing import ServerProcess, emulated_partition

OS = Authorization(3)


async def status_of(channel: Any, request: Any) -> int:
    """Return the status of a call."""
    try:
        await channel.call(request)
    except HcallError as error:
        return int(error.status)
    return int(Status.H_SUCCESS)


@pytest.mark.pks_partition(faults=["WRITE_OBJECT=H_BUSY,times=2"])
async def test_a_plan_from_the_start_and_its_end(pks_partition) -> None:
    """R-75: A plan for two calls makes two WRITEs busy. The third runs, and the plan is over."""
    channel, write = pks_partition.channel, write_object(OS, b"x", b"data")
    assert [await status_of(channel, write) for _ in range(4)] == [1, 1, 0, Status.H_RESOURCE]


async def test_open_sessions_take_a_new_plan_at_once(pks_partition) -> None:
    """R-75: a new plan, or its end, applies to all sessions of the partition from their next call on."""
    read = read_object(OS, b"x")
    async with pks_partition.connect() as second:
        assert await status_of(second, read) == Status.H_NOT_FOUND
        await pks_partition.set_faults("READ_OBJECT=H_BUSY,times=3")
        assert [await status_of(each, read) for each in (second, pks_partition.channel)] == [1, 1]
        await pks_partition.set_faults()
        assert await status_of(second, read) == Status.H_NOT_FOUND
    await pks_partition.set_faults("READ_OBJECT=H_BUSY")
    channel = await pks_partition.ipl()
    assert [await status_of(channel, read) for _ in range(2)] == [1, Status.H_NOT_FOUND]


async def test_confirm_is_busy_only_when_it_is_named(pks_partition) -> None:
    """R-20, R-75: according to the public record, CONFIRM never returns busy."""
    channel, confirm = pks_partition.channel, confirm_object_flushed(OS, b"x")
    await pks_partition.set_faults("WRITE_OBJECT=H_BUSY,times=9", "READ_OBJECT=H_BUSY,times=9")
    assert await status_of(channel, confirm) != Status.H_BUSY
    await pks_partition.set_faults("CONFIRM_OBJECT_FLUSHED=H_BUSY")
    assert await status_of(channel, confirm) == Status.H_BUSY


async def test_seconds_are_those_of_the_trio_clock(autojump_clock: MockClock) -> None:
    """R-75: Seconds of a plan are seconds of Trio's clock, so a virtual clock can skip an hour."""
    async with emulated_partition(faults=["GET_CONFIG=H_BUSY,seconds=3600"]) as partition:
        assert await status_of(partition.channel, get_config()) == Status.H_BUSY
        await trio.sleep(3599)
        assert await status_of(partition.channel, get_config()) == Status.H_BUSY
        await trio.sleep(1)
        assert await status_of(partition.channel, get_config()) == Status.H_SUCCESS


async def test_a_plan_that_is_refused_changes_nothing(pks_partition) -> None:
    """R-75: If a new plan is refused, the old plan stays in effect."""
    await pks_partition.set_faults("GET_CONFIG=H_BUSY,times=2")
    with pytest.raises(OperatorError):
        await pks_partition.set_faults("GET_CONFIG=H_BUSY", "GET_CONFIG=H_SUCCESS")
    assert await status_of(pks_partition.channel, get_config()) == Status.H_BUSY


@pytest.mark.process
def test_the_console_sets_and_shows_a_plan(swpks_server: ServerProcess) -> None:
    """R-75: The console sets a fault plan over the control channel, and shows its progress.

    A restart of the server drops the plan.
    """
    swpks_server.set_faults("GET_CONFIG=H_BUSY,nth=2", "READ_OBJECT=H_BUSY,seconds=30")
    with swpks_server.connect_blocking() as channel:
        channel.call(get_config())
        with pytest.raises(HcallError, match="H_BUSY"):
            channel.call(get_config())
    view = swpks_server.console.call(show_partition("lpar1"))
    assert view.faults[0] == FaultView(
        hcall="GET_CONFIG", status="H_BUSY", nth=2, times=1, seconds=None, seen=2, answered=1, spent=True
    )
    shown = swpks_server.hmc("status", "lpar1")
    assert "fault: GET_CONFIG answers H_BUSY from call 2 on, 1 times: spent" in shown
    assert "fault: READ_OBJECT answers H_BUSY from call 1 on, for 30 s: 0 so far" in shown
    assert 'hcall="GET_CONFIG",partition="lpar1",status="H_BUSY"' in swpks_server.console.call(show_metrics())
    assert swpks_server.log_lines("busy by plan: GET_CONFIG=H_BUSY,nth=2,times=1")
    refused = swpks_server.run("hmc", "faults", "lpar1", "READ_OBJECT=H_STATE")
    assert (refused.returncode, b"never answers H_STATE" in refused.stderr) == (2, True)
    swpks_server.kill()
    swpks_server.start()
    assert swpks_server.console.call(show_partition("lpar1")).faults == []


@pytest.mark.process
def test_a_file_sets_a_plan(tmp_path: Path) -> None:
    """R-75: A plan in the configuration file acts from the partition's first call."""
    config = tmp_path / "swpks.toml"
    config.write_text('[[partition]]\nname = "lpar1"\nkeystore_kbytes = 8\nfaults = ["GET_CONFIG=H_BUSY"]\n')
    server = ServerProcess(tmp_path / "state", [], ["--config", str(config)])
    try:
        with server.start().connect_blocking() as channel:
            with pytest.raises(HcallError, match="H_BUSY"):
                channel.call(get_config())
            channel.call(get_config())
    finally:
        server.kill()


@pytest.mark.process
def test_nvram_refuses_or_hangs_on_demand(swpks_server: ServerProcess) -> None:
    """R-23, R-75: While a planned fault lets NVRAM fail or hang, a change is pending for the guest.

    Afterwards the change is durable. The view and the log have the fault.
    """
    confirm = confirm_object_flushed(OS, b"x")
    console = swpks_server.console
    console.call(set_nvram_fault("stall"))
    with swpks_server.connect_blocking() as channel:
        channel.call(write_object(OS, b"x", b"data"))
        assert not any(channel.call(confirm).flushed for _ in range(50))
        assert "fault: stall until it is ended" in swpks_server.hmc("nvram", "stall")
        assert console.call(set_nvram_fault("full", 2)).fault == "full, 2 commits to go"
        while not channel.call(confirm).flushed:
            # The commit that hung goes on. The second fault does not strike it.
            pass
        channel.call(write_object(OS, b"y", b"data"))
        while not channel.call(confirm_object_flushed(OS, b"y")).flushed:
            pass
    assert "swpks_nvram_failures_total 2.0" in swpks_server.console.call(show_metrics())
    assert console.call(set_nvram_fault("none")).fault is None
    assert swpks_server.log_lines('"trouble": "full"')
    assert swpks_server.log_lines("nvram.recovered")
    assert swpks_server.stop() == 0
