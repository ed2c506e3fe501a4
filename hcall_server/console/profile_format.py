r"""The file of a profile backup: facts of a system's partitions, and sealed copies of their stores (R-46).

    swpks profile backup 1 SHA256\n
    {"taken": ..., "system": {...}, "partitions": [...], "keys": [...]}

The first line has the format level, and the SHA-256 of the rest in hex.  The SHA-256 finds damage; it is no
seal.  The rest is JSON.  No part of the file opens a copy: the trusted system key is sealed under the root
key of its system.

A program that can write the file can change the JSON and its SHA-256.  So facts that decide about a loss must
be equal to those in the header of each copy.  The system authenticates that header when it opens the copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import msgspec

from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.later import FILE, of_later_release
from hcall_abi.rules import hmc as rules
from hcall_server.sealing.copies import read_copy
from hcall_server.sealing.copy_errors import CopyError

PROFILE_LEVEL = 1
MAX_PROFILE = 16 << 20
"""The most bytes of a file."""
_MAGIC = b"swpks profile backup "


class SavedSystem(msgspec.Struct):
    """The facts of a system in a profile backup."""

    name: str
    type_model_serial: str
    system_id: str
    firmware_level: str
    total_kbytes: int


class SavedPartition(msgspec.Struct):
    """A partition in a profile backup; `attributes` are in the console's numbers.

    `copy` is None if no copy could be made: the keystore was off, and the system had no trusted system key.
    `time` is the time of the copy in seconds since 1970, `key_id` the key under which it was made.
    """

    uuid: str
    name: str
    number: int
    auto_start: bool
    ipl_count: int
    restores: int
    generation: int
    attributes: dict[str, int]
    copy: bytes | None = None
    key_id: str = ""
    time: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """The rank of the copy among the copies of its store: restores, then generation."""
        return self.restores, self.generation

    @property
    def keystore_kbytes(self) -> int:
        """The size of the keystore after a restore: the size in the copy, if there is a copy."""
        return read_copy(self.copy).kbytes if self.copy else self.attributes.get("keystore_kbytes", 0)

    def __repr__(self) -> str:
        return f"SavedPartition({self.name!r}, {self.uuid}, generation {self.generation})"


class SavedKey(msgspec.Struct):
    """A trusted system key by its id, sealed under the root key of the system."""

    id: str
    sealed: bytes

    def __repr__(self) -> str:
        return f"SavedKey({self.id})"


class ProfileBackup(msgspec.Struct):
    """A profile backup; `taken` is its time in seconds since 1970."""

    taken: int
    system: SavedSystem
    partitions: list[SavedPartition]
    keys: list[SavedKey]


def saved_system(view: SystemView) -> SavedSystem:
    """Return the facts of a system."""
    return SavedSystem(
        view.name, view.type_model_serial, view.system_id, view.firmware_level, view.total_kbytes
    )


def saved_partition(view: PartitionView) -> SavedPartition:
    """Return the facts of a partition, without a copy."""
    return SavedPartition(
        view.uuid,
        view.name,
        view.number,
        view.auto_start,
        view.ipl_count,
        view.restores,
        view.generation,
        view.numbers,
    )


def encode_profiles(backup: ProfileBackup) -> bytes:
    """Return the content of the file."""
    body = msgspec.json.encode(backup)
    return b"%s%d %s\n%s" % (_MAGIC, PROFILE_LEVEL, _digest(body), body)


def decode_profiles(content: bytes) -> ProfileBackup:
    """Return the profile backup in a file; OperatorError for a foreign, damaged or newer file."""
    first, _, body = content.partition(b"\n")
    if not first.startswith(_MAGIC):
        raise _refused("the file is no profile backup: its first line is another one")
    level, _, digest = first.removeprefix(_MAGIC).partition(b" ")
    if not level.isdigit():
        raise _refused("the profile backup is damaged: its first line has no level")
    if int(level) != PROFILE_LEVEL:
        known = of_later_release(int(level), [PROFILE_LEVEL], FILE) if int(level) else "the unknown level 0"
        raise OperatorError(rules.HMC_PROFILE_LEVEL, f"the profile backup has {known}")
    # The level was checked before the digest.  A file of a later level may have another kind of digest, and
    # is not damaged.
    if digest != _digest(body):
        raise _refused("the profile backup is damaged: its content is not that of its first line")
    try:
        backup = msgspec.json.decode(body, type=ProfileBackup)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(f"the profile backup has another shape: {error}") from None
    demand_own_copies(backup)
    return backup


def demand_own_copies(backup: ProfileBackup) -> None:
    """Raise OperatorError unless the facts of each partition equal those in the header of its copy.

    A restore announces the facts, and restores the copy.  The system opens a copy only with the header that
    it has sealed.  So the system restores what was announced, or refuses.
    """
    # A partition must have one row only.  With two, the restore could announce the loss of one row and carry
    # out the other.
    if len({each.uuid for each in backup.partitions}) < len(backup.partitions):
        raise _refused("the profile backup has a partition twice")
    for each in backup.partitions:
        if each.copy is not None:
            _demand_own_copy(each, each.copy, backup.system.system_id)


def _demand_own_copy(saved: SavedPartition, copy: bytes, system_id: str) -> None:
    try:
        header = read_copy(copy)
    except CopyError as error:
        raise _refused(f"the copy of {saved.name} in the profile backup: {error.message}") from None
    found = (str(header.uuid), *header.age, header.time, header.tsk_id.hex(), header.system_id.hex())
    if found != (saved.uuid, *saved.rank, saved.time, saved.key_id, system_id):
        raise _refused(
            f"the copy of {saved.name} in the profile backup has another header than its facts say"
        )


def profiles_as_xml(backup: ProfileBackup) -> bytes:
    """Return the facts of a profile backup as XML, without copies and keys."""
    root = ElementTree.Element("profileData", level=str(PROFILE_LEVEL), taken=str(backup.taken))
    _add(root, "managedSystem", msgspec.structs.asdict(backup.system).items())
    partitions = ElementTree.SubElement(root, "partitions")
    for each in backup.partitions:
        facts = msgspec.structs.asdict(each)
        attributes = facts.pop("attributes")
        del facts["copy"]
        element = _add(partitions, "partition", facts.items())
        _add(element, "attributes", attributes.items())
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _add(parent: ElementTree.Element, tag: str, facts: Iterable[tuple[str, Any]]) -> ElementTree.Element:
    texts = {name: str(int(value) if isinstance(value, bool) else value) for name, value in facts}
    return ElementTree.SubElement(parent, tag, texts)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _refused(message: str) -> OperatorError:
    return OperatorError(rules.HMC_PROFILE_FILE, message)
