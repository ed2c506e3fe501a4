"""SIGNED_UPDATE: the keystore's look at what is there, the decision about the update, one change.

The decision itself is `hcall_server.secvar`; that room knows neither objects nor passwords.
"""

from __future__ import annotations

from hcall_abi.consumers import Consumer
from hcall_abi.levels import FirmwareLevel
from hcall_abi.statuses import Status
from hcall_abi.update_rules import UpdateRule
from hcall_abi.variables import FLAG_APPEND, KEK, PK
from hcall_server.hcalls.outcome import SUCCESS, Outcome
from hcall_server.keystore.refusal import Refusal
from hcall_server.keystore.signed import LatchUse
from hcall_server.keystore.store import Keystore
from hcall_server.secvar.names import is_platform_key, name_of, sibling
from hcall_server.secvar.update import Decision, DeleteEverything, Refused, Replace, UpdateRequest, decide

_BLAMED = {Status.H_P2: "label", Status.H_P5: "flags", Status.H_P6: "data"}


def signed_update(
    keystore: Keystore,
    level: FirmwareLevel,
    consumer: Consumer,
    password: bytes,
    label: bytes,
    policy: int,
    flags: int,
    payload: bytes,
    token: int,
) -> Outcome:
    """Change a secure-boot variable as its update says, or refuse it by the rule that it breaks.

    A success changes everything that it changes at once, the latch of the unverified PK too; a
    refusal changes nothing.
    """
    stored = keystore.begin_signed_update(consumer, password, label, policy)
    unverified = keystore.latch.armed and is_platform_key(consumer, label)
    request = UpdateRequest(
        name=name_of(label),
        payload=payload,
        append=bool(flags & FLAG_APPEND),
        stored=stored,
        platform_key=keystore.signed_data(consumer, sibling(label, PK)),
        exchange_keys=keystore.signed_data(consumer, sibling(label, KEK)),
        unverified=unverified,
        largest=keystore.limits.max_object_size,
    )
    decision = decide(request)
    if isinstance(decision, Refused):
        raise refusal(decision.rule, decision.message)
    if isinstance(decision, DeleteEverything):
        keystore.remove_signed(consumer)
    else:
        data = decision.data if isinstance(decision, Replace) else None
        keystore.update_signed(consumer, label, policy, data)
    if unverified:
        keystore.latch.disarm(_use(decision))
    keystore.continuations.retire(token)
    return SUCCESS, (0,), ()


def _use(decision: Decision) -> LatchUse:
    if isinstance(decision, DeleteEverything):
        return LatchUse.ALL_DELETED
    return LatchUse.PK_TAKEN if isinstance(decision, Replace) else LatchUse.PK_DELETED


def refusal(rule: UpdateRule, message: str) -> Refusal:
    """Return the refusal of an update that breaks a rule."""
    return Refusal(
        rule.status,
        message,
        rule=rule.sentence,
        section="spec/hcalls/signed_update.md#rules",
        argument=_BLAMED.get(rule.status),
    )
