"""Common values of the tests of sealing: one system, one partition with one object, and strategies."""

import os
from uuid import UUID

from hypothesis import strategies as st

from hcall_abi.console import AT_FIRST, ATTRIBUTES
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.platform.custody import STORED, Custody
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing import PartitionRecord, Sealer

IDENTITY = SystemIdentity(bytes(range(16)), bytes(range(100, 132)))
SEALER = Sealer(IDENTITY, os.urandom)
FOUR = UUID("44444444-4444-4444-8444-444444444444")
PROFILE = PartitionProfile(
    number=4,
    name="lpar4",
    uuid=FOUR,
    access_key=b"CANARY-access-key-56789abcdefghi",
    attributes=AT_FIRST.with_numbers(
        {
            "keystore_kbytes": 64,
            "keystore_signed_updates": 1,
            "linux_dynamic_key_secure_boot": 1,
            "secure_boot": 2,
        }
    ),
    ipl_count=3,
    image_generation=99,
)
RECORD = PartitionRecord(PROFILE, StoreImage.of(99, (StoredObject(3, b"label", 0x30000000, b"CANARY-data"),)))
OFF = PartitionRecord(PROFILE._replace(attributes=AT_FIRST), None)
"""The partition with its keystore off: no image."""
SWITCHES = [name for name, row in ATTRIBUTES.items() if isinstance(row.sealed, int)]

names = st.text("az-0 äé漢😀", min_size=1, max_size=60)
attributes = st.fixed_dictionaries(
    {name: st.integers(row.numbers[0], row.numbers[-1]) for name, row in ATTRIBUTES.items()}
).map(AT_FIRST.with_numbers)
objects = st.builds(
    StoredObject,
    consumer=st.integers(1, 3),
    label=st.binary(max_size=12),
    policy=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=40),
)
images = st.builds(
    StoreImage.of,
    generation=st.integers(0, 2**64 - 1),
    objects=st.lists(objects, max_size=5, unique_by=lambda o: (o.consumer, o.label)).map(tuple),
)
standings = st.just((Custody.OWN, 0, b"")) | st.tuples(
    st.sampled_from(sorted(STORED)),
    st.integers(1, 2**64 - 1),
    st.just(b"") | st.binary(min_size=16, max_size=16),
)
"""Custody, epoch and peer of a stored partition."""
stays = st.builds(
    PartitionProfile,
    number=st.integers(1, 0xFFFF),
    name=names,
    uuid=st.uuids(),
    access_key=st.binary(min_size=32, max_size=32),
    attributes=attributes,
    auto_start=st.booleans(),
    ipl_count=st.integers(0, 2**32 - 1),
    image_generation=st.integers(0, 2**64 - 1),
    custody=st.just(Custody.OWN),
    restores=st.just(0) | st.integers(0, 2**32 - 1),
    epoch=st.just(0),
    peer=st.just(b""),
)
"""Profiles of partitions that have never moved."""


def at(profile: PartitionProfile, standing: tuple[Custody, int, bytes]) -> PartitionProfile:
    """Return the profile of a partition in this custody."""
    custody, epoch, peer = standing
    return profile._replace(custody=custody, epoch=epoch, peer=peer)


profiles = st.builds(at, stays, standings)


def whole(profile: PartitionProfile, image: StoreImage) -> PartitionRecord:
    """Return a record with this profile, and with this image if its keystore is on."""
    if not profile.attributes.keystore_kbytes:
        return PartitionRecord(profile, None)
    return PartitionRecord(profile._replace(image_generation=image.generation), image)


records = st.builds(whole, profiles, images)


def flipped(data: bytes, bit: int) -> bytes:
    """Return `data` with one bit changed. Bit 0 is the lowest bit of the first byte."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def put(data: bytes, at: int, value: bytes) -> bytes:
    """Return `data` with other bytes from an offset on."""
    return data[:at] + value + data[at + len(value) :]
