"""The check before an erase on etcd: the records below the prefix belong to the system of the folder."""

# The folder of a system has one NVRAM.  A cluster has records of many systems, and --nvram-prefix selects
# those of one.  An erase with a wrong prefix would do two kinds of harm:
#
#   - It would wipe another system, which is off.
#   - It would find nothing, remove the local mark, and report an erase.  All records would still be in etcd.
#
# So the records must open with the key of the card, or be wrapped copies of this system.  And an empty prefix
# is refused while the local mark has commits.  After a kill between the wipe in etcd and the removal of the
# mark, the prefix is empty too.  So the wipe first writes its prefix into a file beside the mark.
#
# Two cases can't be checked, and are accepted.  If neither the card nor a TPM has a key, nothing shows the
# owner of records.  And Clear All of a system with the mark "reset pending" may be a second call: the old key
# is gone, and so is the seed of an embedded TPM.

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import Components
from hcall_server.files import replace_private
from hcall_server.keystore.store import Entropy
from hcall_server.platform.root_key import CardFinding, CopyFinding, RecordsFinding
from hcall_server.service.key_copies import WRAPPED, read_copies, records_finding
from hcall_server.service.layout import ANCHOR_CARD, SERVICE_PROCESSOR, etcd_mark_path, open_etcd_mark
from hcall_server.service.tpms import open_tpms

_WIPE = "nvram.etcd-wipe"
"""The file with the prefix of a wipe that has begun, in the folder of the service processor."""
_ENOUGH = {CopyFinding.AGREES, CopyFinding.STALE, CopyFinding.SILENT}
"""Findings about a wrapped copy that is of this system, or can't be read now."""


def note_wipe(folder: Path, prefix: str) -> None:
    """Note durably that the records below a prefix are about to be wiped."""
    replace_private(folder / SERVICE_PROCESSOR / _WIPE, prefix.encode())


def foreign(
    folder: Path, prefix: str, records: Mapping[str, bytes], entropy: Entropy, *, clearing: bool
) -> str | None:
    """Return why the records below a prefix are not those of a folder; None if they are, or may be.

    `clearing`: before Clear All, not before a reset.
    """
    if not records:
        if _begun(folder) == prefix or not _has_commits(folder):
            return None
        return f"etcd has no record below {prefix}, but the high-water mark of this system has commits"
    card = AnchorCard(folder / ANCHOR_CARD)
    copies = read_copies(Components(card, open_tpms(folder, entropy)), records)
    agrees = bool(_ENOUGH & set(copies.findings))
    if copies.card_finding is CardFinding.HOLDS:
        # A commit record that opens is enough: in the state Recovery there is no other record.
        sealed = records.keys() - WRAPPED
        opens = sealed and records_finding(records, copies.candidate) is not RecordsFinding.SHUT
        return None if opens or agrees else f"the records below {prefix} do not open with the anchor card"
    if (
        copies.card_finding is CardFinding.PENDING
        and not clearing
        and WRAPPED & records.keys()
        and not agrees
    ):
        return f"no wrapped copy below {prefix} is of this system; a Clear All that was ended comes first"
    return None


def _begun(folder: Path) -> str:
    try:
        return (folder / SERVICE_PROCESSOR / _WIPE).read_text("utf-8", "replace")
    except OSError:  # without it, an empty prefix is refused
        return ""


def _has_commits(folder: Path) -> bool:
    path = etcd_mark_path(folder)
    if not path.exists():
        return False
    mark = open_etcd_mark(folder)
    try:
        return any(mark.slots())
    finally:
        mark.close()
