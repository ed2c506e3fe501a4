"""If entropy fails once, only one call, one connection, one flush or one start fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hcall_abi.errors import ScarcityError
from hcall_abi.faults import parse_fault
from hcall_abi.rules import service as rules
from hcall_abi.statuses import Status
from hcall_server.faults.busy import BusyCalls
from hcall_server.faults.plan import Plan
from hcall_server.keystore.tokens import MAX_OPEN
from hcall_server.service.entropy import checked
from tests.data_channel.support import Service, read, write
from tests.guest import FIRMWARE, SYSTEM, WRAPPING, Answer, Guest, make_partition
from tests.scarcity.shortage import FAILURES, FailingEntropy, Failure, Scene
from tests.service.folder import assembled

ABORTED = int(Status.H_ABORTED)
FIRST, SECOND = 2 + len(b"wrapping"), 2 + len(b"a")
"""Bytes for the first label of the list, and for the second: so the list continues with a token."""

each_failure = pytest.mark.parametrize("failure", FAILURES)


def make_guest(failure: Failure) -> tuple[Guest, FailingEntropy]:
    """Return a guest with a wrapping key and three labels, and its entropy, which does not fail yet."""
    entropy = FailingEntropy(failure)
    guest = Guest(make_partition(entropy=checked(entropy)))
    assert guest.gen_key(SYSTEM, b"wrapping") == Answer(0)
    for label in (b"a", b"b"):
        assert guest.write(SYSTEM, label, b"data") == Answer(0)
    return guest, entropy


CALLS: dict[str, Callable[[Guest], Answer]] = {
    "GEN_PASSWORD": lambda guest: guest.gen_password(FIRMWARE),
    "GEN_KEY": lambda guest: guest.gen_key(SYSTEM, b"new", policy=0),
    "GEN_KEY for wrapping": lambda guest: guest.gen_key(SYSTEM, b"new", policy=WRAPPING),
    "WRAP_OBJECT": lambda guest: guest.wrap(SYSTEM, b"wrapping", b"secret"),
    "GET_OBJECTLABELS": lambda guest: guest.labels(SYSTEM, room=FIRST),
}
"""Every call that takes random bytes."""


@each_failure
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_failure_is_one_aborted_call(failure: Failure, call: Callable[[Guest], Answer]) -> None:
    """If entropy fails, the call returns H_ABORTED and changes nothing. It succeeds when it is repeated."""
    guest, entropy = make_guest(failure)
    store = guest.partition.keystore
    assert store is not None
    before = store.contents.snapshot()
    entropy.fail_next()
    assert call(guest) == Answer(ABORTED)
    assert store.contents.snapshot() == before
    assert guest.refusals[-1].rule is rules.SCARCE_ENTROPY
    assert call(guest).status in {0, Status.H_CONTINUE}


@each_failure
def test_a_failed_password_is_not_set(failure: Failure) -> None:
    """R-05: if GEN_PASSWORD fails, the consumer has no password, not even a short or empty one."""
    guest, entropy = make_guest(failure)
    entropy.fail_next()
    assert guest.gen_password(SYSTEM).status == ABORTED
    assert guest.set_password(SYSTEM, b"its own") == Answer(0)


@each_failure
def test_a_failed_list_keeps_its_token(failure: Failure) -> None:
    """If the call for a list fails, its token stays valid, and so do all others."""
    guest, entropy = make_guest(failure)
    tokens = [guest.labels(SYSTEM, room=FIRST).r5 for _ in range(MAX_OPEN)]
    assert all(tokens)
    entropy.fail_next()
    assert guest.labels(SYSTEM, room=FIRST) == Answer(ABORTED)
    for token in tokens:
        entropy.fail_next()
        assert guest.labels(SYSTEM, token=token, room=SECOND) == Answer(ABORTED)
        assert guest.labels(SYSTEM, token=token, room=SECOND).status == Status.H_CONTINUE


@each_failure
def test_a_busy_answer_without_a_token_is_aborted(failure: Failure) -> None:
    """R-75: if there is no entropy for the token of a planned busy answer, the call returns H_ABORTED."""
    guest, entropy = make_guest(failure)
    plan = Plan([parse_fault("WRAP_OBJECT=H_LONG_BUSY_ORDER_1_MSEC")])
    inner, note = guest._calls, guest.refusals.append
    guest._calls = BusyCalls(inner, guest.partition, plan, lambda: 0.0, lambda refusal, call: note(refusal))
    entropy.fail_next()
    assert CALLS["WRAP_OBJECT"](guest) == Answer(ABORTED)
    assert CALLS["WRAP_OBJECT"](guest).status == 0


@each_failure
async def test_one_failure_is_one_connection(failure: Failure, nursery: trio.Nursery) -> None:
    """If there is no nonce for a connection, it ends without HELLO. Others are served."""
    entropy = FailingEntropy(failure)
    service = await Service.start(nursery, Scene(entropy).machine)
    first = await service.session()
    entropy.fail_next()
    failed = service.connect()
    assert await failed.event() is None
    await first.call(write(b"label"))
    assert (await (await service.session()).call(read(b"label"))).data == b"x"
    assert (service.machine.counters.lost, service.machine.counters.crashed) == (1, 0)
    assert len(service.machine.sessions) == 2


@each_failure
async def test_one_failure_is_one_flush(
    failure: Failure, autojump_clock: object, nursery: trio.Nursery
) -> None:
    """R-21, R-23: a flush without entropy is repeated, nothing counts as flushed, and health reports it."""
    scene = Scene(entropy := FailingEntropy(failure))
    machine = scene.machine
    service = await Service.start(nursery, machine)
    session = await service.session()
    await session.call(write(b"label"))
    entropy.failing = frozenset(range(entropy.calls + 1, entropy.calls + 4))
    commits = scene.nvram.commits
    assert not await machine.encryptor.flush()
    health = machine.encryptor.health
    assert (health.state, health.ok, health.failures, scene.nvram.commits) == (
        "retrying",
        False,
        1,
        commits,
    )
    assert "random bytes" in str(health.last_error)
    assert machine.encryptor.pending
    await nursery.start(machine.encryptor.run)
    await trio.sleep(2)
    assert (machine.encryptor.health.ok, machine.encryptor.pending) == (True, False)
    assert await _found_after_a_power_cut(scene) == b"x"


async def _found_after_a_power_cut(scene: Scene) -> bytes:
    async with trio.open_nursery() as nursery:
        machine = scene.assembled()
        machine.start()
        service = await Service.start(nursery, machine)
        found = await (await service.session()).call(read(b"label"))
        nursery.cancel_scope.cancel()
    return bytes(found.data)


@each_failure
def test_no_start_without_entropy(failure: Failure, tmp_path: Path) -> None:
    """A new system does not start without entropy. The next start in its folder succeeds."""
    for nth in (1, 2):
        folder = tmp_path / f"state {nth}"
        entropy = FailingEntropy(failure, frozenset({nth}))
        with pytest.raises(ScarcityError) as refused, assembled(folder, None, entropy):
            pass
        assert refused.value.rule is rules.SCARCE_ENTROPY
        with assembled(folder, None, os.urandom) as machine:
            assert not machine.system.partitions
