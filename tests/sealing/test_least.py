"""The smallest sealed values: a blob without plaintext, and a record without its own generation."""

from uuid import UUID

import pytest

from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import (
    SYSTEM_OWNER,
    SealedKind,
    SealedLengthError,
    Sealer,
    SystemRecord,
    Unsealed,
    seal_system,
)
from tests.guest import Chance

OWNER = UUID(int=3, version=4)


def sealer() -> Sealer:
    return Sealer(SystemIdentity(bytes(range(16)), bytes(range(32))), Chance())


def test_the_smallest_blob_has_68_bytes() -> None:
    """R-02: The smallest blob is a header and a tag: 68 bytes. One byte less is refused."""
    blob = sealer().seal(SealedKind.PARTITION, OWNER, 5, b"")
    assert len(blob) == 68
    assert sealer().open(SealedKind.PARTITION, OWNER, blob) == Unsealed(5, b"")
    with pytest.raises(SealedLengthError) as caught:
        sealer().open(SealedKind.PARTITION, OWNER, blob[:67])
    assert (caught.value.kind, caught.value.owner) == (SealedKind.PARTITION, OWNER)
    assert caught.value.reason == "truncated: 67 bytes, fewer than the least possible"


def test_the_system_record_counts_no_changes() -> None:
    """R-02: The generation of the system record is 0, in the header too."""
    blob = seal_system(sealer(), SystemRecord("FW1110", 16384))
    assert blob[40:48] == bytes(8)
    assert sealer().open(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, blob).generation == 0
