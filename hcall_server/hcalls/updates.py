"""SIGNED_UPDATE: read the present objects, decide about the update, make one change.

`hcall_server.secvar` makes the decision; it knows neither objects nor passwords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.levels import FirmwareLevel
from hcall_abi.rules.rule import Rule
from hcall_abi.scarcity import scarcity_of
from hcall_abi.variables import FLAG_APPEND, KEK, PK
from hcall_server.hcalls.answers import SUCCESS, Outcome
from hcall_server.hcalls.refusals import Refusal, bad_argument
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.signed import Doubt, LatchUse
from hcall_server.keystore.store import Keystore
from hcall_server.secvar.names import is_platform_key, name_of, sibling

if TYPE_CHECKING:
    from hcall_server.secvar.update import Decision

_SPEC = CALLS[Opcode.SIGNED_UPDATE]


class SignedUpdate(NamedTuple):
    """The arguments of SIGNED_UPDATE."""

    authorization: Credentials
    label: bytes
    policy: int
    flags: int
    data: bytes
    token: int

    def __repr__(self) -> str:
        return f"SignedUpdate({self.authorization}, {self.label!r}, {len(self.data)} bytes)"


def signed_update(keystore: Keystore, level: FirmwareLevel, args: SignedUpdate) -> Outcome:
    """Change a secure-boot variable as the update requests.  Raise the refusal if a rule is broken.

    All changes are made at once.  An update of PK without verification also ends the latch.  A refusal
    changes nothing.
    """
    consumer = args.authorization.consumer
    # The password is checked before the decision, which tries RSA keys.  A caller without the password must
    # not cost that time.
    stored = keystore.signed.begin(args.authorization, args.label, args.policy)
    unverified = keystore.latch.armed and is_platform_key(consumer, args.label)
    use = _carried_out(_decided(keystore, args, stored, unverified=unverified), keystore, args)
    # The latch ends in the same call as the change.  So object and latch are in one snapshot, and in one
    # commit.  A refused update raises before this line, and leaves the latch armed.
    if unverified:
        keystore.latch.disarm(use)
    else:
        _note_doubts(keystore, args)
    keystore.continuations.retire(args.token)
    return Outcome(SUCCESS, _SPEC.results(token=0))


def _decided(keystore: Keystore, args: SignedUpdate, stored: bytes | None, *, unverified: bool) -> Decision:
    """Decide about an update; ScarcityError if its modules can't be loaded for lack of descriptors."""
    consumer, label = args.authorization.consumer, args.label
    try:
        # The first update loads these modules and the library for certificates.  A start without them is
        # faster.
        from hcall_server.secvar.update import UpdateRequest, decide

        return decide(
            UpdateRequest(
                name=name_of(label),
                payload=args.data,
                append=bool(args.flags & FLAG_APPEND),
                stored=stored,
                platform_key=keystore.signed.data(consumer, sibling(label, PK)),
                exchange_keys=keystore.signed.data(consumer, sibling(label, KEK)),
                unverified=unverified,
                largest=keystore.contents.limits.max_object_size,
                strict=keystore.signed.strict,
            )
        )
    except OSError as error:
        raise scarcity_of(error, "an update loads its libraries") or error from None


def _carried_out(decision: Decision, keystore: Keystore, args: SignedUpdate) -> LatchUse:
    """Make the change that was decided, or raise its refusal; return how it uses the latch."""
    from hcall_server.secvar.update import DeleteEverything, Refused, Replace

    if isinstance(decision, Refused):
        raise _refusal(decision.rule, decision.message)
    if isinstance(decision, DeleteEverything):
        keystore.signed.remove_all(args.authorization.consumer)
        return LatchUse.ALL_DELETED
    data = decision.data if isinstance(decision, Replace) else None
    keystore.signed.update(args.authorization.consumer, args.label, args.policy, data)
    return LatchUse.PK_TAKEN if isinstance(decision, Replace) else LatchUse.PK_DELETED


def _note_doubts(keystore: Keystore, args: SignedUpdate) -> None:
    """Store the reasons why real firmware may refuse this verified update.  The log takes them later."""
    # The PKCS#7 is read a second time.  That costs less than a trial of a key, and `decide` can return one
    # result.
    from hcall_server.secvar.update import doubts_of

    if reasons := doubts_of(args.data):
        keystore.signed.doubts.append(Doubt(args.label, reasons))


def _refusal(rule: Rule, message: str) -> Refusal:
    """Return the refusal of an update that breaks a rule."""
    if rule.argument:
        return bad_argument(_SPEC.arg(rule.argument), rule, message)
    return Refusal(rule, message)
