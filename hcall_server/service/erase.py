"""Secure erase of a powered-off system: Clear All, and Reset server firmware settings (spec/erase.md).

The caller holds the lock of the state, owns NVRAM on etcd, and has proven presence.
"""

# Secure erase
#
# Clear All replaces the root key.  Reset server firmware settings wipes the records.  Together they must
# guarantee:
#
#   1. After Clear All no copy of the old root key exists: not on the card, not wrapped, not in a part that
#      was taken out.  Without this key, neither a record nor the trusted system key can be opened.
#   2. After both the system is new and empty, with its old system id.
#   3. Without Clear All the root key stays.  The wipe takes the wrapped copies, so a reset needs a card that
#      holds the key.
#   4. After a kill at any point, the system still has everything, or the erase can be finished.  For that
#      the card has the mark "reset pending".  It is written with the new key, in one step, and removed last.
#
# The seed of an embedded TPM is destroyed as well.  With this seed and an older copy of NVRAM, the old key
# could be unwrapped.  An external TPM belongs to its operator, who has to clear it for the same effect.
#
# The order of Clear All: first the new card with the mark, durable; then the wrapped copies.  A kill between
# them leaves wrapped copies of the old key, and a card with the mark.  Beside this mark, a copy of another
# key does not stop a start.  The next start, or a second Clear All, replaces these copies.
#
# Snapshots end with both.  Those of the system die with the root key, but a portable one opens with its
# passphrase, and after a reset without Clear All the own ones would still open.
#
# The wipe takes the folder of the service processor away by one rename.  So its records are there as a
# whole, or not at all.  Removing records one by one, and the high-water mark after them, would leave NVRAM
# that looks damaged.  The folder is then overwritten and removed.  If a kill prevents that, the next start
# or the next call does it.
#
# With NVRAM on etcd, one transaction removes all records before that rename.  `erase_nvram` has both back
# ends, and the reasons for that order.

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from hcall_abi.errors import StorageError
from hcall_abi.levels import DEFAULT_LEVEL
from hcall_abi.rules import storage as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import Card, Components, Tpm
from hcall_server.components.tpm.embedded import SEED_NAME
from hcall_server.components.tpm.kinds import EMBEDDED
from hcall_server.files import destroy, overwritten_after, sync_folder
from hcall_server.nvram.names import SYSTEM, TRUSTED_KEY, wrapped_name
from hcall_server.nvram.seam import NvramError
from hcall_server.platform.identity import ROOT_KEY_SIZE, SYSTEM_ID_SIZE, SystemIdentity
from hcall_server.sealing import CommitAuthority, Sealer, SystemRecord, seal_system
from hcall_server.service.entropy import checked
from hcall_server.service.erase_nvram import ErasedNvram, NvramInFolder
from hcall_server.service.key_copies import WRAPPED, read_copies
from hcall_server.service.key_repair import demand_stored, wrap, write_card
from hcall_server.service.layout import (
    ANCHOR_CARD,
    REMOVED,
    TRACES,
    finish_wipe,
    make_service_processor,
    take_away,
)
from hcall_server.service.snapshot_places import destroy_snapshots, kept_snapshots
from hcall_server.service.state_folder import trouble
from hcall_server.service.tpms import open_tpms
from hcall_server.writeback.commits import Commits

Entropy = Callable[[int], bytes]


def _no_way_back(folder: Path) -> tuple[str, str]:
    """Return two sentences: the effect of losing the trusted system key, and the way back."""
    command = f"swpks hmc chtskey -o restore --newkey FILE --state {shlex.quote(str(folder))}"
    return (
        "The trusted system key is lost with the old root key: copies on the console do not open any more.",
        f"An operator who kept its file can bring it back: `{command}`.",
    )


def losses(folder: Path, action: str, nvram: ErasedNvram | None = None) -> list[str]:
    """Return what an action destroys, one text for each loss.  SwpksError if the action is refused now."""
    more = []
    if nvram:
        nvram.demand_own(os.urandom, clearing=action == "clear-all")
        more = nvram.losses()
    removed = f"parts that were taken out, in {folder / REMOVED}"
    if action == "reset-settings":
        lost = [
            "all encrypted PKS data in NVRAM: every partition and its objects, and the trusted system key",
            "the system's name, firmware level and PKS total",
        ]
        lost += kept_snapshots(folder)
        return [*lost, *(["all access keys", removed] if _held(folder).reset_pending else []), *more]
    return [
        "the PKS root key, in all its copies: no partition's keystore opens any more",
        "the trusted system key: copies on the console open only with an operator's file of that key",
        "the seeds of embedded TPMs",
        removed,
        *([f"the traces in {folder / TRACES}"] if (folder / TRACES).exists() else []),
        *kept_snapshots(folder),
        *more,
    ]


def clear_all(folder: Path, entropy: Entropy, nvram: ErasedNvram | None = None) -> str:
    """Destroy the root key and the trusted system key.  Make a new root key.  Return the text to print.

    Until `reset_settings` the system serves nothing.  `nvram` is that of the folder if it is None.  Raises
    SwpksError; a second call finishes the first.
    """
    return _translated(folder, lambda: _clear_all(nvram or NvramInFolder(folder), checked(entropy)))


def reset_settings(folder: Path, entropy: Entropy, nvram: ErasedNvram | None = None) -> str:
    """Wipe all records in NVRAM; return the text to print.

    After Clear All the result is a new, empty system.  Without Clear All the next start is in the state
    Recovery.  `nvram` is as in `clear_all`.  Raises SwpksError; a second call finishes the first.
    """
    return _translated(folder, lambda: _reset_settings(nvram or NvramInFolder(folder), checked(entropy)))


def _translated(folder: Path, erase: Callable[[], str]) -> str:
    try:
        return erase()
    except OSError as error:
        raise scarcity_of(error) or trouble(error, folder) from None


def _clear_all(nvram: ErasedNvram, entropy: Entropy) -> str:
    folder = nvram.folder
    make_service_processor(folder)
    nvram.demand_own(entropy, clearing=True)
    card, tpms = AnchorCard(folder / ANCHOR_CARD), open_tpms(folder, entropy)
    known = _system_id(nvram, card, tpms)
    identity = SystemIdentity(known or entropy(SYSTEM_ID_SIZE), entropy(ROOT_KEY_SIZE))
    # a write of the card that was killed may have left this file
    destroy(folder / ANCHOR_CARD / f"{ANCHOR_CARD}.new")
    with overwritten_after(folder / ANCHOR_CARD / ANCHOR_CARD):
        write_card(card, Card(identity, reset_pending=True))
    _destroy_seeds(folder, tpms)
    notes = _replace_wrapped(nvram, tpms, identity)
    _destroy_removed(folder)
    _destroy_traces(folder)
    destroy_snapshots(folder)
    if known is None:
        notes.append("No part held the system id: the system has a new one, and a new serial number.")
    done = ["The old root key is destroyed, and a new one is made.", *_no_way_back(folder), *notes]
    done += nvram.remains(key_kept=False)
    return "\n".join([*done, "Now run reset-settings: until then the system serves nothing."])


def _reset_settings(nvram: ErasedNvram, entropy: Entropy) -> str:
    folder = nvram.folder
    make_service_processor(folder)
    held = _held(folder)
    nvram.demand_own(entropy, clearing=False)
    # The snapshots go first.  After a kill between the two, the next start would finish the wipe of NVRAM,
    # and would not know that snapshots were meant too.
    destroy_snapshots(folder)
    nvram.wipe()
    if not held.reset_pending:
        finish_wipe(folder)
        text = "All PKS data are wiped.  The root key is kept, so the next start is in the state Recovery."
        command = f"swpks hmc recover --give-up --state {shlex.quote(str(folder))}"
        way = f"Restore the stores from the console, or give them up: `{command}`."
        return "\n".join([text, way, *nvram.remains(key_kept=True)])
    notes = _begin_again(nvram, held, entropy)
    text = "All PKS data are wiped.  The next start is that of a new, empty system."
    return "\n".join([text, *_no_way_back(folder), *notes, *nvram.remains(key_kept=False)])


def _begin_again(nvram: ErasedNvram, held: Card, entropy: Entropy) -> list[str]:
    """Make the records of a new system in one commit, and then remove the card's mark.

    The seeds are destroyed here as well: a Clear All that was killed may have left the old ones.
    """
    folder = nvram.folder
    make_service_processor(folder)
    tpms = open_tpms(folder, entropy)
    _destroy_seeds(folder, tpms)
    wrapped, notes = _wrapped(tpms, held.identity)
    first = SystemRecord(DEFAULT_LEVEL.name, DEFAULT_LEVEL.system_total_kbytes)
    with nvram.opened() as opened:
        sealer = Sealer(held.identity, entropy)
        commits = Commits(opened, CommitAuthority(held.identity.root_key))
        commits.make({**wrapped, SYSTEM: seal_system(sealer, first)})
        demand_stored(opened, wrapped)
    _destroy_removed(folder)
    _wipe_access_keys(folder / "access-keys")
    finish_wipe(folder)
    write_card(AnchorCard(folder / ANCHOR_CARD), Card(held.identity))
    return notes


def _replace_wrapped(nvram: ErasedNvram, tpms: tuple[Tpm, ...], identity: SystemIdentity) -> list[str]:
    """Replace all wrapped copies, and remove the trusted system key; return notes for the operator."""
    wrapped, notes = _wrapped(tpms, identity)
    try:
        with nvram.opened() as opened:
            gone = dict.fromkeys((WRAPPED | {TRUSTED_KEY}) & opened.load().keys())
            opened.commit({**gone, **wrapped})
            demand_stored(opened, wrapped)
            nvram.drop_history()
    except NvramError as error:
        # A malformed answer of etcd, or of a proxy before it, says nothing about the records.
        if error.kind != "corrupt" or error.rule is rules.NVRAM_ANSWER:
            raise
        nvram.wipe()
        finish_wipe(nvram.folder)
        notes.append("NVRAM was damaged, and is removed.")
    return notes


def _wrapped(tpms: tuple[Tpm, ...], identity: SystemIdentity) -> tuple[dict[str, bytes], list[str]]:
    """Wrap the key with each TPM; return the copies by name, and a note for each TPM that failed.

    A later start wraps the key for a TPM that failed.
    """
    made: dict[str, bytes] = {}
    notes = []
    for slot, tpm in enumerate(tpms, 1):
        try:
            made[wrapped_name(slot)] = wrap(tpm, identity)
        except StorageError as error:
            notes.append(f"{tpm.name} does not hold the new key yet: {error.message}")
    return made, notes


def _system_id(nvram: ErasedNvram, card: AnchorCard, tpms: tuple[Tpm, ...]) -> bytes | None:
    """Return the system id of the card, or of a wrapped copy; None if none is readable."""
    try:
        held = card.read()
        if held is not None:
            return held.identity.system_id
    except StorageError:
        pass  # the card is damaged; the wrapped copies have the id too
    try:
        with nvram.opened() as opened:
            found = read_copies(Components(card, tpms), opened.load()).candidate
    except NvramError as error:
        if error.kind != "corrupt":
            raise  # a second call may read the id; the system must not get a new one for that
        return None
    return found.system_id if found else None


def _held(folder: Path) -> Card:
    """Return the anchor card.  StorageError if it holds no key: the wipe would destroy the last copy."""
    card = AnchorCard(folder / ANCHOR_CARD)
    advice = "start the system once, so that it is restored from a wrapped copy, or use clear-all"
    try:
        held = card.read()
    except StorageError as error:
        raise StorageError(rules.ROOT_KEY_READABLE, f"{error.message}; {advice}") from None
    if held is None:
        raise StorageError(rules.ROOT_KEY_READABLE, f"the {card.name} is new, and holds no key; {advice}")
    return held


def _destroy_seeds(folder: Path, tpms: tuple[Tpm, ...]) -> None:
    """Destroy the seeds of embedded TPMs; the next wrapping makes new ones."""
    for tpm in tpms:
        if tpm.kind == EMBEDDED.kind:
            take_away(folder / tpm.name / SEED_NAME, folder)
    finish_wipe(folder)


def _destroy_removed(folder: Path) -> None:
    """Destroy the parts that a technician took out: they may hold the old key."""
    if (folder / REMOVED).exists():
        destroy(folder / REMOVED)


def _destroy_traces(folder: Path) -> None:
    """Destroy the traces: they may hold objects and passwords as they were sent."""
    if (folder / TRACES).exists():
        destroy(folder / TRACES)


def _wipe_access_keys(folder: Path) -> None:
    for path in folder.glob("*.key*"):
        destroy(path)
    if folder.is_dir():
        sync_folder(folder)
