"""Keys that are prepared before a sealing: each is used once, and dropped if its partition is gone."""

from __future__ import annotations

import os
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_server.sealing import SealedKind, Sealer, Unsealed
from hcall_server.sealing.formats import ENVELOPE, SALT_SIZE
from tests.sealing import second
from tests.sealing.samples import IDENTITY

KIND = SealedKind.PARTITION
OWNERS = [UUID(int=n << 96) for n in range(3)]


class Counted:
    """Entropy that counts its calls and returns their number as salt."""

    def __init__(self) -> None:
        self.draws = 0
        self.broken = False

    def __call__(self, size: int) -> bytes:
        if self.broken:
            raise OSError("no entropy")
        self.draws += 1
        return self.draws.to_bytes(size, "big")


def salt_of(blob: bytes) -> int:
    return int.from_bytes(ENVELOPE.parse(blob).header.salt, "big")


def test_a_prepared_key_is_used_by_the_next_sealing_alone() -> None:
    """R-02: A prepared key is used for the next sealing of its owner only. Later ones draw new keys."""
    sealer = Sealer(IDENTITY, entropy := Counted())
    sealer.prepare(OWNERS[:1])
    assert entropy.draws == 1
    blobs = [sealer.seal(KIND, OWNERS[0], 1, b"data") for _ in range(3)]
    assert [salt_of(blob) for blob in blobs] == [1, 2, 3]


def test_a_prepared_key_is_its_owners() -> None:
    """R-02, R-47: A prepared key is only used for its own owner."""
    sealer = Sealer(IDENTITY, Counted())
    sealer.prepare(OWNERS[:2])
    assert [salt_of(sealer.seal(KIND, owner, 1, b"")) for owner in reversed(OWNERS)] == [3, 2, 1]


def test_what_is_sealed_with_it_is_as_ever() -> None:
    """R-02: A blob that was sealed with a prepared key opens as any other blob.

    A restarted system opens it, and so does the second implementation.
    """
    sealer = Sealer(IDENTITY, os.urandom)
    sealer.prepare(OWNERS)
    for owner in OWNERS:
        blob = sealer.seal(KIND, owner, 9, b"data")
        assert Sealer(IDENTITY, os.urandom).open(KIND, owner, blob) == Unsealed(9, b"data")
        keys = IDENTITY.system_id, IDENTITY.root_key
        assert second.open_blob(2, keys, KIND, owner.bytes, blob) == (9, b"data")


def test_a_key_whose_partition_is_gone_is_dropped() -> None:
    """R-02: A new preparation drops the keys of owners that it does not name. It draws no key twice."""
    sealer = Sealer(IDENTITY, entropy := Counted())
    sealer.prepare(OWNERS[:2])
    sealer.prepare(OWNERS[1:2])
    assert entropy.draws == 2
    assert [salt_of(sealer.seal(KIND, owner, 1, b"")) for owner in OWNERS[:2]] == [3, 2]
    sealer.prepare(OWNERS)
    sealer.prepare(())
    assert salt_of(sealer.seal(KIND, OWNERS[0], 1, b"")) == entropy.draws


def test_entropy_that_fails_leaves_no_half_key() -> None:
    """R-02: If entropy fails, the caller gets the error. A later sealing draws its own key."""
    sealer = Sealer(IDENTITY, entropy := Counted())
    entropy.broken = True
    with pytest.raises(OSError, match="no entropy"):
        sealer.prepare(OWNERS)
    entropy.broken = False
    assert salt_of(sealer.seal(KIND, OWNERS[0], 1, b"")) == 1
    short = Sealer(IDENTITY, lambda size: bytes(size - 1))
    with pytest.raises(ValueError, match="too few bytes"):
        short.prepare(OWNERS)


@given(
    st.lists(st.one_of(st.lists(st.sampled_from(OWNERS), max_size=3), st.sampled_from(OWNERS)), max_size=20)
)
def test_no_two_sealings_ever_share_a_salt(script: list[list[UUID] | UUID]) -> None:
    """R-02: In any order of preparations and sealings, no two sealings have one salt."""
    numbers = count(1)
    sealer = Sealer(IDENTITY, lambda size: next(numbers).to_bytes(size, "big"))
    salts = []
    for step in script:
        if isinstance(step, UUID):
            salts.append(salt_of(sealer.seal(KIND, step, 1, b"")))
        else:
            sealer.prepare(step)
    assert len(set(salts)) == len(salts)


def test_a_prepared_key_does_not_show() -> None:
    """R-02: neither the sealer's text form nor the key's shows the salt or the key."""
    sealer = Sealer(IDENTITY, lambda size: b"\x5a" * size)
    sealer.prepare(OWNERS)
    text = repr(sealer) + repr(sealer._prepared)
    assert "hidden" in text
    assert repr(b"\x5a" * SALT_SIZE)[2:-1] not in text
    assert "AESGCM" not in text
