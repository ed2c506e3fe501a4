"""Commits: which 16 bytes stand for a record in the commit record's list."""

from uuid import UUID

import pytest

from hcall_server.nvram import SYSTEM, partition_name
from hcall_server.writeback.commits import record_id

A = UUID("1b4e28ba-2fa1-41d2-883f-0016d3cca427")


def test_the_commit_record_knows_every_record_by_16_bytes() -> None:
    """R-47: a partition by its UUID, all others by their name, which may not be too long."""
    assert record_id(partition_name(A)) == A.bytes
    assert record_id(SYSTEM) == b"system" + bytes(10)
    with pytest.raises(ValueError, match="more than 16 characters"):
        record_id("seventeen letters")
