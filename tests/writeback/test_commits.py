"""The commit record lists each record by 16 bytes."""

from uuid import UUID

import pytest

from hcall_abi.faults import NvramFault
from hcall_abi.rules import storage as rules
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.nvram import COMMIT, SYSTEM, CommitLimits, NvramError, partition_name
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.sealing import CommitAuthority
from hcall_server.writeback.commits import Commits, record_id

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


def test_records_that_were_put_back_are_not_gone_on_from() -> None:
    """R-22, R-85: after a failed commit the list in NVRAM is read; one older than a confirmed one is refused.

    Otherwise the next commit record would list the older records, and nobody would find the loss.
    """
    memory = MemoryNvram()
    memory.limits = CommitLimits(1 << 20, 100)
    nvram = FaultyNvram(memory)
    commits = Commits(nvram, CommitAuthority(bytes(32)))
    commits.make({SYSTEM: b"1" * 64})
    older = dict(memory.records)
    commits.make({SYSTEM: b"2" * 64})
    nvram.set_faults(NvramFault("io"))
    with pytest.raises(NvramError):
        commits.make({SYSTEM: b"3" * 64})
    memory.records.clear()
    memory.records.update(older)
    with pytest.raises(NvramError, match="put back") as refused:
        commits.make({SYSTEM: b"4" * 64})
    assert refused.value.rule is rules.NVRAM_AGE
    assert memory.records == older
    assert COMMIT in older
