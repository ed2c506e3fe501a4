"""Makes a restored record from an older one: it has the older contents, and newer counters.

Page: spec/sealed.md#restored-partitions.
"""

# Which counters a restored partition has
#
# A restore puts the objects and the settings of an older day back.  It must not put the counters back:
#
#   1. A generation names one image for ever.  After a restore to generation 90, a snapshot of the new
#      generation 95 would have the number of an older and different one.
#   2. An IPL count names one IPL.  A client takes two numbers for two IPLs, and one number for one IPL.
#   3. The count of restores says which of two generations is the later one.  A copy from before a restore is
#      older than the store, but may have a larger generation.
#   4. The latch, the permission for one update without verification, may have been used up since.
#
# So each counter becomes one more than its largest known value.  That may be in the copy, in the records of
# this system, or in the console's list.  If a counter has its largest value, the restore is refused.  It must
# not wrap: it would be smaller than all values before.
#
# CONFIRM takes every object of a stored image as durable at the image's generation.  So a restored record is
# sealed and committed first, and adopted afterwards.

from __future__ import annotations

from hcall_abi.errors import StorageError
from hcall_abi.rules import backup as rules
from hcall_server.platform.custody import Custody
from hcall_server.platform.profile import IPL_COUNT_LIMIT, LATCH
from hcall_server.sealing.partitions import RESTORES_SIZE, PartitionRecord

GENERATION_LIMIT = 1 << 64
"""One more than the largest generation: an envelope has 8 bytes for it."""
RESTORES_LIMIT = 1 << 8 * RESTORES_SIZE


def restored(
    record: PartitionRecord,
    seen_generation: int,
    seen_ipl_count: int,
    seen_restores: int = 0,
    *,
    custody: Custody = Custody.OWN,
    epoch: int = 0,
    peer: bytes = b"",
) -> PartitionRecord:
    """Return the record of a partition that is restored from `record`.

    The caller commits it before the system adopts it.  `seen_generation`, `seen_ipl_count` and
    `seen_restores` are the largest known ones of the partition, 0 if none is known.  The latch of the
    restored partition is off.  The caller passes `custody`, `epoch` and `peer` of the present store, if there
    is one.  StorageError when a counter is at its largest value.
    """
    profile, image = record
    generation = _next("generation", profile.image_generation, seen_generation, GENERATION_LIMIT)
    ipl_count = _next("IPL count", profile.ipl_count, seen_ipl_count, IPL_COUNT_LIMIT)
    restores = _next("count of restores", profile.restores, seen_restores, RESTORES_LIMIT)
    changed = profile._replace(
        attributes=profile.attributes.with_numbers({LATCH: 0}),
        custody=custody,
        epoch=epoch,
        peer=peer,
        image_generation=generation,
        ipl_count=ipl_count,
        restores=restores,
    )
    return PartitionRecord(changed, image._replace(generation=generation) if image else None)


def _next(what: str, stored: int, seen: int, limit: int) -> int:
    """Return the larger of the two counters plus one; StorageError if that exceeds the limit."""
    found = max(stored, seen) + 1
    if found >= limit:
        message = f"the {what} of a partition is {found - 1}, and no larger one is left for a restore"
        raise StorageError(rules.COPY_COUNTERS, message)
    return found
