"""Copies and views that are made up for tests of the console."""

from __future__ import annotations

from typing import Any

from hcall_abi.control_views import KeystoreView, PartitionView, SystemView
from hcall_server.console.copies import CopyFacts
from hcall_server.platform.trusted_key import TrustedSystemKey
from tests.sealing import second_copies

A, B, C = (f"{letter * 8}-0000-4000-8000-000000000000" for letter in "abc")
UUIDS = {"a": A, "b": B, "c": C}
SYSTEM_ID = "5" * 32
SECRET = bytes(range(32))
KEY_ID = TrustedSystemKey(SECRET).id.hex()
"""The id of the key of each `blob`."""


def blob(uuid: str, generation: int, restores: int = 0, *, kbytes: int = 64, time: int = 1000) -> bytes:
    """Return a sealed copy with a valid header and without a store."""
    facts = {"system_id": SYSTEM_ID, "uuid": uuid.replace("-", ""), "generation": generation, "time": time}
    further = {"kbytes": kbytes, "firmware": "FW1110", "restores": restores}
    return second_copies.copy(SECRET, facts | further, bytes(32), b"copy of a store")


def copy_of(uuid: str, generation: int, restores: int = 0, *, key: str = "k1", number: int = 0) -> CopyFacts:
    """Return a copy of the store with this UUID."""
    return CopyFacts(
        number, uuid, uuid[0], restores, generation, 1000 + generation, 64, "FW1110", key, 2000.0
    )


def partition(
    name: str, /, *, generation: int = 1, restores: int = 0, objects: int = 0, **facts: Any
) -> PartitionView:
    """Return a partition that is off."""
    keystore = KeystoreView(
        total_bytes=65536, used_bytes=0, objects=objects, generation=generation, flushed=generation
    )
    whole: dict[str, Any] = {
        "number": ord(name[0]) - ord("a") + 1,
        "name": name,
        "uuid": UUIDS[name[0]],
        "power": "off",
        "ipl_count": 1,
        "restores": restores,
        "generation": generation,
        "auto_start": True,
        "curr_secure_boot": "off",
        "keystore": keystore,
        "copy": None,
        "refused": None,
        "faults": [],
        "keystore_kbytes": 64,
        "keystore_signed_updates": 0,
        "keystore_signed_updates_without_verification": 0,
        "linux_dynamic_key_secure_boot": 0,
        "secure_boot": "off",
        "simplified_remote_restart_capable": 1,
    }
    return PartitionView(**(whole | facts))


def system(*partitions: PartitionView, **facts: Any) -> SystemView:
    """Return a system in the state Operating."""
    whole: dict[str, Any] = {
        "name": "lab",
        "type_model_serial": "9105-22A*0123ABC",
        "state": "Operating",
        "console": None,
        "restored": [],
        "lost": [],
        "system_id": SYSTEM_ID,
        "firmware_level": "FW1110",
        "total_kbytes": 16384,
        "assigned_kbytes": 0,
        "partitions": list(partitions),
    }
    return SystemView(**(whole | facts))
