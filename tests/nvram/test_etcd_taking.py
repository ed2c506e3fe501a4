"""The way to the ownership: the order of members, the time of the present owner's lease, the clock."""

from __future__ import annotations

import json
import time
from base64 import b64encode

import httpx
import pytest
import trio
import trio.testing

from hcall_server.nvram import NvramInUseError
from hcall_server.nvram.etcd import taking
from hcall_server.nvram.etcd.place import EtcdPlace
from hcall_server.nvram.etcd.taking import Taking
from hcall_server.nvram.etcd.wire import TIME_TO_LIVE, TXN
from hcall_server.nvram.mark import MemoryMark
from hcall_server.service import standing_by
from swpks.testing.etcd.model import EtcdModel
from swpks.testing.etcd.network import Fate, ModelNetwork

PLACE = EtcdPlace(("http://a:2379", "http://b:2379"), "p")


class Site:
    """A cluster in memory, for servers that want to be the owner."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model = EtcdModel(time.monotonic)
        self.network = ModelNetwork(self.model)
        self.hosts: list[str] = []
        self.hanging = ""
        inner = self.network.handle_request

        def noting(request: httpx.Request) -> httpx.Response:
            self.hosts.append(request.url.host)
            if request.url.host == self.hanging:
                raise httpx.ReadTimeout("planned")
            return inner(request)

        self.network.handle_request = noting  # type: ignore[method-assign]
        monkeypatch.setattr(taking, "connected", lambda *_, **__: httpx.Client(transport=self.network))

    def taking(self, lease: int = 6) -> Taking:
        """Return the way of one server."""
        return Taking(PLACE._replace(lease=lease), MemoryMark(), lambda error: None)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_a_hanging_member_is_asked_once(site: Site) -> None:
    """R-85: a take-over does not wait again for a member that has just hung."""
    site.hanging = "a"
    nvram = site.taking().attempt()
    assert nvram is not None
    nvram.close()
    assert site.hosts.count("a") == 1


def test_the_time_of_the_owners_lease_is_known(site: Site) -> None:
    """R-85: it is that of the owner, not of the server that asks, and is asked for once."""
    owner, other = site.taking(60).attempt(), site.taking(2)
    assert owner is not None
    asked: list[str] = []

    def noting(path: str) -> Fate:
        asked.append(path)
        return "lost" if path == TIME_TO_LIVE and asked.count(TIME_TO_LIVE) <= 2 else "answered"

    site.network.fates = noting
    found = []
    for _ in range(4):
        assert other.attempt() is None
        found.append(other.holder_seconds)
    assert found == [None, 60, 60, 60]
    assert asked.count(TIME_TO_LIVE) == 3
    owner.close()


async def test_a_start_waits_for_the_owners_lease(site: Site, autojump_clock: trio.testing.MockClock) -> None:
    """R-85: so a server that was killed can be started again, also with another time of its lease."""
    owner, other = site.taking(20).attempt(), site.taking(2)
    assert owner is not None
    before = trio.current_time()
    with pytest.raises(NvramInUseError, match="stop it"):
        await standing_by._owned(other, 3.0, "stop it")
    assert 21 <= trio.current_time() - before < 22
    await trio.to_thread.run_sync(owner.close)


async def test_an_owner_key_without_a_lease_is_named(site: Site) -> None:
    """R-85: it would never end: a start is refused at once, and a standby says the cure."""
    put = {"request_put": {"key": b64encode(b"p/owner").decode(), "value": "MQ=="}}
    assert site.model.answer(TXN, json.dumps({"success": [put]}).encode())[0] == 200
    cure = "p/owner hangs on no lease: delete it, if no server owns it"
    with pytest.raises(NvramInUseError, match=cure):
        await standing_by._owned(site.taking(), 60.0, "stop it")
    reason, nvram = await standing_by._attempt(site.taking(), standby=True)
    assert nvram is None
    assert cure in reason


def test_a_suspend_counts_in_the_time_of_the_lease(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-22: after the wake-up the lease is over, though the monotonic clock has stood still."""
    nvram = site.taking().attempt()
    assert nvram is not None
    assert 5 < nvram.lease.rest <= 6
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr("hcall_server.nvram.etcd.taking.time.clock_gettime", lambda clock: now + 7)
    assert nvram.over
    nvram.close()
