"""Requests to the members of etcd: hostile and slow answers."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Callable, Iterator

import httpx
import pytest

from hcall_server.nvram import NvramError
from hcall_server.nvram.etcd import transport
from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import Lease
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster, connected
from hcall_server.nvram.etcd.wire import KEEP, KeepAnswer
from hcall_server.nvram.mark import MemoryMark
from swpks.testing.etcd.network import ModelNetwork
from tests.nvram.test_etcd_model import Lab

KEPT = b'{"result":{"TTL":"6"}}'


class Slow:
    """Members that answer after some seconds, by a clock that stands still otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **delays: float) -> None:
        self.delays = delays
        self.asked: list[str] = []
        self.now = 100.0
        monkeypatch.setattr(transport, "time", self)

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def cluster(self) -> EtcdCluster:
        """Return the cluster; an attempt has one second, a second one has five."""
        urls = [f"http://{each}:2379" for each in self.delays]
        return EtcdCluster(urls, httpx.Client(transport=Answering(self.answer), timeout=1), 5)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer, or raise the error of a time-out."""
        self.asked.append(request.url.host)
        seconds, delay = request.extensions["timeout"]["read"], self.delays[request.url.host]
        self.now += min(seconds, delay)
        if delay > seconds:
            raise httpx.ReadTimeout("planned")
        return httpx.Response(200, content=KEPT)


class Answering(httpx.BaseTransport):
    """Answers each request by a function."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        return self._answer(request)


def cluster_of(answer: Callable[[httpx.Request], httpx.Response]) -> EtcdCluster:
    """Return a cluster of one member that answers by a function."""
    return EtcdCluster(["http://a:2379"], httpx.Client(transport=Answering(answer), timeout=1))


@pytest.mark.parametrize("codings", ["gzip", "gzip, gzip", "deflate", "br"])
def test_a_compressed_answer_is_not_decoded(codings: str) -> None:
    """R-85: a few bytes, decoded, would fill the memory and take longer than the time-out."""
    body = gzip.compress(gzip.compress(KEPT))

    def bomb(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": codings}, stream=_Stream(body))

    with pytest.raises(NvramError, match="it is compressed"):
        cluster_of(bomb).ask(KEEP, b"{}", KeepAnswer)


class _Stream(httpx.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


def test_no_compression_is_asked_for() -> None:
    """R-85: an honest member sends plain JSON."""
    client = connected()
    assert client.headers["Accept-Encoding"] == "identity"
    client.close()


def test_a_single_slow_member_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-85: it gets a long time after a short one, and from then on at once, until it is fast again."""
    slow = Slow(monkeypatch, a=1.2)
    cluster = slow.cluster()
    cluster.ask(KEEP, b"{}", KeepAnswer)
    assert slow.asked == ["a", "a"]
    cluster.ask(KEEP, b"{}", KeepAnswer)
    assert slow.asked == ["a"] * 3
    slow.delays["a"] = 0.1
    cluster.ask(KEEP, b"{}", KeepAnswer)
    slow.delays["a"] = 1.2
    slow.now = 0
    cluster.ask(KEEP, b"{}", KeepAnswer)
    assert slow.asked == ["a"] * 6
    assert slow.now == pytest.approx(2.2)


def test_slow_members_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-85: the first round is short, the second is for those that were slow, and all of it has a bound."""
    slow = Slow(monkeypatch, a=9, b=2.4, c=1.8)
    cluster = slow.cluster()
    cluster.ask(KEEP, b"{}", KeepAnswer)
    assert slow.asked == ["a", "b", "c", "a", "b"]
    assert cluster.endpoints[0] == "http://b:2379"
    slow.delays.update(b=9, c=0.1)  # the member that was late hangs
    slow.now = 0
    cluster.ask(KEEP, b"{}", KeepAnswer, 4)
    assert slow.now < 1.5
    slow.delays.update(c=9)
    slow.now = 0
    with pytest.raises(NvramError, match="may be slow"):
        cluster.ask(KEEP, b"{}", KeepAnswer, 4)
    assert slow.now <= 4
    with pytest.raises(NvramError, match="may be slow"):
        cluster.ask(KEEP, b"{}", KeepAnswer)
    assert slow.now < 20


def test_a_slow_member_carries_nvram(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-85: a commit, and a load with its fences, at a single member that answers after 1.2 seconds."""
    lab, slow = Lab(), Slow(monkeypatch, a=1.2)
    network = ModelNetwork(lab.model)

    def answer(request: httpx.Request) -> httpx.Response:
        kept = network.handle_request(request)  # etcd carries out also the request that is given up
        slow.answer(request)
        return kept

    monkeypatch.setattr(Answering, "handle_request", lambda _, request: answer(request))
    cluster = slow.cluster()
    lease = Lease(cluster, lab.clock)
    lease.grant()
    nvram = EtcdNvram(cluster, EtcdKeys("p"), b"a", lease, MemoryMark())
    nvram.own()
    cluster._late = ""
    assert nvram.load() == {}
    nvram.commit({"x": b"1"})
    assert nvram.load() == {"x": b"1"}
    lease.keep()
    cluster._late = ""  # slow from now on: the trouble is told soon, and the next try stores it
    slow.now = 0
    with pytest.raises(NvramError, match="may be slow"):
        nvram.commit({"x": b"2"})
    assert slow.now == 1
    nvram.commit({"x": b"3"})
    assert nvram.load() == {"x": b"3"}


def test_a_hasty_request_leaves_the_long_time_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-85: after a request with long times comes a short one: a stopped cluster is reported soon."""
    slow = Slow(monkeypatch, a=9, b=9)
    cluster = slow.cluster()
    cluster.hasty = True
    times = []
    for _ in range(3):
        slow.now = 0
        with pytest.raises(NvramError, match="may be slow"):
            cluster.ask(KEEP, b"{}", KeepAnswer)
        times.append(slow.now)
    assert times == [2, 7.5, 2]
    slow.delays["b"] = 4
    cluster.ask(KEEP, b"{}", KeepAnswer)
    assert cluster.endpoints[0] == "http://b:2379"


def test_a_large_commit_over_a_thin_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-23, R-85: the fence before a repeated commit is fast, and does not use up the commit's long time."""
    lab, slow = Lab(), Slow(monkeypatch, a=0.05)
    network = ModelNetwork(lab.model)

    def answer(request: httpx.Request) -> httpx.Response:
        slow.delays["a"] = 1.5 if len(request.read()) > 500_000 else 0.05
        slow.answer(request)  # a large request that is given up has not reached etcd
        return network.handle_request(request)

    monkeypatch.setattr(Answering, "handle_request", lambda _, request: answer(request))
    cluster = slow.cluster()
    lease = Lease(cluster, lab.clock)
    lease.grant()
    nvram = EtcdNvram(cluster, EtcdKeys("p"), b"a", lease, MemoryMark())
    nvram.own()
    data = b"x" * 1_000_000
    with pytest.raises(NvramError, match="may be slow"):
        nvram.commit({"x": data})
    assert nvram.last_commit() is None  # a flight after a failed one begins with this
    nvram.commit({"x": data})
    assert nvram.load() == {"x": data}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_without_descriptors_is_told_so(number: int) -> None:
    """R-85: no member is at fault."""

    def refused(request: httpx.Request) -> httpx.Response:
        try:
            raise OSError(number, "Too many open files")
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error

    with pytest.raises(NvramError, match="no descriptor left") as caught:
        cluster_of(refused).ask(KEEP, b"{}", KeepAnswer)
    assert "majority" not in caught.value.message
