"""Handlers of the h-calls about keys: GEN_KEY, WRAP, UNWRAP, REVOKE and UNREVOKE.

As in `hcall_server.hcalls.handlers`, each gets the keystore, the firmware level and the values of
the argument checks.  A wrapping is done at once, so no call here is ever busy of its own accord; a
token that comes with one was given out with a busy answer on demand.
"""

from __future__ import annotations

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.frames import Write
from hcall_abi.levels import FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_server.hcalls.outcome import SUCCESS, Outcome
from hcall_server.keystore.refusal import Refusal
from hcall_server.keystore.store import Keystore
from hcall_server.wrapping import (
    SALT_SIZE,
    Header,
    UnknownFormat,
    WrappedObjectError,
    open_wrapped,
    read_header,
    wrap,
)

_WRAPPING = int(Policy.WRAPPINGKEY)
_POLICY_SHIFT = 32


def gen_key(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    label: bytes,
    policy: int,
    address: int,
    length: int,
) -> Outcome:
    """Make a random key; only a plain one is written to guest memory (R-71)."""
    key = keystore.generate_key(consumer, password, label, policy, length)
    return SUCCESS, (), () if policy & _WRAPPING else (Write(address, key),)


def wrap_object(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    label: bytes,
    flags: int,
    data: bytes,
    address: int,
    length: int,
    token: int,
) -> Outcome:
    """Encrypt the caller's bytes under a wrapping key (R-71)."""
    key = keystore.wrapping_key(consumer, password, label)
    wrapped = wrap(key.secret, key.key_id, flags, keystore.random(SALT_SIZE), data)
    keystore.continuations.retire(token)
    return SUCCESS, (0, len(wrapped)), (Write(address, wrapped),)


def unwrap_object(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    flags: int,
    wrapped: bytes,
    address: int,
    length: int,
    token: int,
) -> Outcome:
    """Decrypt a wrapped object, where its policy and that of its key are met (R-71)."""
    keystore.demand_password(Opcode.UNWRAP_OBJECT, consumer, password)
    header = _header(wrapped)
    key = keystore.unwrapping_key(consumer, password, header.key_id)
    data = _opened(key.secret, wrapped)
    keystore.demand_access(consumer, password, header.flags >> _POLICY_SHIFT)
    keystore.continuations.retire(token)
    return SUCCESS, (0, len(data)), (Write(address, data),)


def revoke_object(
    keystore: Keystore, level: FirmwareLevel, consumer: Consumer, password: bytes, label: bytes, flags: int
) -> Outcome:
    """Take a wrapping key out of use (R-72)."""
    return SUCCESS, (keystore.set_revoked(consumer, password, label, revoked=True),), ()


def unrevoke_object(
    keystore: Keystore, level: FirmwareLevel, consumer: Consumer, password: bytes, label: bytes, flags: int
) -> Outcome:
    """Put a revoked wrapping key into use again (R-72)."""
    return SUCCESS, (keystore.set_revoked(consumer, password, label, revoked=False),), ()


def _header(wrapped: bytes) -> Header:
    try:
        return read_header(wrapped)
    except WrappedObjectError as error:
        raise _refusal(error) from None


def _opened(secret: bytes, wrapped: bytes) -> bytes:
    try:
        return open_wrapped(secret, wrapped)
    except WrappedObjectError as error:
        raise _refusal(error) from None


def _refusal(error: WrappedObjectError) -> Refusal:
    unknown = isinstance(error, UnknownFormat)
    status = Status.H_UNSUPPORTED if unknown else Status.H_BAD_DATA
    return Refusal(status, error.message, rule=error.rule, section=error.section, argument="input")
