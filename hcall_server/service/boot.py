"""From a state folder and settings to a managed system that is ready to be powered on.

The order: lock, NVRAM, anchor card, recovery, what the settings ask for.  None of it needs the
event loop.  Whatever is refused leaves the records of every partition as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import DEFAULT_LEVEL, LEVELS
from hcall_server.components.anchor_card import AnchorCard, RootKeyComponent, SystemIdentity
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.nvram.seam import Nvram
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import Sealer, SystemRecord
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import ACCESS_KEY_SIZE, State
from hcall_server.writeback.recover import recover_partitions, recover_system

LATCH = "keystore_signed_updates_without_verification"

Entropy = Callable[[int], bytes]


class Booted(NamedTuple):
    """A system before its first power-on.  `record` is what is to be remembered of the system."""

    state: State
    nvram: FaultyNvram
    """The real one, with the troubles that the console may ask for before it (spec/faults.md#nvram)."""
    sealer: Sealer
    system: ManagedSystem
    record: SystemRecord
    remembered: bool
    """Whether NVRAM holds `record` already."""
    touched: list[Partition]
    """Partitions that the settings made or changed."""
    access_keys: AccessKeys


def boot(folder: Path, settings: Settings, entropy: Entropy) -> Booted:
    """Lock a state folder, recover what it holds and do what the settings ask for.

    Raises OperatorError for a state in use or an impossible wish, StorageError when the system as a
    whole can't be opened; the state is then free for the next try.  A partition that can't be opened
    is in the system, with `refused` set.
    """
    with ExitStack() as undo:
        state = State(folder)
        undo.callback(state.close)
        nvram = SqliteNvram(state.nvram)
        undo.callback(nvram.close)
        booted = _recovered(state, nvram, settings, entropy)
        undo.pop_all()
        return booted


def _recovered(state: State, nvram: Nvram, settings: Settings, entropy: Entropy) -> Booted:
    """Recover what NVRAM holds and do what the settings ask for."""
    records = nvram.load()
    identity = identity_of(AnchorCard(state.anchor_card), records, entropy)
    sealer = Sealer(identity, entropy)
    stored = recover_system(records, sealer)
    if stored is None and records:
        raise _lost("the system record is missing", records)
    record = _record(stored, settings)
    system = ManagedSystem(
        LEVELS[record.firmware],
        identity.system_id,
        entropy,
        total_kbytes=record.total_kbytes,
        strict_memory=settings.strict_memory,
        strict_wrapping=settings.strict_wrapping,
    )
    recover_partitions(system, records, sealer)
    _check_total(system)
    touched = [found for wish in settings.partition if (found := _provide(system, wish))]
    keys = AccessKeys(state, entropy)
    for partition in system.partitions.values():
        keys(partition)
    return Booted(state, FaultyNvram(nvram), sealer, system, record, record == stored, touched, keys)


def _check_total(system: ManagedSystem) -> None:
    """Refuse a start whose level or total is too small for what is stored (R-34)."""
    taken = sum(partition.kbytes for partition in system.partitions.values())
    if taken > system.total_kbytes:
        raise OperatorError(
            f"the stored keystores take {taken} KiB, and the system's total is {system.total_kbytes}",
            rule="all keystores of a system stay within its total",
            section="spec/control.md#sizes",
        )


def identity_of(card: RootKeyComponent, records: Mapping[str, bytes], entropy: Entropy) -> SystemIdentity:
    """Return who the system is; a new system makes its identity.

    StorageError when NVRAM holds records and the card that could open them is gone: a new root key
    would only bury them.
    """
    identity = card.read()
    if identity is None:
        if records:
            raise _lost(f"the {card.name} is missing", records)
        identity = SystemIdentity.make(entropy)
        card.write(identity)
    return identity


def _lost(what: str, records: Mapping[str, bytes]) -> StorageError:
    return StorageError(
        f"{what}, and NVRAM holds {len(records)} records",
        rule="the records of a system are opened by its own root key and its own record",
        section="spec/sealed.md#anchor-card",
    )


def _record(stored: SystemRecord | None, settings: Settings) -> SystemRecord:
    """Return the level and total that count now: as asked for, else as stored, else the defaults."""
    firmware = settings.firmware or (stored.firmware if stored else DEFAULT_LEVEL.name)
    if firmware not in LEVELS:
        raise StorageError(
            f"the stored system has firmware level {firmware!r}",
            rule=f"this release knows the levels {', '.join(sorted(LEVELS))}",
            section="spec/choices.md#levels",
        )
    if stored and stored.firmware == firmware:
        total = settings.system_total_kbytes or stored.total_kbytes
    else:
        total = settings.system_total_kbytes or LEVELS[firmware].system_total_kbytes
    return SystemRecord(firmware, total)


def _provide(system: ManagedSystem, wish: PartitionSettings) -> Partition | None:
    """Make or change a partition as the settings say; None when there was nothing to do.

    A partition whose store was refused is left alone: it is told of elsewhere, and the others serve.
    So is one that is not there while the name of a refused one can't be read: it may be that one.
    """
    found = system.partitions.get(wish.name)
    if found is None and any(each.name_unknown for each in system.partitions.values()):
        return None
    attributes = wish.attributes
    if found is None:
        found = system.create(wish.name, wish.keystore_kbytes or 0, auto_start=wish.auto_start is not False)
        before = None
    elif found.refused:
        return None
    else:
        before = found.profile()
        attributes.pop(LATCH, None)  # a restart must not arm again what was used up
    if wish.auto_start is not None:
        found.auto_start = wish.auto_start
    system.set_attributes(wish.name, attributes)
    return None if found.profile() == before else found


class AccessKeys:
    """The access keys of all partitions, read or made once: no OPEN of a stranger touches a file."""

    def __init__(self, state: State, entropy: Entropy) -> None:
        self._state = state
        self._entropy = entropy
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"AccessKeys({sorted(self._keys)})"

    def __call__(self, partition: Partition) -> bytes:
        """Return a partition's key; empty, with which nothing is proven, for a stand-in."""
        if partition.name_unknown:
            return b""
        name = partition.name
        if name not in self._keys:
            self._keys[name] = provide_key(self._state, name, self._entropy)
        return self._keys[name]


def provide_key(state: State, name: str, entropy: Entropy) -> bytes:
    """Return a partition's access key, a new one where there is none."""
    key = state.access_key(name)
    if key is None:
        key = entropy(ACCESS_KEY_SIZE)
        state.keep_access_key(name, key)
    return key
