"""The commit record lists each record by 16 bytes."""

from uuid import UUID

import pytest

from hcall_server.nvram import SYSTEM, partition_name
from hcall_server.writeback.commits import record_id

A = UUID("1b4e28ba-2fa1-41d2-883f-0016d3cca427")


def test_the_commit_record_knows_every_record_by_16_bytes() -> None:
    """R-47: The 16 bytes are a partition's UUID, or else the record's name, which must not be longer."""
    assert record_id(partition_name(A)) == A.bytes
    assert record_id(SYSTEM) == b"system" + bytes(10)
    assert record_id("systemA") == b"systemA" + bytes(9)
    with pytest.raises(ValueError, match="more than 16 characters"):
        record_id("seventeen letters")


def test_no_name_is_taken_for_the_uuid_of_a_partition() -> None:
    """R-47: No record name has the form of a UUID, not even "systemA".

    A byte of "systemA" has the version digit 4, but the variant bits are not those of a UUID.
    """
    assert record_id("systemA")[6] >> 4 == A.version == 4
    for name in (SYSTEM, "systemA", "sixteen-letters!"):
        assert UUID(bytes=record_id(name)).version is None
