"""What each h-call does once its arguments have passed: a keystore operation and its results.

A handler gets the keystore, its firmware level and the values that the argument checks gave
(`hcall_server.hcalls.arguments.checkers`).  It returns the status, the values of r4, r5, ... and
what is to be written to guest memory.  To add an h-call, add its handler to `HANDLERS`; its
arguments are already in `hcall_abi.calls`.
"""

from __future__ import annotations

from collections.abc import Mapping

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.frames import Write, new_tuple
from hcall_abi.levels import FirmwareLevel
from hcall_abi.statuses import Status
from hcall_abi.structures import (
    FLAG_REVOKING,
    FLAG_WRAPPING,
    Config,
    build_config,
    build_label_entry,
)
from hcall_server.hcalls.keys import gen_key, revoke_object, unrevoke_object, unwrap_object, wrap_object
from hcall_server.hcalls.outcome import DONE, SUCCESS, Handler, Outcome
from hcall_server.hcalls.rules import CONSUMERS
from hcall_server.hcalls.signed import signed_update
from hcall_server.keystore.refusal import Refusal
from hcall_server.keystore.store import Keystore


def config_of(keystore: Keystore, level: FirmwareLevel) -> Config:
    """Return what GET_CONFIG tells: limits, space, and only features whose calls are served."""
    limits, served = keystore.limits, served_calls(level)
    flags = (FLAG_WRAPPING if Opcode.WRAP_OBJECT in served else 0) | (
        FLAG_REVOKING if Opcode.REVOKE_OBJECT in served else 0
    )
    return Config(
        version=level.config_version,
        flags=flags,
        object_overhead=limits.object_overhead,
        max_password_size=limits.max_password_size,
        max_label_size=limits.max_label_size,
        max_object_size=limits.max_object_size,
        total_size=limits.total_size,
        used_space=keystore.used,
        supported_policies=limits.supported_policies,
        max_large_object_size=level.max_large_object_size,
        signed_update_algorithms=level.signed_update_algorithms if Opcode.SIGNED_UPDATE in served else 0,
        wrapping_features=level.wrapping_features if Opcode.WRAP_OBJECT in served else 0,
    )


def _get_config(keystore: Keystore, level: FirmwareLevel, address: int, length: int) -> Outcome:
    block = build_config(config_of(keystore, level))
    return SUCCESS, (), (Write(address, block[:length]),)


def _set_password(
    keystore: Keystore, level: FirmwareLevel, number: int, reserved: int, password: bytes
) -> Outcome:
    keystore.passwords.set(CONSUMERS[number], password)
    return DONE


def _gen_password(
    keystore: Keystore, level: FirmwareLevel, number: int, reserved: int, address: int, length: int
) -> Outcome:
    password = keystore.generate_password(CONSUMERS[number], length)
    return SUCCESS, (), (Write(address, password),)


def _entry_size(label: bytes) -> int:
    return len(build_label_entry(label))


def _get_objectlabels(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    token: int,
    address: int,
    length: int,
) -> Outcome:
    labels, more = keystore.labels(consumer, password, token, length, _entry_size)
    listed = b"".join(build_label_entry(label) for label in labels)
    status = Status.H_CONTINUE if more else Status.H_SUCCESS
    writes = (Write(address, listed),) if listed else ()
    return int(status), (len(labels), more), writes


def _write_object(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    label: bytes,
    policy: int,
    data: bytes,
) -> Outcome:
    keystore.write(consumer, password, label, policy, data)
    return DONE


def _read_object(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    label: bytes,
    address: int,
    length: int,
) -> Outcome:
    held = keystore.read(consumer, password, label)
    data = held.data
    if len(data) > length:
        raise Refusal(
            Status.H_TOO_BIG,
            f"the object has {len(data)} bytes and the buffer {length}",
            rule="the whole object fits into the buffer",
            section="spec/hcalls/read_object.md#checks",
            argument="data_length",
            outputs=(len(data), held.policy),
        )
    return SUCCESS, (len(data), held.policy), (new_tuple(Write, (address, data)),)


def _remove_object(
    keystore: Keystore, level: FirmwareLevel, consumer: Consumer, password: bytes, label: bytes
) -> Outcome:
    keystore.remove(consumer, password, label)
    return DONE


def _confirm_object_flushed(
    keystore: Keystore, level: FirmwareLevel, consumer: Consumer, password: bytes, label: bytes
) -> Outcome:
    return SUCCESS, (int(keystore.confirm(consumer, password, label)),), ()


HANDLERS: Mapping[Opcode, Handler] = {
    Opcode.GET_CONFIG: _get_config,
    Opcode.SET_PASSWORD: _set_password,
    Opcode.GEN_PASSWORD: _gen_password,
    Opcode.GET_OBJECTLABELS: _get_objectlabels,
    Opcode.WRITE_OBJECT: _write_object,
    Opcode.READ_OBJECT: _read_object,
    Opcode.REMOVE_OBJECT: _remove_object,
    Opcode.CONFIRM_OBJECT_FLUSHED: _confirm_object_flushed,
    Opcode.GEN_KEY: gen_key,
    Opcode.WRAP_OBJECT: wrap_object,
    Opcode.UNWRAP_OBJECT: unwrap_object,
    Opcode.REVOKE_OBJECT: revoke_object,
    Opcode.UNREVOKE_OBJECT: unrevoke_object,
    Opcode.SIGNED_UPDATE: signed_update,
}
"""What answers each h-call, where the firmware level has it."""


def served_calls(level: FirmwareLevel) -> frozenset[Opcode]:
    """Return the calls that a level has; all others: H_FUNCTION."""
    return level.calls & HANDLERS.keys()
