"""A flight that is larger than NVRAM's limits becomes several commits, each with its own commit record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_server.nvram import COMMIT, SYSTEM, CommitLimits, NvramError, partition_name
from hcall_server.nvram.etcd.nvram import LIMITS
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import CUSTODY
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import CommitAuthority, CommitRecord, SealedKind, Sealer
from hcall_server.writeback.commits import Commits, record_id
from hcall_server.writeback.parts import split

UUIDS = [UUID(int=n, version=4) for n in range(1, 9)]
NAMES = [partition_name(uuid) for uuid in UUIDS]
IDENTITY = SystemIdentity(bytes(16), bytes(32))
AUTHORITY = CommitAuthority(IDENTITY.root_key)
SEALER = Sealer(IDENTITY, os.urandom)
Records = dict[str, bytes | None]

changes_of = st.dictionaries(
    st.sampled_from([*NAMES, SYSTEM, CUSTODY]), st.none() | st.binary(max_size=90), min_size=1
)
known_of = st.sets(st.sampled_from(NAMES))


@given(
    changes=changes_of,
    size=st.integers(60, 300),
    records=st.integers(2, 6),
    known=st.sets(st.sampled_from(NAMES)),
)
def test_parts_are_within_the_limits_and_have_everything_once(
    changes: Records, size: int, records: int, known: set[str]
) -> None:
    """R-22: No part is over a limit, unless a single record is; together they are the changes."""
    parts = split(changes, CommitLimits(size, records), 10, known.__contains__)
    assert [name for part in parts for name in part]
    assert parts[-1]
    joined = [(name, blob) for part in parts for name, blob in part.items()]
    assert len(joined) == len(changes)
    assert dict(joined) == changes
    for part in parts:
        assert len(part) < records
        assert len(part) == 1 or sum(len(name) + len(blob or b"") for name, blob in part.items()) <= size - 10


def test_records_of_the_system_removals_and_new_partitions_are_in_the_last_part() -> None:
    """R-22: a departure and an arrival stay one commit, as they are with SQLite."""
    changes: Records = {CUSTODY: b"c" * 50, NAMES[0]: None, **dict.fromkeys(NAMES[1:], b"p" * 100)}
    parts = split(changes, CommitLimits(1000, 5), 0, lambda name: name != NAMES[2])
    assert set(parts[-1]) >= {CUSTODY, NAMES[0], NAMES[2]}
    assert len(parts) == 3


def test_more_removals_than_a_part_takes_come_before_the_records_of_the_system() -> None:
    """R-22: custody record and stored partition never contradict each other, wherever a crash cuts."""
    gone = [partition_name(UUID(int=n, version=4)) for n in range(100, 230)]
    changes: Records = {
        SYSTEM: b"s",
        CUSTODY: b"c",
        **dict.fromkeys(gone),
        NAMES[0]: b"new",
        NAMES[1]: b"old",
    }
    parts = split(changes, LIMITS, 10, lambda name: name != NAMES[0])
    assert [len(part) for part in parts] == [15, 119]
    assert list(parts[0])[:2] == [NAMES[1], NAMES[0]]
    assert list(parts[1])[-2:] == [SYSTEM, CUSTODY]
    assert {name for part in parts for name, blob in part.items() if blob is None} == set(gone)


@given(changes=changes_of, records=st.integers(2, 6), known=known_of)
def test_no_removal_and_no_partition_is_behind_the_records_of_the_system(
    changes: Records, records: int, known: set[str]
) -> None:
    """R-22: an entry of the custody record is not durable before the removal or arrival that it is about."""
    order = [
        name for part in split(changes, CommitLimits(999, records), 0, known.__contains__) for name in part
    ]
    own = [name for name in order if name in (SYSTEM, CUSTODY)]
    assert order[len(order) - len(own) :] == own


class Small(MemoryNvram):
    """NVRAM that takes two records and their commit record at once; `fails` has the commits that fail."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = CommitLimits(1 << 20, 3)
        self.tried = 0
        self.fails: dict[int, bool] = {}
        """By number: whether the failing commit takes effect."""

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        self.tried += 1
        effect = self.fails.get(self.tried)
        if effect is not False:
            super().commit(changes)
        self.check()
        if effect is not None:
            raise NvramError("io", "planned")

    def check(self) -> None:
        """After every part, each record is the one that the commit record lists."""
        present = AUTHORITY.decode(self.records[COMMIT]) if COMMIT in self.records else CommitRecord(0, b"")
        others = {name: blob for name, blob in self.records.items() if name != COMMIT}
        assert len(present.records) == len(others)
        assert all(present.lists(record_id(name), blob) for name, blob in others.items())


def sealed(*numbers: int) -> Records:
    return {NAMES[n]: SEALER.seal(SealedKind.PARTITION, UUIDS[n], 1, b"x") for n in numbers}


def test_each_part_has_the_commit_record_of_its_own_records() -> None:
    """R-22: between two parts NVRAM is a state that a start accepts; numbers go on over the parts."""
    nvram = Small()
    commits = Commits(nvram, AUTHORITY)
    commits.make(sealed(0, 1, 2, 3, 4))
    assert nvram.commits == 3
    assert commits.last.number == 3
    assert AUTHORITY.decode(nvram.records[COMMIT]) == commits.last
    assert AUTHORITY.marked(nvram.mark.held[1]) == 3


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("effect", [True, False])
def test_after_a_failed_part_the_list_is_taken_from_nvram(at: int, effect: bool) -> None:
    """R-22: the parts of the next flight fit, whichever parts of the failed one took effect.

    The next flight seals anew, and in another order.
    """
    nvram = Small()
    commits = Commits(nvram, AUTHORITY)
    commits.make(sealed(0, 1, 2, 3, 4))
    nvram.fails = {3 + at: effect}
    with pytest.raises(NvramError, match="planned"):
        commits.make(sealed(0, 1, 2, 3, 4))
    commits.make(sealed(4, 3, 2, 1, 0, 5))
    commits.make({NAMES[5]: None})
    assert AUTHORITY.decode(nvram.records[COMMIT]) == commits.last
    assert nvram.records.keys() == {COMMIT, *NAMES[:5]}
