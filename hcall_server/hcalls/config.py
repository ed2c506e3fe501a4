"""GET_CONFIG: limits, space and features of the partition's keystore."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.frames import Write
from hcall_abi.levels import FirmwareLevel
from hcall_abi.structures import FLAG_REVOKING, FLAG_WRAPPING, Config, build_config
from hcall_server.hcalls.answers import SUCCESS, Outcome
from hcall_server.hcalls.memory import Place
from hcall_server.keystore.store import Keystore


class GetConfig(NamedTuple):
    """The arguments of GET_CONFIG."""

    config: Place


def config_of(keystore: Keystore, level: FirmwareLevel) -> Config:
    """Return the content of GET_CONFIG: limits, space, and only features whose calls the level has."""
    limits, calls = keystore.contents.limits, level.calls
    # A feature needs its call.  The console may have taken the call away; then the feature is left out too
    # (choice C-O).
    flags = (FLAG_WRAPPING if Opcode.WRAP_OBJECT in calls else 0) | (
        FLAG_REVOKING if Opcode.REVOKE_OBJECT in calls else 0
    )
    return Config(
        version=level.config_version,
        flags=flags,
        object_overhead=limits.object_overhead,
        max_password_size=limits.max_password_size,
        max_label_size=limits.max_label_size,
        max_object_size=limits.max_object_size,
        total_size=limits.total_size,
        used_space=keystore.contents.used,
        supported_policies=limits.supported_policies,
        max_large_object_size=level.max_large_object_size,
        signed_update_algorithms=level.signed_update_algorithms if Opcode.SIGNED_UPDATE in calls else 0,
        wrapping_features=level.wrapping_features if Opcode.WRAP_OBJECT in calls else 0,
    )


def get_config(keystore: Keystore, level: FirmwareLevel, args: GetConfig) -> Outcome:
    """Write the config block, cut to the length of the buffer."""
    # Versions of the Linux driver pass buffers of 32, 512 and 520 bytes.  Each gets as much as fits (choice
    # C-7).
    address, length = args.config
    return Outcome(SUCCESS, (), (Write(address, build_config(config_of(keystore, level))[:length]),))
