"""NVRAM on an etcd in memory: late, lost and repeated requests, other owners, quota, hostile answers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from random import Random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.rules import storage as rules
from hcall_server.nvram import COMMIT, NvramError, NvramInUseError
from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import Lease, LeaseKeeper
from hcall_server.nvram.etcd.nvram import COMPACT_EVERY, PAGE, EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster
from hcall_server.nvram.mark import MemoryMark
from swpks.testing.etcd.model import EtcdModel
from swpks.testing.etcd.network import Fate, ModelNetwork, drawn

ENDPOINTS = ["http://a:2379", "http://b:2379"]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Lab:
    """A cluster in memory, with a clock and a network for each client."""

    def __init__(self, quota: int | None = None) -> None:
        self.clock = Clock()
        self.model = EtcdModel(self.clock, quota)
        self.networks: list[ModelNetwork] = []

    def opened(self, owner: bytes = b"a", endpoints: list[str] = ENDPOINTS[:1]) -> EtcdNvram:
        """Return owned NVRAM, on a network of its own."""
        network = ModelNetwork(self.model)
        self.networks.append(network)
        cluster = EtcdCluster(endpoints, httpx.Client(transport=network))
        lease = Lease(cluster, self.clock)
        lease.grant()
        nvram = EtcdNvram(cluster, EtcdKeys("p"), owner, lease, MemoryMark())
        nvram.own()
        return nvram

    def fate(self, *fates: Fate) -> None:
        """Let the next requests of the first network meet these fates, and all later ones none."""
        left = list(fates)
        self.networks[0].fates = lambda path: left.pop(0) if left else "answered"


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_a_late_commit_does_not_undo_a_newer_one(lab: Lab) -> None:
    """R-22: the trap.  A commit is given up, a newer one is acknowledged, then the old one arrives."""
    nvram = lab.opened()
    nvram.commit({"x": b"first"})
    lab.fate("late")
    lab.networks[0]._lateness = lambda: 1000
    with pytest.raises(NvramError, match="no member of etcd has answered"):
        nvram.commit({"x": b"OLD"})
    nvram.commit({"x": b"NEW"})
    lab.networks[0].deliver_all()
    assert nvram.load() == {"x": b"NEW"}
    nvram.commit({"x": b"NEWER"})
    assert nvram.load() == {"x": b"NEWER"}


def test_the_truth_about_an_unknown_outcome_is_read(lab: Lab) -> None:
    """R-22: after a lost answer, `last_commit` has the record of the commit that took effect."""
    nvram = lab.opened()
    nvram.commit({COMMIT: b"1"})
    lab.fate("unanswered")
    with pytest.raises(NvramError):
        nvram.commit({COMMIT: b"2"})
    assert nvram.last_commit() == b"2"
    lab.fate("lost")
    with pytest.raises(NvramError):
        nvram.commit({COMMIT: b"3"})
    assert nvram.last_commit() == b"2"
    # a repeated fence: the answer to its first copy is lost
    lab.fate("repeated")
    assert nvram.last_commit() == b"2"


def test_a_commit_goes_on_at_the_next_member(lab: Lab) -> None:
    """R-23: no answer of one member is no failure: the same request is carried out at most once."""
    nvram = lab.opened(endpoints=ENDPOINTS)
    fates: tuple[Fate, ...] = ("refused", "lost", "unanswered", "late", "unavailable", "repeated")
    for fate in fates:
        lab.fate(fate)
        nvram.commit({"x": fate.encode()})
        assert nvram.load() == {"x": fate.encode()}


def put_back(lab: Lab, to: EtcdModel) -> None:
    """Put the cluster back to an older state, as an operator does with a backup, under all its clients."""
    for network in lab.networks:
        network._model = to


@pytest.mark.parametrize("fate", ["answered", "unanswered", "lost"])
def test_an_owner_finds_that_etcd_was_put_back(lab: Lab, fate: Fate) -> None:
    """R-22, R-85: an older commit key of the same owner is no predecessor."""
    nvram = lab.opened()
    nvram.commit({"x": b"1"})
    older = deepcopy(lab.model)
    nvram.commit({"x": b"2"})
    lab.fate(fate)
    with suppress(NvramError):
        nvram.commit({"x": b"3"})
    put_back(lab, older)
    for operation in (lambda: nvram.commit({"y": b""}), nvram.last_commit, nvram.load):
        with pytest.raises(NvramError) as caught:
            operation()
        assert caught.value.rule is rules.NVRAM_OWNER
        assert nvram.over
    assert older.values()[b"p/record/x"] == b"1"
    assert b"p/record/y" not in older.values()


@pytest.mark.parametrize("token", [b"", b"x", b"2.", b"2.-1", b"2.1", b"3.2", b"2." + b"9" * 5000, b"2.999"])
def test_a_foreign_commit_key_ends_the_ownership(lab: Lab, token: bytes) -> None:
    """R-85: only a link that this owner has sent since its last commit is a predecessor."""
    nvram = lab.opened()
    nvram.commit({"x": b"1"})
    put = {"key": b64encode(b"p/commit").decode(), "value": b64encode(token).decode()}
    lab.model.answer("/v3/kv/txn", json.dumps({"success": [{"request_put": put}]}).encode())
    with pytest.raises(NvramError) as caught:
        nvram.commit({"x": b"2"})
    assert caught.value.rule is rules.NVRAM_OWNER
    assert nvram.over


def test_a_second_owner_is_refused_and_named(lab: Lab) -> None:
    """One server at a time: the second one is told who owns the records."""
    first = lab.opened(b"host-a/12")
    with pytest.raises(NvramInUseError, match="owned by host-a/12"):
        lab.opened(b"host-b/9")
    first.close()
    lab.opened(b"host-b/9").close()


def test_a_claim_whose_answer_is_lost_is_one_claim(lab: Lab) -> None:
    """The same claim, sent twice, makes this server the owner."""
    nvram = lab.opened(endpoints=ENDPOINTS)
    lab.model.expire_lease(nvram.lease.id)
    nvram.lease.grant()
    lab.fate("unanswered")
    nvram.own()
    nvram.commit({"x": b"1"})
    assert nvram.load() == {"x": b"1"}


def test_an_owner_that_was_replaced_commits_nothing(lab: Lab) -> None:
    """R-22: even if its own clock stands still, and even if its request was on the way before."""
    first = lab.opened(b"a")
    first.commit({"x": b"a"})
    lab.fate("late")
    lab.networks[0]._lateness = lambda: 1000
    with pytest.raises(NvramError):
        first.commit({"x": b"late a"})
    lab.model.expire_lease(first.lease.id)
    second = lab.opened(b"b")
    second.commit({"x": b"b"})
    lab.networks[0].deliver_all()
    for _ in range(2):
        with pytest.raises(NvramError, match="does not own p in etcd") as caught:
            first.commit({"x": b"back"})
        assert caught.value.rule is rules.NVRAM_OWNER
    assert second.load() == {"x": b"b"}


def test_after_its_time_a_lease_is_over_without_a_word_of_etcd(lab: Lab) -> None:
    """The time counts from before the request; a late keep-alive does not bring the lease back."""
    nvram = lab.opened()
    lab.clock.now += nvram.lease.ttl - 1
    nvram.lease.keep()
    lab.clock.now += nvram.lease.ttl
    assert nvram.lease.over
    for act in (nvram.lease.keep, nvram.load, nvram.last_commit, lambda: nvram.commit({"x": b"1"})):
        with pytest.raises(NvramError, match="stop") as caught:
            act()
        assert caught.value.rule is rules.NVRAM_OWNER


def test_the_thread_reports_the_end_of_the_lease_once(lab: Lab) -> None:
    """A keep-alive without an answer is tried again; the end of the time is reported."""
    nvram = lab.opened()
    lost: list[NvramError] = []
    nvram.lease.ttl = 0
    lab.fate("lost")
    lab.clock.now += 7
    keeper = LeaseKeeper(nvram.lease, lost.append)
    keeper.start()
    keeper._thread.join(10)
    keeper.stop(10)
    assert [each.rule for each in lost] == [rules.NVRAM_OWNER]


def test_a_full_store_is_a_trouble_with_a_cure() -> None:
    """R-23: NOSPACE is the kind "full"; nothing is lost, and after the alarm commits go on."""
    lab = Lab(quota=100_000)
    nvram = lab.opened()
    with pytest.raises(NvramError, match="defragment every member") as caught:
        _fill(nvram, 5000)
    assert (caught.value.kind, caught.value.rule) == ("full", rules.NVRAM_QUOTA)
    nvram.compact()
    lab.model.alarm = False
    nvram.commit({"x": b"again"})
    assert nvram.load() == {"x": b"again"}


def _fill(nvram: EtcdNvram, size: int) -> None:
    for _ in range(99):
        nvram.commit({"x": bytes(size)})


def test_the_history_is_dropped_now_and_then(lab: Lab) -> None:
    """The store does not grow with the number of commits."""
    nvram = lab.opened()
    for n in range(COMPACT_EVERY):
        nvram.commit({"x": b"%d" % n})
    assert lab.model.compacted == lab.model.revision


def test_many_records_are_read_in_pages(lab: Lab) -> None:
    """A start reads more records than a page has, and no key beside them."""
    nvram = lab.opened()
    records = {f"r{n:03}": b"%d" % n for n in range(3 * PAGE)}
    nvram.commit(dict(records))
    assert nvram.load() == records


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"[]", b'{"header":{"revision":"x"}}', b'{"header":{"revision":"-1"}}', b"\xff" * 9,
     b'{"header":{"revision":"2"},"responses":[]}', b'{"header":{"revision":"99999999999999999999"}}',
     b'{"header":{},"responses":[{"response_range":{"header":{},"kvs":[{"key":"!"}]}}]}', b"[" * 99999],
)  # fmt: skip
def test_a_malformed_answer_acknowledges_nothing(lab: Lab, answer: bytes) -> None:
    """R-02: the commit fails with a rule, and goes on when etcd answers again."""
    nvram = lab.opened()
    network, inner = lab.networks[0], lab.networks[0].handle_request

    def bad(request: httpx.Request) -> httpx.Response:
        inner(request)
        return httpx.Response(200, content=answer)

    network.handle_request = bad  # type: ignore[method-assign]
    with pytest.raises(NvramError) as caught:
        nvram.commit({"x": b"1"})
    assert caught.value.rule in (rules.NVRAM_REACHED, rules.NVRAM_ANSWER, rules.NVRAM_OWNER)
    network.handle_request = inner  # type: ignore[method-assign]


def test_a_refusal_shows_its_text_bounded_and_printable(lab: Lab) -> None:
    """A server's text can't change a terminal or fill a log."""
    nvram = lab.opened()
    body = json.dumps({"code": 3, "message": "\x1b[2J" + "a" * 9999}).encode()
    answer = httpx.Response(400, content=body)
    lab.networks[0].handle_request = lambda request: answer  # type: ignore[method-assign]
    with pytest.raises(NvramError, match="refuses: ") as caught:
        nvram.commit({"x": b"1"})
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 400


@given(seed=st.integers(0, 1 << 32))
def test_nothing_acknowledged_is_lost_and_nothing_old_returns(seed: int) -> None:
    """R-21, R-22: requests meet random fates.  Each owner finds what was acknowledged, and nothing older."""
    chance, lab = Random(seed), Lab()
    possible: set[bytes] = {b""}
    for turn in range(3):
        nvram = lab.opened(b"owner %d" % turn, endpoints=ENDPOINTS)
        network = lab.networks[-1]
        network.fates, network._lateness = drawn(chance, 0.4), lambda: chance.randint(1, 9)
        possible = _turn(nvram, chance, possible)
        network.fates = lambda path: "answered"
        for earlier in lab.networks:
            earlier.deliver_all()
        possible = {_settled(nvram, possible)}
        lab.model.expire_lease(nvram.lease.id)


def _turn(nvram: EtcdNvram, chance: Random, possible: set[bytes]) -> set[bytes]:
    """Make commits; return the values that the record may have after the last one."""
    for n in range(20):
        value = b"%d %d" % (id(nvram), n)
        try:
            nvram.commit({"x": value})
        except NvramError:
            possible = possible | {value}
        else:
            possible = {value}
        if chance.random() < 0.2:
            possible = _if_read(nvram.load, possible)
    return possible


def _if_read(load: Callable[[], dict[str, bytes]], possible: set[bytes]) -> set[bytes]:
    """Read the record, if etcd answers; it is one of the possible values, and stays that."""
    try:
        found = load().get("x", b"")
    except NvramError:
        return possible
    assert found in possible
    return {found}


def _settled(nvram: EtcdNvram, possible: set[bytes]) -> bytes:
    (found,) = _if_read(nvram.load, possible)
    return found
