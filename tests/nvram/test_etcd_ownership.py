"""Ownership of NVRAM on etcd: the end of a lease, slow members, loads, the end of a server."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from hcall_abi.rules import storage as rules
from hcall_server.nvram import NvramError, NvramInUseError
from hcall_server.nvram.etcd.chain import Chain, ChainState, EtcdKeys
from hcall_server.nvram.etcd.lease import Lease, LeaseKeeper
from hcall_server.nvram.etcd.nvram import PAGE
from hcall_server.nvram.etcd.place import EtcdTls
from hcall_server.nvram.etcd.tls import client_context
from hcall_server.nvram.etcd.transport import EtcdCluster, connected
from hcall_server.nvram.etcd.wire import COMPACTION, KEEP, RANGE, TXN, EtcdHeader, KeepAnswer, TxnAnswer
from tests.certificates import Authority
from tests.nvram.test_etcd_model import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_the_end_of_the_lease_is_reported_while_a_keep_alive_waits() -> None:
    """The report does not wait for the members, and comes once."""
    lost: list[NvramError] = []
    asked, reported, answered = threading.Event(), threading.Event(), threading.Event()
    lab = Lab()

    def hang(request: httpx.Request) -> httpx.Response:
        if request.url.path == KEEP:
            lab.clock.now += 7
            asked.set()
            answered.wait(10)
        return inner(request)

    nvram = lab.opened()
    inner = lab.networks[0].handle_request
    lab.networks[0].handle_request = hang  # type: ignore[method-assign]
    nvram.lease.ttl, nvram.lease._until = 0, lab.clock.now + 0.01

    def note(error: NvramError) -> None:
        lost.append(error)
        reported.set()

    keeper = LeaseKeeper(nvram.lease, note)
    keeper.start()
    assert asked.wait(10)
    assert reported.wait(5), "the report waits for the member"
    answered.set()
    keeper.stop(10)
    assert [each.rule for each in lost] == [rules.NVRAM_OWNER]
    assert nvram.lease.over


@pytest.mark.parametrize(
    "sent", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"]
)
def test_a_member_that_sends_single_bytes_does_not_get_more_time(sent: bytes) -> None:
    """A request has a time-out as a whole: in the header of the answer, and in its body."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()
        member = threading.Thread(target=_drip, args=(listener, sent, ended))
        member.start()
        cluster = EtcdCluster([f"http://127.0.0.1:{listener.getsockname()[1]}"], connected(attempt=0.2))
        try:
            before = time.monotonic()
            with pytest.raises(NvramError, match="no member of etcd has answered"):
                cluster.ask(KEEP, b"{}", KeepAnswer, 0.3)
            assert time.monotonic() - before < 2
        finally:
            ended.set()
            cluster.close()
            member.join(10)


def _drip(listener: socket.socket, sent: bytes, ended: threading.Event) -> None:
    with listener.accept()[0] as connection, suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + sent)
        for _ in range(100):
            connection.sendall(b"a")
            if ended.wait(0.05):
                return


def test_a_member_is_reached_by_tls(tmp_path: Path) -> None:
    """R-21: with certificates of both ends; a large request passes, and a slow handshake ends in time."""
    authority = Authority(tmp_path)
    files, own = authority.server(), authority.client()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    own_context = client_context(EtcdTls(files.ca, own.cert, own.key))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        cluster = EtcdCluster([url], connected(own_context, attempt=5))
        member = threading.Thread(target=_answer, args=(listener, context, 1 << 20))
        member.start()
        try:
            assert cluster.ask(KEEP, bytes(1 << 20), KeepAnswer).result.TTL == 6
            cluster.close()
            member.join(10)
            slow = EtcdCluster([url], connected(own_context, attempt=0.1))
            with pytest.raises(NvramError, match="no member of etcd has answered"):
                slow.ask(KEEP, b"{}", KeepAnswer)
            slow.close()
        finally:
            cluster.close()
            member.join(10)


def _answer(listener: socket.socket, context: ssl.SSLContext, size: int) -> None:
    with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
        found = b""
        while len(found.partition(b"\r\n\r\n")[2]) < size and (more := connection.recv(1 << 20)):
            found += more
        body = b'{"result":{"TTL":"6"}}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_members_that_hang_in_turn_share_the_time() -> None:
    """A keep-alive ends with the lease, whatever number of members hang."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        members = [f"http://127.0.0.1:{listener.getsockname()[1]}"] * 50
        cluster = EtcdCluster(members, connected(attempt=0.2))
        before = time.monotonic()
        with pytest.raises(NvramError, match="no member of etcd has answered"):
            cluster.ask(KEEP, b"{}", KeepAnswer, 0.3)
        assert time.monotonic() - before < 2
        cluster.close()


def test_another_systems_compaction_does_not_end_a_load(lab: Lab) -> None:
    """R-23: between two pages the history of the cluster is dropped."""
    nvram = lab.opened()
    records = {f"r{n:03}": b"%d" % n for n in range(3 * PAGE)}
    nvram.commit(dict(records))
    other = lab.model._store
    network, inner = lab.networks[0], lab.networks[0].handle_request

    def compacting(request: httpx.Request) -> httpx.Response:
        answer = inner(request)
        if request.url.path == RANGE:
            lab.model._advance(dict(other | lab.model._store))
            lab.model.answer(COMPACTION, b'{"revision":"%d"}' % lab.model.revision)
        return answer

    network.handle_request = compacting  # type: ignore[method-assign]
    assert nvram.load() == records


def test_a_load_ends_with_a_check_of_the_owner(lab: Lab) -> None:
    """R-22: records that another owner may have changed between two pages are not returned."""
    nvram = lab.opened()
    nvram.commit({"x": b"1"})
    network, inner = lab.networks[0], lab.networks[0].handle_request

    def taken_over(request: httpx.Request) -> httpx.Response:
        answer = inner(request)
        if request.url.path == RANGE:
            lab.model.expire_lease(nvram.lease.id)
        return answer

    network.handle_request = taken_over  # type: ignore[method-assign]
    with pytest.raises(NvramError, match="does not own p in etcd"):
        nvram.load()
    with pytest.raises(NvramError, match="does not own p in etcd"):
        nvram.own()


def test_a_lost_chain_claims_nothing() -> None:
    """LOST is final."""
    chain = Chain(EtcdKeys("p"), b"a")
    chain.lose()
    with pytest.raises(RuntimeError, match="LOST"):
        chain.claim(7)
    with pytest.raises(RuntimeError, match="LOST"):
        chain.claimed(TxnAnswer(EtcdHeader(9), succeeded=True))
    assert chain.state is ChainState.LOST


def test_close_ends_the_lease_in_etcd_after_the_local_end(lab: Lab) -> None:
    """A take-over need not wait for etcd's clock."""
    nvram = lab.opened()
    nvram.lease._until = lab.clock.now
    with pytest.raises(NvramError):
        nvram.commit({"x": b"1"})
    nvram.close()
    lab.opened(b"b").close()


def test_the_name_of_the_owner_is_shown_printable(lab: Lab) -> None:
    """The bytes of another program can't change a terminal."""
    lab.opened(b"\x1b[2Jhost\xff")
    with pytest.raises(NvramInUseError, match=r"owned by .*host.*, is held") as caught:
        lab.opened(b"b")
    assert "\x1b" not in caught.value.message


def test_a_beat_reads_the_owner_key(lab: Lab) -> None:
    """R-22: an operator has deleted the key: the lease lives, but another server may be the owner."""
    nvram = lab.opened()
    lease = nvram.lease
    lease.keep()
    _deleted(lab)
    with pytest.raises(NvramError, match="p/owner in etcd was removed") as caught:
        lease.keep()
    assert caught.value.rule is rules.NVRAM_OWNER
    assert lease.over
    assert nvram.over


def test_a_beat_finds_another_owner(lab: Lab) -> None:
    """R-22: the key is there again, but it is another one."""
    first = lab.opened()
    _deleted(lab)
    second = lab.opened(b"b")
    with pytest.raises(NvramError, match="stop this server"):
        first.lease.keep()
    assert first.over
    second.lease.keep()
    assert not second.over


def test_the_time_begins_again_only_with_the_owner_key(lab: Lab) -> None:
    """R-22: keep-alives that succeed are not enough; without the key's answer the lease runs out."""
    nvram = lab.opened()
    lab.networks[0].fates = lambda path: "lost" if path == RANGE else "answered"
    for _ in range(5):
        lab.clock.now += 1
        with pytest.raises(NvramError, match="no member of etcd has answered"):
            nvram.lease.keep()
    assert nvram.lease.rest == pytest.approx(1)
    lab.networks[0].fates = lambda path: "answered"
    nvram.lease.keep()
    assert nvram.lease.rest == pytest.approx(6)


@pytest.mark.parametrize("ttl, pause", [(2, 0.5), (6, 1.0), (60, 1.0)])
def test_a_beat_comes_each_second(lab: Lab, ttl: int, pause: float) -> None:
    """R-22: two owners know of each other after about a second, also with a long lease."""
    assert Lease(lab.opened()._cluster, lab.clock, ttl).pause == pause


def _deleted(lab: Lab) -> None:
    """Delete the owner key, as `etcdctl del p/owner` does."""
    request = {"success": [{"request_delete_range": {"key": b64encode(b"p/owner").decode()}}]}
    assert lab.model.answer(TXN, json.dumps(request).encode())[0] == 200


def test_a_foreign_name_among_the_records_is_named(lab: Lab) -> None:
    """R-85: the address is right; another program has put a key below the prefix."""
    nvram = lab.opened()
    name = "p/record/\u00fc"
    put = {"request_put": {"key": b64encode(name.encode()).decode(), "value": "MQ=="}}
    assert lab.model.answer(TXN, json.dumps({"success": [put]}).encode())[0] == 200
    with pytest.raises(NvramError, match=f"{name} in etcd is no record") as caught:
        nvram.load()
    assert "address" not in caught.value.message
