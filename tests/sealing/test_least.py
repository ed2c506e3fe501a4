"""The least that is sealed: a blob without plaintext, and records that have no generation of their own."""

import pytest

from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing import (
    SealedKind,
    SealedLengthError,
    Sealer,
    SystemRecord,
    Unsealed,
    seal_profile,
    seal_system,
)
from tests.guest import Chance
from tests.sealing.test_sealer import IDENTITY


def sealer() -> Sealer:
    return Sealer(IDENTITY, Chance())


def test_the_smallest_blob_has_68_bytes() -> None:
    """R-02: header and tag alone are a blob, without any plaintext; a byte less is none."""
    blob = sealer().seal(SealedKind.PARTITION_IMAGE, 3, 5, b"")
    assert len(blob) == 68
    assert sealer().open(SealedKind.PARTITION_IMAGE, 3, blob) == Unsealed(5, b"")
    with pytest.raises(SealedLengthError) as caught:
        sealer().open(SealedKind.PARTITION_IMAGE, 3, blob[:67])
    assert (caught.value.kind, caught.value.partition) == (SealedKind.PARTITION_IMAGE, 3)
    assert caught.value.reason == "truncated: 67 bytes, fewer than the least possible"


def test_only_an_image_tells_how_many_changes_there_were() -> None:
    """R-02: the generation of a profile and of the system record is 0, in the header too."""
    profile = PartitionProfile(number=4, name="lpar4", image_generation=77, ipl_count=9)
    for kind, number, blob in (
        (SealedKind.SYSTEM_RECORD, 0, seal_system(sealer(), SystemRecord("FW1110", 16384))),
        (SealedKind.PARTITION_PROFILE, 4, seal_profile(sealer(), profile)),
    ):
        assert blob[40:48] == bytes(8)
        assert sealer().open(kind, number, blob).generation == 0
