"""GEN_KEY, REVOKE and UNREVOKE: keys that the hypervisor makes (R-16, R-71, R-72)."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Write
from hcall_abi.levels import FirmwareLevel
from hcall_abi.policies import Policy
from hcall_server.hcalls.answers import DONE, SUCCESS, Outcome
from hcall_server.hcalls.memory import Place
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.store import Keystore

_WRAPPING = int(Policy.WRAPPINGKEY)
_REVOKE, _UNREVOKE = CALLS[Opcode.REVOKE_OBJECT], CALLS[Opcode.UNREVOKE_OBJECT]


class GenKey(NamedTuple):
    """The arguments of GEN_KEY."""

    authorization: Credentials
    label: bytes
    policy: int
    key: Place


class RevokeObject(NamedTuple):
    """The arguments of REVOKE_OBJECT."""

    authorization: Credentials
    label: bytes
    flags: int


class UnrevokeObject(NamedTuple):
    """The arguments of UNREVOKE_OBJECT."""

    authorization: Credentials
    label: bytes
    flags: int


def gen_key(keystore: Keystore, level: FirmwareLevel, args: GenKey) -> Outcome:
    """Make a random key; only a plain key is written to the guest (R-71)."""
    address, length = args.key
    key = keystore.objects.generate(args.authorization, args.label, args.policy, length)
    return DONE if args.policy & _WRAPPING else Outcome(SUCCESS, (), (Write(address, key),))


def revoke_object(keystore: Keystore, level: FirmwareLevel, args: RevokeObject) -> Outcome:
    """Revoke a wrapping key (R-72): WRAP and UNWRAP refuse it.  Return its new policy."""
    policy = keystore.keys.set_revoked(args.authorization, args.label, revoked=True)
    return Outcome(SUCCESS, _REVOKE.results(policy=policy))


def unrevoke_object(keystore: Keystore, level: FirmwareLevel, args: UnrevokeObject) -> Outcome:
    """Put a revoked wrapping key into use again (R-72); return its new policy."""
    policy = keystore.keys.set_revoked(args.authorization, args.label, revoked=False)
    return Outcome(SUCCESS, _UNREVOKE.results(policy=policy))
