"""The server imports some modules late. If an import fails, only one call or one log line is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Never

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hcall_abi.rules import service as rules
from hcall_abi.statuses import Status
from hcall_server.control_channel.loading import SWITCH_SECONDS, loaded
from hcall_server.machine.reserve import SIZE, Reserve
from tests.guest import Answer
from tests.hcalls.owner import set_up
from tests.scarcity.imports import unloadable
from tests.secvar.keys import update


def test_an_update_without_its_libraries_is_aborted() -> None:
    """R-70: without its libraries, SIGNED_UPDATE is aborted and changes nothing.

    The same update succeeds later.
    """
    guest = set_up()
    payload, before = update("db", b"contents"), guest.picture()
    with unloadable("hcall_server.secvar.pkcs7", "hcall_server.secvar.certificates"):
        assert guest.update("db", payload) == Answer(int(Status.H_ABORTED))
    assert guest.refusals[-1].rule is rules.SCARCE_DESCRIPTORS
    assert guest.picture() == before
    assert guest.update("db", payload) == Answer(0)


async def test_guests_wait_while_the_reserve_is_lent(nursery: trio.Nursery) -> None:
    """`wait_whole` returns when the last of two loans has ended and the reserve is whole again."""
    reserve, events = Reserve(), list[str]()

    async def guest() -> None:
        await reserve.wait_whole()
        events.append(repr(reserve))

    reserve.refill()
    await reserve.wait_whole()
    with reserve.lent():
        nursery.start_soon(guest)
        with reserve.lent():
            reserve.refill()
            assert repr(reserve) == "Reserve(0 descriptors, lent)"
        await wait_all_tasks_blocked()
        assert events == []
    await wait_all_tasks_blocked()
    assert events == [f"Reserve({SIZE} descriptors)"]
    reserve.close()


async def test_loads_at_once_leave_the_switch_interval_alone() -> None:
    """After simultaneous imports, the thread switch interval is the original one."""
    usual, reserve, found = sys.getswitchinterval(), Reserve(), list[float]()

    def work() -> float:
        Path("/").stat()
        return sys.getswitchinterval()

    async def load() -> None:
        found.append(await loaded(work, reserve))

    async with trio.open_nursery() as loads:
        for _ in range(20):
            loads.start_soon(load)
    assert found == pytest.approx([SWITCH_SECONDS] * 20)
    assert sys.getswitchinterval() == pytest.approx(usual)
    reserve.close()


async def test_a_load_that_fails_gives_the_reserve_back() -> None:
    """If an import fails, the reserve of descriptors is returned, and the caller gets the error."""
    reserve = Reserve()

    def fail() -> Never:
        raise ImportError("half an installation")

    with pytest.raises(ImportError):
        await loaded(fail, reserve)
    await reserve.wait_whole()
    assert repr(reserve) == f"Reserve({SIZE} descriptors)"
    reserve.close()
