"""The check whether NVRAM is older than its high-water mark, for both sealed levels."""

import struct
import zlib

import pytest

from hcall_server.nvram import NvramError
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.sealing import NO_COMMIT, CommitAuthority
from hcall_server.service.age import UNKNOWN_COMMITS, AgeCheck

AUTHORITY, OTHER = CommitAuthority(bytes(32)), CommitAuthority(bytes(31) + b"x")


def old_mark(number: int) -> bytes:
    body = struct.pack(">4sB3xQ", b"SPKM", 1, number)
    return body + zlib.crc32(body).to_bytes(4, "big")


def at_level_1(first: bytes, second: bytes = b"", *, accept: bool = False) -> int:
    """Compare NVRAM of level 1, whose last commit is number 5, with the two slots of a mark.

    Return how many commits NVRAM lacks.
    """
    nvram = MemoryNvram()
    nvram.old_number, nvram.mark.held = 5, [first, second]
    return AgeCheck(nvram, accept_older=accept).of_level_1()


@pytest.mark.parametrize("first", [b"", old_mark(0), old_mark(5)])
def test_level_1_needs_no_mark_and_may_be_newer_than_one(first: bytes) -> None:
    """R-22: level 1 promised no mark; after a power cut the mark may be older than the records."""
    assert at_level_1(first) == at_level_1(first, accept=True) == 0


@pytest.mark.parametrize(
    "first,second,rule,missing",
    [
        (old_mark(6), b"", "nvram.age", UNKNOWN_COMMITS),
        (old_mark(2**64 - 1), b"", "nvram.age", 2**64 - 6),
        (old_mark(5)[:-1], b"", "nvram.mark", UNKNOWN_COMMITS),
        (old_mark(5) + b"x", b"", "nvram.mark", UNKNOWN_COMMITS),
        (old_mark(5), AUTHORITY.mark(1), "nvram.age", UNKNOWN_COMMITS),
        (b"", b"torn", "nvram.age", UNKNOWN_COMMITS),
    ],
)
def test_older_records_of_level_1_are_accepted_on_demand_only(
    first: bytes, second: bytes, rule: str, missing: int
) -> None:
    """R-22: Records of level 1 that are older than their mark are refused by default.

    If the operator accepts them, the start gets the number of missing commits.
    """
    with pytest.raises(NvramError) as caught:
        at_level_1(first, second)
    assert (caught.value.kind, caught.value.rule.id) == ("corrupt", rule)
    assert at_level_1(first, second, accept=True) == missing


@pytest.mark.parametrize(
    "slots,rule,age",
    [
        ([AUTHORITY.mark(7), b""], None, (0, (0,))),
        ([AUTHORITY.mark(6), AUTHORITY.mark(7)], None, (0, (1, 0))),
        ([AUTHORITY.mark(9), AUTHORITY.mark(8)], "nvram.age", (2, (0, 1))),
        ([b"", b""], "nvram.mark", (UNKNOWN_COMMITS, ())),
        ([OTHER.mark(7), old_mark(7)], "nvram.mark", (UNKNOWN_COMMITS, ())),
    ],
)
def test_level_2_is_held_against_the_newest_genuine_slot(
    slots: list[bytes], rule: str | None, age: tuple[int, tuple[int, ...]]
) -> None:
    """R-22: The seventh commit is compared with the newest authentic slot of the mark."""
    nvram, last = MemoryNvram(), NO_COMMIT._replace(number=7)
    nvram.mark.held = slots
    if rule:
        with pytest.raises(NvramError) as caught:
            AgeCheck(nvram, accept_older=False).of_level_2(AUTHORITY, last, promised=True)
        assert caught.value.rule.id == rule
        assert "put the newest copy of service-processor/ back, or start with --accept-older" in str(
            caught.value
        )
    assert AgeCheck(nvram, accept_older=bool(rule)).of_level_2(AUTHORITY, last, promised=True) == age


def test_a_conversion_that_was_cut_short_has_no_mark_yet() -> None:
    """R-21: After the commit of a conversion and before its mark, there is only the mark of level 1.

    The card does not promise a mark of level 2 yet, so the start goes on.
    """
    nvram, last = MemoryNvram(), NO_COMMIT._replace(number=1)
    nvram.mark.held = [old_mark(40), b""]
    assert AgeCheck(nvram, accept_older=False).of_level_2(AUTHORITY, last, promised=False) == (0, ())


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize(
    "slots", [[old_mark(1), b""], [AUTHORITY.mark(1), b""], [b"", b"torn"], [b"torn", b""]]
)
def test_empty_nvram_with_a_mark_is_no_new_system(slots: list[bytes], accept: bool) -> None:
    """R-22: Empty NVRAM with a mark has lost its records. No option accepts that."""
    nvram = MemoryNvram()
    nvram.mark.held = slots
    with pytest.raises(NvramError, match="it is empty, but its high-water mark says") as caught:
        AgeCheck(nvram, accept_older=accept).demand_new()
    assert caught.value.message.endswith("swpks hmc replace service-processor --state DIR")
    assert caught.value.rule.id == "nvram.age"


@pytest.mark.parametrize("slots", [[b"", b""], [old_mark(0), b""]])
def test_a_first_start_that_was_cut_short_is_a_new_system(slots: list[bytes]) -> None:
    """R-20: Before its first commit, level 1 wrote a mark with the number 0.

    So that mark means a new system.
    """
    nvram = MemoryNvram()
    nvram.mark.held = slots
    AgeCheck(nvram, accept_older=False).demand_new()
