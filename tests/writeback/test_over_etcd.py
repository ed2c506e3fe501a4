"""Write-behind and a whole system over an etcd in memory: parts, unknown outcomes, crashes, a take-over."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_server.components.memory import MemoryCard
from hcall_server.nvram import (
    COMMIT,
    CommitLimits,
    NvramError,
    NvramInUseError,
    parse_partition,
    partition_name,
)
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import NO_COMMIT, CommitAuthority, SealedKind, Sealer
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.commits import Commits, record_id
from swpks.testing.etcd.network import drawn
from swpks.testing.seams import simulated_seams
from tests.guest import Chance
from tests.nvram.test_etcd_model import ENDPOINTS, Lab

IDENTITY = SystemIdentity(bytes(16), bytes(32))
AUTHORITY = CommitAuthority(IDENTITY.root_key)
UUIDS = [UUID(int=n, version=4) for n in range(1, 9)]
Records = dict[str, bytes]


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 32))
def test_a_crash_at_any_request_leaves_records_that_fit_their_list(seed: int) -> None:
    """R-21, R-22: flights in parts over a bad network, and crashes; a start accepts what each life has left.

    A life ends with requests on their way.  They arrive after the next life has begun.
    """
    chance, lab = Random(seed), Lab()
    confirmed: Records = {}
    sealer = Sealer(IDENTITY, Chance(b"%d" % seed))
    for life in range(4):
        nvram = lab.opened(b"life %d" % life, endpoints=ENDPOINTS[: chance.randint(1, 2)])
        for earlier in lab.networks[:-1]:
            earlier.deliver_all()
        found = nvram.load()
        _check(found, confirmed)
        confirmed = {name: blob for name, blob in found.items() if name != COMMIT}
        network = lab.networks[-1]
        network.fates, network._lateness = drawn(chance, 0.3), lambda: chance.randint(1, 9)
        confirmed = _lived(nvram, found, confirmed, chance, sealer)
        lab.model.expire_lease(nvram.lease.id)


def _check(found: Records, confirmed: Records) -> None:
    """Check that each record is the listed one, and none is older than the confirmed one."""
    last = AUTHORITY.decode(found[COMMIT]) if COMMIT in found else NO_COMMIT
    records = {name: blob for name, blob in found.items() if name != COMMIT}
    assert len(last.records) == len(records)
    assert all(last.lists(record_id(name), blob) for name, blob in records.items())
    for name, blob in confirmed.items():
        assert _generation(name, records[name]) >= _generation(name, blob)


def _generation(name: str, blob: bytes) -> int:
    uuid = parse_partition(name)
    assert uuid is not None
    return Sealer(IDENTITY, Chance(b"")).open(SealedKind.PARTITION, uuid, blob).generation


def _lived(nvram: EtcdNvram, found: Records, confirmed: Records, chance: Random, sealer: Sealer) -> Records:
    """Make flights; return what was confirmed.  The changes of a failed flight belong to the next one."""
    nvram.limits = CommitLimits(1 << 20, 3)
    last = AUTHORITY.decode(found[COMMIT]) if COMMIT in found else NO_COMMIT
    commits, dirty = Commits(nvram, AUTHORITY, last), set[UUID]()
    for _ in range(12):
        dirty |= set(chance.sample(UUIDS, chance.randint(1, 6)))
        generation = commits.last.number + 1
        order = sorted(dirty, key=lambda uuid: chance.random())
        flight = {
            partition_name(uuid): sealer.seal(SealedKind.PARTITION, uuid, generation, b"x") for uuid in order
        }
        commit = commits.prepared(flight)
        try:
            commit.run()
        except NvramError:
            continue
        commits.done(commit)
        confirmed, dirty = {**confirmed, **flight}, set()
    return confirmed


async def test_another_server_takes_a_system_over() -> None:
    """R-21: the second server has the card and finds the partition; the first commits nothing any more."""
    lab, card = Lab(), MemoryCard()
    first = lab.opened(b"first")
    wanted = Settings(partition=(PartitionSettings.of("lpar1", 16),))
    machine = assemble(simulated_seams(nvram=first, card=card), wanted)
    assert await machine.encryptor.flush()
    with pytest.raises(NvramInUseError):
        lab.opened(b"second")
    lab.model.expire_lease(first.lease.id)
    second = lab.opened(b"second")
    second.mark = first.mark
    again = assemble(simulated_seams(nvram=second, card=card), Settings())
    before = machine.system.partitions["lpar1"].profile
    assert again.system.partitions["lpar1"].profile == before
    machine.encryptor.system_changed(machine.system)
    assert not await machine.encryptor.flush()
    assert "does not own" in str(machine.encryptor.health.last_error)
    assert not machine.encryptor.health.ok
