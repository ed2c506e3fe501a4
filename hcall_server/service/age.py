"""The check of NVRAM against its high-water mark, at both sealed levels (spec/sealed.md#high-water-mark)."""

# Why records have an age
#
# If the write-ahead log is damaged, SQLite goes back to the commit before the damage, without an error.  An
# attacker who can write files can put back an older copy of the whole database.  Both would undo a confirmed
# change.  So the number of each durable commit is written beside NVRAM, in the mark.  Each start compares the
# records with the mark.
#
# Level 1 counts its commits in NVRAM, and its mark has a check value.  An attacker can compute a check value
# too.  So level 2 counts its commits in the commit record, and its mark has a MAC.
#
# A larger number in the mark means older records.  They are refused, unless the operator accepts them for
# this start.  Then the caller gets the number of missing commits.  The contents are older, but no count may
# go back: one IPL count would name two IPLs.

from __future__ import annotations

from typing import NamedTuple, NoReturn

from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.nvram.seam import Nvram, NvramError
from hcall_server.sealing import CommitAuthority, CommitRecord
from hcall_server.sealing.commits import later_mark

UNKNOWN_COMMITS = 1 << 16
"""The number of missing commits to assume if no mark has the real one."""


_ON_PURPOSE = (
    "put the newest copy of service-processor/ back, or start with --accept-older if this one was restored "
    "on purpose: later changes are lost then"
)
"""The remedies for records that are older than the last confirmed ones, or may be."""
_ON_PURPOSE_ON_ETCD = (
    "is this the right cluster and --nvram-prefix?  Start with --accept-older if etcd was restored, or the "
    "system was erased through another folder, on purpose: later changes are lost then"
)
"""The same for records on etcd, where a newer copy of a folder does not help."""


class Age(NamedTuple):
    """The result of comparing records of level 2 with the high-water mark.

    `missing` is the number of commits that the records lack.  `genuine` has the slots with a mark of this
    system, the newest first.
    """

    missing: int
    genuine: tuple[int, ...]


class AgeCheck:
    """Compares NVRAM with its high-water mark; `accept_older` is the operator's permission for this start.

    All functions raise NvramError of kind ``corrupt`` for records that are older, or may be.
    """

    def __init__(self, nvram: Nvram, *, accept_older: bool) -> None:
        self._nvram = nvram
        self._accepted = accept_older

    def demand_new(self) -> None:
        """Raise if NVRAM is empty, but its mark has a commit: the records are lost, the system is not new.

        If a first start of sealed level 1 was killed, the mark has the number 0.  That mark is accepted.
        """
        written = [slot for slot in self._nvram.mark.slots() if slot]
        if not written:
            return
        from hcall_server.sealing.level_1 import old_marked

        if any(old_marked(slot) != 0 for slot in written):
            reason = "it is empty, but its high-water mark says that there were commits"
            advice = "put NVRAM and its mark back together"
            if self._nvram.always_newest:
                reason += " (is --nvram-prefix right?)"
                advice = "name the right cluster and prefix, repeat an asmi command that was ended"
            way = "or begin with an empty one: swpks hmc replace service-processor --state DIR"
            _refuse(rules.NVRAM_AGE, f"{reason}: {advice}, {way}")

    def refuse_empty(self) -> NoReturn:
        """Refuse the empty NVRAM that a standby of a system has found.

        A standby without a mark would go on in the state Recovery, and look healthy.  But usually its prefix
        is wrong.  On purpose, such as for a new prefix, an operator begins without --standby.
        """
        reason = "there is no record of this system, and its anchor card holds a key"
        advice = "If the records were removed on purpose, start once without --standby"
        _refuse(rules.NVRAM_AGE, f"{reason}: is this the right cluster and --nvram-prefix?  {advice}")

    def of_level_1(self) -> int:
        """Return how many IPL counts the records of sealed level 1 may lack.

        The result is 0 if the records are not older than the mark.  Sealed level 1 did not promise a mark, so
        a missing mark is accepted.  It did not commit each IPL, so more IPLs than commits may be missing.
        """
        first, second = self._nvram.mark.slots()
        # A mark of level 2 proves that the records were converted once.  So these records are an older
        # copy.
        if second:
            return self._unknown(rules.NVRAM_AGE, "its records are of level 1, and its mark is of level 2")
        if not first:
            return 0
        from hcall_server.sealing.level_1 import old_marked

        noted = old_marked(first)
        if noted is None:
            return self._unknown(rules.NVRAM_MARK, "its high-water mark of level 1 is damaged")
        missing = self._lacking(noted, self._nvram.old_number)
        return max(missing, UNKNOWN_COMMITS) if missing else 0

    def of_level_2(self, authority: CommitAuthority, last: CommitRecord, *, promised: bool) -> Age:
        """Compare the last commit with the mark.  If `promised`, a missing mark means older records.

        No mark is promised after a conversion that was killed before it wrote its mark.
        """
        slots = enumerate(self._nvram.mark.slots())
        marked = {slot: number for slot, each in slots if (number := authority.marked(each)) is not None}
        genuine = tuple(sorted(marked, key=marked.__getitem__, reverse=True))
        if genuine:
            return Age(self._lacking(marked[genuine[0]], last.number), genuine)
        if not promised:
            return Age(0, ())
        self._refuse_later_mark()
        if self._nvram.always_newest:
            return Age(0, ())  # another server has used it, and the mark is a file of each server
        reason = "it has no high-water mark of this system, so it may be an older copy"
        return Age(self._unknown(rules.NVRAM_MARK, reason), ())

    def _refuse_later_mark(self) -> None:
        """Refuse a mark of a later release.  Its numbers cannot be read, so the operator cannot permit it."""
        for slot in self._nvram.mark.slots():
            if (finding := later_mark(slot)) is not None:
                _refuse(rules.STATE_LEVEL, f"its high-water mark has {finding}")

    def _lacking(self, noted: int, found: int) -> int:
        """Return by how many commits `found` is below the mark."""
        if noted > found and not self._accepted:
            reason = f"its last commit is {found}, but {noted} was confirmed: it is damaged or an older copy"
            _refuse(rules.NVRAM_AGE, f"{reason}; {self._on_purpose}")
        return max(noted - found, 0)

    def _unknown(self, rule: Rule, reason: str) -> int:
        if not self._accepted:
            _refuse(rule, f"{reason}; {self._on_purpose}")
        return UNKNOWN_COMMITS

    @property
    def _on_purpose(self) -> str:
        return _ON_PURPOSE_ON_ETCD if self._nvram.always_newest else _ON_PURPOSE


def _refuse(rule: Rule, reason: str) -> NoReturn:
    raise NvramError("corrupt", f"NVRAM: {reason}", rule)
