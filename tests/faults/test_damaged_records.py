"""A damaged, swapped, foreign or missing record stops only its own partition, and the server names it.

One test runs in this process and damages every byte of the records, with real NVRAM and recovery. The tests
with a real server damage some dozens of bytes, and also use each other kind of damage.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_client.calls import write_object
from hcall_client.console import (
    create_partition,
    ipl,
    power_off,
    power_on,
    set_attributes,
    show_health,
    show_partition,
)
from hcall_server.nvram.names import COMMIT, SYSTEM
from tests.faults.conftest import Serve
from tests.faults.damage import OS, copy_of, flipped, logged, make_state, names, put, records, refused, serves
from tests.service.folder import assembled

NAMES = [f"lpar{number}" for number in range(1, 17)]
GOOD = NAMES[-1]

REASONS = {
    NAMES[0]: "swapped: this is the record of partition",
    NAMES[1]: "swapped: this is the record of partition",
    NAMES[2]: "truncated",
    NAMES[3]: "1 bytes too many",
    NAMES[4]: "says that it is a system record",
    NAMES[5]: "does not authenticate",
    NAMES[6]: f"the record of partition {NAMES[6]}",
    NAMES[7]: "is missing",
    NAMES[8]: "the magic is missing",
    NAMES[11]: "truncated",
}
"""The reason in a start's refusal, for each kind of damage of `test_every_other_sort_of_damage`."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged state with sixteen partitions."""
    return make_state(tmp_path_factory.mktemp("sound"), NAMES)


@pytest.fixture
def state(sound: Path, tmp_path: Path) -> Path:
    """A copy of the undamaged state, which the test may damage."""
    return copy_of(sound, tmp_path / "state")


def refused_at_boot(state: Path) -> dict[str, str]:
    """Return the partitions that a start refuses, with the reasons. Every other keystore must open."""
    with assembled(state) as machine:
        partitions = machine.system.partitions.values()
        assert all(each.keystore is not None or each.refused for each in partitions)
        assert not machine.encryptor.pending
        return {each.name: each.refused.message for each in partitions if each.refused}


def test_every_byte_counts(state: Path) -> None:
    """R-02: a flipped bit in any byte of a record refuses that partition by name, and no other partition."""
    name = names(state)[NAMES[1]]
    whole = records(state)[name]
    for byte in range(len(whole)):
        put(state, {name: flipped(whole, byte, byte % 8)})
        refused = refused_at_boot(state)
        assert list(refused) == [NAMES[1]], byte
        assert f"the record of {name.replace('/', ' ')}: " in refused[NAMES[1]]
    assert records(state)[name] == flipped(whole, len(whole) - 1, (len(whole) - 1) % 8)
    put(state, {name: whole})
    assert not refused_at_boot(state)


@pytest.mark.process
@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_flipped_bit_before_a_real_start(serve: Serve, state: Path, start: int) -> None:
    """R-02: a server refuses fifteen partitions whose record has a flipped bit, and serves the last one."""
    before, named = records(state), names(state)
    damaged: dict[str, bytes | None] = {}
    for n, name in enumerate(named[each] for each in NAMES[:-1]):
        whole = before[name]
        damaged[name] = flipped(whole, (n * 3 + start) * (len(whole) - 1) // 45, n % 8)
    put(state, damaged)
    server = serve(state)
    assert set(server.ready["refused"]) == set(NAMES) - {GOOD}
    assert server.ready["running"] == [GOOD]
    assert serves(server, GOOD)
    for name in NAMES[:-1]:
        assert f"the record of {named[name].replace('/', ' ')}: " in server.ready["refused"][name]
    refusals = {line["partition"]: line for line in logged(server, "partition.refused", len(NAMES) - 1)}
    assert {name: line["error"] for name, line in refusals.items()} == server.ready["refused"]
    assert {line["fault"] for line in refusals.values()} == {"storage"}
    for name in NAMES[:-1]:
        assert server.ready["refused"][name] in refused(server, power_on(name)).detail
    assert server.stop() == 0
    after = records(state)
    assert {name: after[name] for name in damaged} == damaged, "refused records are unchanged"


def wreckage(
    blobs: dict[str, bytes], named: dict[str, str], foreign: bytes, older: bytes
) -> dict[str, bytes | None]:
    """Return damaged records by name: one for each kind of damage, except a flipped bit.

    Each kind damages another partition. None means that the record is removed.
    """
    of = {name: blobs[named[name]] for name in NAMES}
    damage: dict[str, bytes | None] = {
        NAMES[0]: of[NAMES[1]],
        NAMES[1]: of[NAMES[0]],
        NAMES[2]: of[NAMES[2]][:-7],
        NAMES[3]: of[NAMES[3]] + b"x",
        NAMES[4]: blobs[SYSTEM],
        NAMES[5]: foreign,
        NAMES[6]: older,
        NAMES[7]: None,
        NAMES[8]: blobs[COMMIT],
        NAMES[11]: b"",
    }
    return {named[name]: blob for name, blob in damage.items()}


@pytest.mark.process
def test_every_other_sort_of_damage(serve: Serve, state: Path, tmp_path: Path) -> None:
    """R-01, R-02, R-22: after other damage, only the damaged partition is refused, with its reason."""
    (tmp_path / "other").mkdir()
    other = make_state(tmp_path / "other", [NAMES[5]])
    foreign = records(other)[names(other)[NAMES[5]]]
    named = names(state)
    older = records(state)[named[NAMES[6]]]
    server = serve(state)
    with server.connect_blocking(NAMES[6]) as channel:
        channel.call(write_object(OS, b"newer", b"x"))
    assert server.stop() == 0
    blobs = records(state)
    damaged = wreckage(blobs, named, foreign, older)
    put(state, damaged)
    server.start()
    refused = server.ready["refused"]
    assert refused.keys() == REASONS.keys()
    assert {name: reason for name, reason in REASONS.items() if reason not in refused[name]} == {}
    for name in server.ready["running"]:
        assert serves(server, name)
    assert server.stop() == 0
    left = records(state)
    assert {name: left.get(name) for name in damaged} == damaged


@pytest.mark.process
def test_the_console_leaves_a_refused_partition_as_it_is(serve: Serve, state: Path) -> None:
    """R-21: no verb and no start option overwrites a refused record, so the operator may still rescue it."""
    blobs, named = records(state), names(state)
    first, second, third = (named[name] for name in NAMES[:3])
    damaged: dict[str, bytes | None] = {first: flipped(blobs[first], 99), second: None, third: b"x"}
    put(state, damaged)
    sizes = [f"{NAMES[0]}:8", f"{NAMES[2]}:0"]
    server = serve(state, sizes)
    assert sorted(server.ready["refused"]) == sorted(NAMES[:3])
    for name in server.ready["refused"]:
        for verb in (power_on, power_off, ipl):
            assert refused(server, verb(name)).rule
        assert refused(server, set_attributes(name, {"secure_boot": 2})).rule
        stored = server.console.call(show_partition(name)).keystore_kbytes
        for kbytes in {0, 4, 64} - {stored}:
            assert refused(server, set_attributes(name, {"keystore_kbytes": kbytes})).rule
        assert server.console.call(set_attributes(name, {"keystore_kbytes": stored})).refused
    assert refused(server, create_partition(NAMES[1])).rule
    assert not server.console.call(show_health()).ok
    assert server.stop() == 0
    left = records(state)
    assert {name: left.get(name) for name in damaged} == damaged
